package ingress_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

func TestPortInUseNamesTheFlag(t *testing.T) {
	first, err := ingress.Listen(t.Context(), "127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := first.Addr().String()
	_, err = ingress.Listen(t.Context(), address, "--listen")
	want := "listen on " + address + ": another process uses this address; stop it or choose another with --listen"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestAddressThatIsNoneNamesTheFlagToo(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "127.0.0.1:99999", "256.0.0.1:80:80", "192.0.2.1:0"} {
		ln, err := ingress.Listen(t.Context(), address, "--api-listen")
		if err == nil {
			_ = ln.Close()
			t.Errorf("%s: no error", address)
			continue
		}
		if s := err.Error(); !strings.Contains(s, "--api-listen") || strings.Count(s, address) != 1 || strings.Contains(s, "\n") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// broken is a listener whose network is gone.
type broken struct{ net.Listener }

func (broken) Accept() (net.Conn, error) { return nil, errors.New("network is down") }

func TestServerThatCannotServeSaysSo(t *testing.T) {
	ln, err := ingress.Listen(t.Context(), "127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	var s stored
	server := ingress.NewServer(ingress.New(ingress.Options{Routes: only(&s)}), ingress.ServerOptions{})
	err = server.Run(t.Context(), broken{ln})
	if err == nil || err.Error() != "serve ingress on "+ln.Addr().String()+": network is down" {
		t.Error(err)
	}
}

func TestAddressIsFreeOnceTheServerHasStopped(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{})
	send(t, "POST", d.url, nil, binary()...)
	if err := d.stop(); err != nil {
		t.Fatal(err)
	}
	ln, err := ingress.Listen(t.Context(), d.addr, "--listen")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
}

func TestPanicOfAChannelEndsItsConnectionAndIsLogged(t *testing.T) {
	d := open(t, ingress.Options{Routes: only(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
		panic("position 7 was given out twice")
	}))}, ingress.ServerOptions{})
	if answer := raw(t, d.addr, "POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Content-Length: 5\r\n\r\nhello"); answer != nil {
		t.Errorf("answered with %d", answer.StatusCode)
	}
	if got := send(t, "POST", "http://"+d.addr+"/default/other", nil, binary()...); got.StatusCode != 404 {
		t.Errorf("the next request: %d", got.StatusCode)
	}
	// Whoever mends it wants to know where.
	if log := d.log.String(); !strings.Contains(log, "position 7 was given out twice") || !strings.Contains(log, "server_test.go") || strings.Count(log, "\n") != 1 {
		t.Errorf("log: %q", log)
	}
	d.wantMetric(t, "penstock_ingress_body_bytes 0")
}

func TestEventsReachTheMemoryChannel(t *testing.T) {
	log := memory.New(memory.Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	// A bound that three events of 400 bytes cannot all be within.
	b, err := log.Broker(ctx, channel.BrokerInfo{UID: "u1", Name: "default/default", Shards: 1, MaxBytes: 3000})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetRoutes(ctx, channel.Routes{Set: []channel.Route{{Trigger: "t1", Name: "default/t1"}}}); err != nil {
		t.Fatal(err)
	}
	d := open(t, ingress.Options{Routes: func(namespace, name string) (ingress.Target, bool) {
		return ingress.Target{UID: "u1", Name: "default/default", Appender: log, Durability: "memory"}, namespace == "default" && name == "default"
	}}, ingress.ServerOptions{})

	accepted := 0
	var last reply
	for range 100 {
		last = send(t, "POST", d.url, strings.NewReader(strings.Repeat("x", 400)), binary()...)
		if last.StatusCode != http.StatusAccepted {
			break
		}
		accepted++
	}
	if accepted == 0 || last.StatusCode != 429 || last.Header.Get("Retry-After") == "" {
		t.Errorf("%d accepted, then %d with Retry-After %q: %s", accepted, last.StatusCode, last.Header.Get("Retry-After"), last.text)
	}
	records, _, err := b.Read(ctx, 0, 0, make([]channel.Record, 0, 100))
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if len(records) != accepted {
		t.Errorf("%d accepted, %d in the channel", accepted, len(records))
	}
}

// While it goes, a server takes events as before; each answer sends its sender
// elsewhere.
func TestALameDuckTakesEventsAndEndsConnections(t *testing.T) {
	var s stored
	d := open(t, ingress.Options{Routes: only(&s)}, ingress.ServerOptions{LameDuck: time.Second})
	if before := send(t, "POST", d.url, nil, binary()...); before.StatusCode != 202 || before.Close {
		t.Fatalf("before: %d, close %v", before.StatusCode, before.Close)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- d.stop() }()
	for {
		answer := send(t, "POST", d.url, nil, binary()...) // fails the test if the server is gone before it says so
		if answer.StatusCode != 202 {
			t.Fatalf("going: %d %s", answer.StatusCode, answer.text)
		}
		if answer.Close {
			break
		}
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", d.addr); err == nil {
		t.Error("it is still there")
	}
}
