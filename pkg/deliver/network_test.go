package deliver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// names is a name server that answers every question for an A record by its
// number of asking, and everything else with nothing.
func names(t *testing.T, addr func(name string, n int) netip.Addr) *net.Resolver {
	t.Helper()
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := map[string]int{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 512); ; {
			n, from, err := s.ReadFrom(b)
			if err != nil {
				return
			}
			// Header of 12 bytes, then the name in labels, then type and class.
			at, name := 12, ""
			for b[at] != 0 {
				name += string(b[at+1:at+1+int(b[at])]) + "."
				at += 1 + int(b[at])
			}
			question := b[12 : at+5]
			isA := binary.BigEndian.Uint16(b[at+1:]) == 1
			reply := append([]byte{b[0], b[1], 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
			if isA && n > at {
				to := addr(strings.TrimSuffix(name, "."), asked[name]).As4()
				asked[name]++
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
				reply = append(reply, to[:]...)
			}
			s.WriteTo(reply, from)
		}
	}()
	t.Cleanup(func() { s.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", s.LocalAddr().String())
	}}
}

// TestNoSpellingOfADeniedAddressIsConnectedTo: what a URL says does not matter,
// only what it resolves to. The name server reads the old number forms as the C
// library does.
func TestNoSpellingOfADeniedAddressIsConnectedTo(t *testing.T) {
	metadata := netip.MustParseAddr("169.254.169.254")
	c := New(Options{Resolver: names(t, func(string, int) netip.Addr { return metadata })})
	for _, host := range []string{
		"169.254.169.254", "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "[fe80::1]", "[fe80::1%25lo]",
		"2852039166.test", "0xa9fea9fe.test", "0251.0376.0251.0376.test", "169.254.43518.test", "metadata.test",
		"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[::]", "0.0.0.0", "224.0.0.1", "[ff02::1]", "255.255.255.255", "[fd00:ec2::254]",
	} {
		_, err := c.Send(t.Context(), &Request{Target: c.Target("http://"+host+":1/", TargetOptions{}), Event: order(t), Timeout: 5 * time.Second})
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassDenied || !strings.Contains(e.Reason(), "is denied: ") {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestANameThatChangesItsAnswerDoesNotPassTheGuard(t *testing.T) {
	subscriber := httptest.NewServer(answer(202, "", "Connection", "close"))
	defer subscriber.Close()
	_, port, _ := net.SplitHostPort(subscriber.Listener.Addr().String())
	c := New(Options{
		Guard: Guard{AllowLoopback: true},
		Resolver: names(t, func(_ string, n int) netip.Addr {
			if n%2 == 0 {
				return netip.MustParseAddr("127.0.0.1")
			}
			return netip.MustParseAddr("169.254.169.254")
		}),
	})
	defer c.Close()
	target := c.Target("http://rebind.test:"+port, TargetOptions{})
	for n := range 4 {
		_, err := c.Send(t.Context(), &Request{Target: target, Event: order(t)})
		var e *Error
		if n%2 == 0 && err != nil || n%2 == 1 && (!errors.As(err, &e) || e.Class != ClassDenied) {
			t.Errorf("attempt %d: %v", n, err)
		}
	}
}

func TestARefusedConnectionSaysSo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	_, err = c.Send(t.Context(), &Request{Target: c.Target("http://"+addr, TargetOptions{}), Event: order(t)})
	want := "deliver to http://" + addr + ": dial tcp " + addr + ": connect: connection refused"
	var e *Error
	if text(err) != want || !errors.As(err, &e) || e.Class != ClassDial {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSecureDeliveryChecksThePeer(t *testing.T) {
	var requests atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusAccepted)
	}))
	var dials atomic.Int64
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	s.Config.ErrorLog = quiet
	s.EnableHTTP2 = true // offered, and not taken
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	loop := Guard{AllowLoopback: true}
	toLoopback := names(t, func(string, int) netip.Addr { return netip.MustParseAddr("127.0.0.1") })

	send := func(c *Client, host string, e event.Event) error {
		_, err := c.Send(t.Context(), &Request{Target: c.Target("https://"+host+":"+port, TargetOptions{}), Event: e})
		return err
	}
	good := New(Options{Guard: loop, Resolver: toLoopback, TLS: &tls.Config{RootCAs: roots}})
	defer good.Close()
	var b event.Builder
	large := built(t, b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").SetData(make([]byte, 1<<20)))
	for _, e := range []event.Event{order(t), large, order(t)} {
		if err := send(good, "127.0.0.1", e); err != nil {
			t.Fatal(err)
		}
	}
	if n := dials.Load(); n != 1 {
		t.Errorf("%d connections for 3 events", n)
	}
	if err := send(good, "example.com", order(t)); err != nil { // a name in the certificate
		t.Error(err)
	}
	before := requests.Load()
	for name, err := range map[string]error{
		"wrong name":     send(good, "other.test", order(t)),
		"unknown issuer": send(New(Options{Guard: loop}), "127.0.0.1", order(t)),
	} {
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassTLS || !Retriable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if requests.Load() != before {
		t.Error("an event went to a peer that could not prove its name")
	}
}

func TestAPeerThatHangsInTheHandshakeTimesOut(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		l, err := w.Listen("slow.shop:443")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				untilClosed(c)
			}
		}()
		a, err := w.Send(t.Context(), &Request{Target: w.Target("https://slow.shop", TargetOptions{}), Event: order(t), Timeout: 9 * time.Second})
		if text(err) != "deliver to https://slow.shop: timeout after 9s" || a.Duration != 9*time.Second {
			t.Errorf("%v after %v", err, a.Duration)
		}
	})
}

// quiet is where servers report the handshakes that the tests make fail.
var quiet = log.New(io.Discard, "", 0)
