package deliver

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/race"
)

// sink answers 202 to whatever comes, as cheaply as can be, so that the
// benchmarks below measure the sender.
func sink(b testing.TB) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	accepted := []byte("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf, have := make([]byte, 64<<10), 0
				for {
					n, err := c.Read(buf[have:])
					if err != nil {
						return
					}
					have += n
					// Every benchmark sends one request at a time, with a body of 1 KiB.
					if at := bytes.Index(buf[:have], []byte("\r\n\r\n")); at >= 0 && have >= at+4+1024 {
						have = 0
						if _, err := c.Write(accepted); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func kilobyte(b testing.TB) event.Event {
	var builder event.Builder
	builder.Set("id", "5f4dcc3b-5aa7-65d6-1d83-27deb882cf99").Set("source", "/web/checkout").Set("specversion", "1.0").Set("type", "order.placed")
	builder.Set("time", "2026-11-22T12:00:00Z").Set("datacontenttype", "application/json").SetData(bytes.Repeat([]byte("x"), 1024))
	return built(b, &builder)
}

// canned is a connection to a peer in the same goroutine, that has answered
// whatever is written to it.
type canned struct {
	net.Conn
	answer []byte
	left   int
}

func (c *canned) Write(p []byte) (int, error) {
	c.left = len(c.answer)
	return len(p), nil
}

func (c *canned) Read(p []byte) (int, error) {
	n := copy(p, c.answer[len(c.answer)-c.left:])
	c.left -= n
	return n, nil
}

func (*canned) Close() error                { return nil }
func (*canned) SetDeadline(time.Time) error { return nil }

func toCanned(answer string) *Client {
	return New(Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		return &canned{answer: []byte(answer)}, nil
	}})
}

// BenchmarkSend is over the loopback, what a subscriber in the same pod costs.
func BenchmarkSend(b *testing.B) {
	url, e := sink(b), kilobyte(b)
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	defer c.Close()
	target := c.Target(url, TargetOptions{Namespace: "shop", Reply: true})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := &Request{Target: target, Event: e}
		for pb.Next() {
			if _, err := c.Send(b.Context(), r); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkSendInMemory is what we ourselves cost.
func BenchmarkSendInMemory(b *testing.B) {
	for _, answer := range usualAnswers {
		b.Run(answer.name, func(b *testing.B) {
			c := toCanned(answer.bytes)
			defer c.Close()
			r := &Request{Target: c.Target("http://orders.shop", TargetOptions{Namespace: "shop", Reply: true}), Event: kilobyte(b)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Send(b.Context(), r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

var usualAnswers = []struct{ name, bytes string }{
	{"202", "HTTP/1.1 202 Accepted\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Length: 0\r\n\r\n"},
	{"204", "HTTP/1.1 204 No Content\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nKeep-Alive: timeout=75\r\n\r\n"},
	{"OK", "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nOK"},
	{"chunked", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\n\r\n"},
}

// TestTheUsualExchangeDoesNotAllocate: every delivery would pay for it, and
// the collector after it.
func TestTheUsualExchangeDoesNotAllocate(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector empties pools on purpose")
	}
	live, cancel := context.WithCancel(t.Context())
	defer cancel()
	limited, cancel := context.WithTimeout(live, time.Hour)
	defer cancel()
	contexts := map[string]context.Context{"no context": context.Background(), "a context that can end": live, "a context that will end": limited}
	hide := &event.Overlay{Hide: []string{"time"}, Set: []event.Attribute{{Name: "reason", Value: event.Value{Text: "none at all"}}}}

	exchange := func(name string, c *Client, url string) {
		defer c.Close()
		r := &Request{Target: c.Target(url, TargetOptions{Namespace: "shop", Reply: true}), Event: kilobyte(t), Overlay: hide}
		for under, ctx := range contexts {
			if n := testing.AllocsPerRun(500, func() {
				if _, err := c.Send(ctx, r); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Errorf("%s under %s: %v allocations", name, under, n)
			}
		}
	}
	exchange("over a socket", New(Options{Guard: Guard{AllowLoopback: true}}), sink(t))
	for _, answer := range usualAnswers {
		exchange(answer.name, toCanned(answer.bytes), "http://orders.shop")
	}
}

// BenchmarkPlainClient is the yardstick: the same request by http.Client, with
// the event's headers given to it ready made.
func BenchmarkPlainClient(b *testing.B) {
	url, e := sink(b), kilobyte(b)
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), "POST", url, bytes.NewReader(e.Data()))
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := e.WriteHTTP(req.Header, event.Binary, nil); err != nil {
				b.Error(err)
			}
			req.Header["Prefer"] = []string{"reply"}
			req.Header["Kn-Namespace"] = []string{"shop"}
			resp, err := c.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
}
