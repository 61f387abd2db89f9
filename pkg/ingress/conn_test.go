package ingress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/race"
)

// looped is a connection without a network: each send brings the request once
// and returns when it has been answered.
type looped struct {
	net.Conn          // nil: nothing else is called
	request           string
	rest              string // of it, yet to be read
	next, end, closed chan struct{}
	answer            []byte
}

func newLooped(request string) *looped {
	return &looped{request: request, next: make(chan struct{}), end: make(chan struct{}), closed: make(chan struct{})}
}

func (l *looped) send() {
	l.next <- struct{}{}
	<-l.end
}

func (l *looped) Read(p []byte) (int, error) {
	if l.rest == "" {
		select {
		case <-l.next:
			l.rest = l.request
		case <-l.closed:
			return 0, io.EOF
		}
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *looped) Write(p []byte) (int, error) {
	l.answer = append(l.answer[:0], p...)
	l.end <- struct{}{}
	return len(p), nil
}

func (l *looped) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *looped) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
func (l *looped) RemoteAddr() net.Addr             { return l.LocalAddr() }
func (l *looped) SetDeadline(time.Time) error      { return nil }
func (l *looped) SetReadDeadline(time.Time) error  { return nil }
func (l *looped) SetWriteDeadline(time.Time) error { return nil }

// oneKiB is an event of the size that the benchmarks send.
var oneKiB = "POST /default/default HTTP/1.1\r\nHost: broker:8080\r\nUser-Agent: bench\r\nContent-Type: application/json\r\n" +
	"Ce-Specversion: 1.0\r\nCe-Type: test.happened\r\nCe-Source: /test\r\nCe-Id: 0000000000000001\r\nCe-Time: 2026-01-02T03:04:05Z\r\n" +
	"Content-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024)

type takes struct{ stored []channel.Stored }

func (a takes) Append(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
	return a.stored, nil
}

// taking is a Handler of one broker that stores nothing, within a rate; 0 is none.
func taking(rate float64) *Handler {
	target := Target{UID: "uid", Name: "default/default", Appender: takes{make([]channel.Stored, 1)}}
	if rate > 0 {
		target.Limit = Limits{}.Next(map[channel.UID]float64{"uid": rate})["uid"]
	}
	return New(Options{EventLink: "http://127.0.0.1:8088", Routes: func(string, string) (Target, bool) { return target, true }})
}

// serving serves one connection with our own server.
func serving(t testing.TB, h *Handler, l *looped) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		newConn(NewServer(h, ServerOptions{}), l).serve(t.Context())
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
}

func TestAnEventIsAcceptedInOneAllocationAndRefusedInNone(t *testing.T) {
	for _, c := range []struct {
		name   string
		rate   float64
		status string
		most   float64
	}{
		{"accepted", 0, "202 Accepted", 1}, // the event as it is stored
		{"over the rate", 1e-9, "429 Too Many Requests", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLooped(oneKiB)
			serving(t, taking(c.rate), l)
			l.send()
			l.send()
			if n := allocations(l.send); n > c.most && !race.Enabled {
				t.Errorf("%v allocations, want at most %v", n, c.most)
			}
			if !strings.HasPrefix(string(l.answer), "HTTP/1.1 "+c.status+"\r\n") {
				t.Errorf("answer %q", l.answer)
			}
		})
	}
}

// allocations leaves out what happens once a second, and a garbage collection
// that empties pools.
func allocations(f func()) float64 {
	least := testing.AllocsPerRun(200, f)
	for range 4 {
		least = min(least, testing.AllocsPerRun(200, f))
	}
	return least
}

// BenchmarkFront is what a request costs beside the system's part, of the
// Handler behind each server that there is. (ADR-17)
func BenchmarkFront(b *testing.B) {
	run := func(b *testing.B, l *looped) {
		l.send()
		if !strings.HasPrefix(string(l.answer), "HTTP/1.1 202 ") {
			b.Fatalf("answer %q", l.answer)
		}
		b.ReportAllocs()
		for b.Loop() {
			l.send()
		}
	}
	b.Run("own", func(b *testing.B) {
		l := newLooped(oneKiB)
		serving(b, taking(0), l)
		run(b, l)
	})
	b.Run("fasthttp", func(b *testing.B) {
		l := newLooped(oneKiB)
		h := taking(0)
		s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(c *fasthttp.RequestCtx) { serveFast(h, c) }}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.ServeConn(l)
		}()
		run(b, l)
		_ = l.Close()
		<-ended
	})
	b.Run("net/http", func(b *testing.B) {
		l := newLooped(oneKiB)
		s := &http.Server{Handler: taking(0)}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = s.Serve(&single{conn: l, closed: make(chan struct{})})
		}()
		run(b, l)
		_ = s.Close()
		<-ended
	})
}

// serveFast is our Handler behind fasthttp.
func serveFast(h *Handler, c *fasthttp.RequestCtx) {
	f := h.fronts.Get().(*front)
	q, a := &f.request, &f.reply
	body := c.Request.Body()
	q.method, q.path, q.length, q.body = asString(c.Method()), asString(c.URI().PathOriginal()), int64(len(body)), held(body)
	for name, value := range c.Request.Header.All() {
		lower(name)
		q.fields = append(q.fields, event.Field{Name: asString(name), Value: asString(value)})
	}
	h.serve(context.Background(), q, a)
	c.SetStatusCode(a.code)
	for _, field := range a.fields {
		c.Response.Header.Add(field.Name, field.Value)
	}
	f.reset()
	h.fronts.Put(f)
}

type held []byte

func (h held) Whole() ([]byte, bool)   { return h, true }
func (held) Read([]byte) (int, error)  { return 0, fmt.Errorf("all of it was here") }
func (held) Extend(_, _ time.Duration) {}

// single is a listener of one connection.
type single struct {
	conn   net.Conn
	given  bool
	closed chan struct{}
}

func (s *single) Accept() (net.Conn, error) {
	if s.given {
		<-s.closed
		return nil, net.ErrClosed
	}
	s.given = true
	return s.conn, nil
}

func (s *single) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}
func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }
