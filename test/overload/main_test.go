package overload

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/proof"
)

// penstock is the binary; set before the tests begin.
var penstock string

// undecided counts the tests that were skipped because the machine was busy.
var undecided atomic.Int64

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if _, err := cpuOf(os.Getpid()); err != nil {
		fmt.Fprintf(os.Stderr, "overload: all tests are skipped: processor time is read from /proc, as Linux has it: %v\n", err)
		return 0
	}
	dir, err := os.MkdirTemp("", "penstock-overload")
	if err == nil {
		defer os.RemoveAll(dir)
		penstock, err = broker.Build(dir, "cmd/penstock")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if n := undecided.Load(); n > 0 {
		fmt.Fprintf(os.Stderr, "overload: %d tests have not decided: the machine was busy with other work\n", n)
	}
	return code
}

// span is a duration of `make reliability`, or that of a plain `go test`.
func span(ci, plain time.Duration) time.Duration {
	if proof.Full() {
		return ci
	}
	return plain
}

// world is one broker process, the subscriber that takes everything, and the
// senders' ids so far.
type world struct {
	t *testing.T
	*broker.Broker
	subscriber *sink.Sink
	next       uint64                   // first id that nobody has sent
	accepted   map[string]*tally.Bitset // by path
}

// memoryLimit is what a broker's resident memory must stay below; it is told
// to collect garbage at half of that.
const memoryLimit = 256 << 20

// start starts a subscriber, and a broker with the configuration that yaml
// makes of the subscriber's URL.
func start(t *testing.T, yaml func(subscriber string) string) *world {
	t.Helper()
	address, taker := listen(t)
	s := serve(t, taker)
	file := filepath.Join(t.TempDir(), "objects.yaml")
	write(t, file, yaml("http://"+address))
	b := broker.Start(t, broker.Options{
		Binary: penstock, Files: []string{file}, Args: []string{"--log-level", "error"},
		Env: []string{fmt.Sprintf("GOMEMLIMIT=%d", memoryLimit/2)},
	})
	return &world{t: t, Broker: b, subscriber: s, accepted: make(map[string]*tally.Bitset)}
}

func listen(t *testing.T) (string, net.Listener) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln.Addr().String(), ln
}

// serve lets a subscriber take what comes to ln until the test ends.
func serve(t *testing.T, ln net.Listener) *sink.Sink {
	s, ended := new(sink.Sink), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// write makes a file in place of the old one, as editors do.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// offer sends events to the broker default/name and waits for all answers.
func (w *world) offer(name string, o load.Options) load.Result {
	w.t.Helper()
	return w.offering(name, o)()
}

// offering is offer that goes on beside what else happens until the func that it returns
// is called. Events are of 1 KiB from 128 connections unless o says otherwise.
func (w *world) offering(name string, o load.Options) (wait func() load.Result) {
	w.t.Helper()
	o.Address, o.Path, o.FirstID = w.Listen, "/default/"+name, w.next
	if o.Connections == 0 {
		o.Connections = 128
	}
	if o.Size == 0 {
		o.Size = 1024
	}
	w.next += uint64(max(o.Events, int(o.Rate*o.Duration.Seconds())+o.Connections))
	if w.accepted[name] == nil {
		w.accepted[name] = new(tally.Bitset)
	}
	accepted := w.accepted[name]
	var r load.Result
	var err error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r, err = load.Run(w.t.Context(), o, accepted)
	}()
	return func() load.Result {
		w.t.Helper()
		<-ended
		if err != nil {
			w.t.Fatal(err)
		}
		if r.Errors > 0 {
			w.t.Fatalf("%d requests were not answered, the first: %s", r.Errors, r.Error)
		}
		return r
	}
}

// got is what has come to the subscriber of a broker since the last reset.
func (w *world) got(name string) sink.PathStats { return w.subscriber.Stats().Paths["/"+name] }

// drained waits until all that was accepted for a broker has come, and says
// how long that took.
func (w *world) drained(name string) time.Duration {
	w.t.Helper()
	since := time.Now()
	broker.Await(w.t, "every accepted event of "+name+" at its subscriber", func() bool {
		return w.got(name).Events >= uint64(w.accepted[name].Len())
	})
	return time.Since(since)
}

// reconcile holds what was accepted against what came: the same events, each
// once. A run in which nothing crashes has no duplicates.
func (w *world) reconcile(name string) {
	w.t.Helper()
	w.drained(name)
	stats, came := w.got(name), ids(w.t, w.subscriber, "/"+name)
	accepted := w.accepted[name]
	if lost, refused := accepted.Missing(came), came.Missing(accepted); lost+refused > 0 || stats.Duplicates > 0 {
		w.t.Errorf("%s: of %d accepted events %d are lost; %d came that were refused, %d came twice",
			name, accepted.Len(), lost, refused, stats.Duplicates)
	}
	if bad := w.subscriber.Stats().Bad; bad > 0 {
		w.t.Errorf("%d requests to the subscriber were not events", bad)
	}
}

// forget begins a new count at the subscriber and here. Nothing may be under way.
func (w *world) forget() {
	w.subscriber.Reset()
	clear(w.accepted)
}

func ids(t *testing.T, s *sink.Sink, path string) *tally.Bitset {
	t.Helper()
	rec, set := httptest.NewRecorder(), new(tally.Bitset)
	s.Control().ServeHTTP(rec, httptest.NewRequest("GET", "/ids?path="+path, nil))
	if _, err := set.ReadFrom(rec.Body); err != nil {
		t.Fatal(err)
	}
	return set
}
