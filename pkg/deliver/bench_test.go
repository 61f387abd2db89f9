package deliver

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// sink answers 202 to whatever comes, as cheaply as can be, so that the
// benchmarks below measure the sender.
func sink(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
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
						if _, err := io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func kilobyte(b *testing.B) event.Event {
	var builder event.Builder
	builder.Set("id", "5f4dcc3b-5aa7-65d6-1d83-27deb882cf99").Set("source", "/web/checkout").Set("specversion", "1.0").Set("type", "order.placed")
	builder.Set("time", "2026-11-22T12:00:00Z").Set("datacontenttype", "application/json").SetData(bytes.Repeat([]byte("x"), 1024))
	return built(b, &builder)
}

func BenchmarkSend(b *testing.B) {
	url, e := sink(b), kilobyte(b)
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	defer c.Close()
	target := c.Target(url, TargetOptions{Namespace: "shop", Reply: true})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Send(b.Context(), &Request{Target: target, Event: e}); err != nil {
				b.Error(err)
			}
		}
	})
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
