package ingress_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// appenderFunc is a channel.
type appenderFunc func(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error)

func (f appenderFunc) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error) {
	return f(ctx, broker, events)
}

// stored is a channel that takes everything and remembers it.
type stored struct {
	mu     sync.Mutex
	events []event.Event
}

func (s *stored) Append(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, events...)
	return make([]channel.Stored, len(events)), nil
}

func (s *stored) all() []event.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]event.Event(nil), s.events...)
}

// one is the only stored event.
func (s *stored) one(t *testing.T) event.Event {
	t.Helper()
	events := s.all()
	if len(events) != 1 {
		t.Fatalf("%d events stored, want 1", len(events))
	}
	return events[0]
}

// brokers are routes by namespace/name.
type brokers map[string]ingress.Target

func (b brokers) find(namespace, name string) (ingress.Target, bool) {
	t, ok := b[namespace+"/"+name]
	t.UID, t.Name = channel.UID("uid of "+namespace+"/"+name), namespace+"/"+name
	return t, ok
}

// only are routes to one broker, default/default.
func only(a channel.Appender) ingress.Routes {
	return brokers{"default/default": {Appender: a}}.find
}

// door is a running ingress on a loopback port.
type door struct {
	addr string
	url  string // of default/default
	reg  *prometheus.Registry
	log  *lockedBuffer
	stop func() error // ends it and returns what Run returned

	handler *ingress.Handler
}

// open starts one. Metrics and Logger are the door's own.
func open(t testing.TB, o ingress.Options, so ingress.ServerOptions) *door {
	t.Helper()
	d := &door{reg: prometheus.NewRegistry(), log: &lockedBuffer{}}
	handler, err := telemetry.NewLogHandler(d.log, "json", slog.LevelInfo)
	if err != nil {
		t.Fatal(err)
	}
	o.Metrics, o.Logger = telemetry.New(d.reg), slog.New(handler)
	so.Metrics, so.Logger = o.Metrics, o.Logger
	ln, err := ingress.Listen(t.Context(), "127.0.0.1:0", "--listen")
	if err != nil {
		t.Fatal(err)
	}
	d.addr, d.url = ln.Addr().String(), "http://"+ln.Addr().String()+"/default/default"
	d.handler = ingress.New(o)
	s := ingress.NewServer(d.handler, so)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln) }()
	var once sync.Once
	var result error
	d.stop = func() error {
		once.Do(func() {
			cancel()
			result = <-ended
		})
		return result
	}
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		_ = d.stop()
	})
	return d
}

// metrics is what Prometheus would read.
func (d *door) metrics() string {
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(d.reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func (d *door) wantMetric(t *testing.T, line string) {
	t.Helper()
	if !strings.Contains("\n"+d.metrics(), "\n"+line+"\n") {
		t.Errorf("no metric %q", line)
	}
}

// reply is an answer with its body read.
type reply struct {
	*http.Response
	text string
}

// send sends a request; headers are "Name: value".
func send(t testing.TB, method, url string, body io.Reader, headers ...string) reply {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	return do(t, r)
}

func do(t testing.TB, r *http.Request) reply {
	t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{answer, string(text)}
}

// binary are the headers of a small event in binary mode.
func binary(more ...string) []string {
	return append([]string{
		"Ce-Specversion: 1.0", "Ce-Id: 1", "Ce-Source: /test", "Ce-Type: test.happened", "Content-Type: text/plain",
	}, more...)
}

// raw sends bytes as they are and returns the first answer, or nil where the
// connection ended without one.
func raw(t testing.TB, addr, request string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil
	}
	return answer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var errDisk = errors.New("write /var/lib/penstock/wal-7: input/output error")
