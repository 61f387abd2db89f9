package deliver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/test/memhttp"
)

func TestConnectionsAreReusedWhateverTheAnswer(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"202":           answer(202, ""),
		"200 with text": answer(200, strings.Repeat("thanks ", 1000)),
		"503":           answer(503, strings.Repeat("no ", 10000)),
		"404":           answer(404, ""),
		"302":           answer(302, "", "Location", "/"),
		"a reply":       answer(200, reply, "Content-Type", "application/cloudevents+json"),
		"a bad reply":   answer(200, "{", "Content-Type", "application/cloudevents+json"),
		"in pieces": func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				w.Serve(t, "orders.shop", h)
				for range 5 {
					w.send(t, "http://orders.shop")
				}
				if n := w.Dials("orders.shop"); n != 1 {
					t.Errorf("%d connections for 5 events", n)
				}
			})
		})
	}
}

func TestConnectionsAreNotReusedWhenThePeerSaysSo(t *testing.T) {
	for name, sent := range map[string]string{
		"connection close":         "HTTP/1.1 202 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0":                 "HTTP/1.0 202 OK\r\nContent-Length: 0\r\n\r\n",
		"keep-alive is over":       "HTTP/1.1 202 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n",
		"more than it had to say":  "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n",
		"an answer over the bound": "HTTP/1.1 202 OK\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000),
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{MaxAnswer: 1024}, func(t *testing.T, w world) {
				raw(t, w, "orders.shop", func(c *memhttp.Conn) {
					io.WriteString(c, sent)
					untilClosed(c)
				})
				for range 3 {
					if a, err := w.send(t, "http://orders.shop"); err != nil || a.Status != 202 {
						t.Fatal(a, err)
					}
				}
				if n := w.Dials("orders.shop"); n != 3 {
					t.Errorf("%d connections for 3 events", n)
				}
			})
		})
	}
}

// TestAStaleConnectionIsNotChargedToTheSubscriber: the peer closes its idle
// connection, and the next event is delivered on a new one in the same attempt.
func TestAStaleConnectionIsNotChargedToTheSubscriber(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		var requests atomic.Int64
		w.Start(t, "orders.shop", &http.Server{
			IdleTimeout: 5 * time.Second,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				w.WriteHeader(http.StatusAccepted)
			}),
		})
		for range 3 {
			if _, err := w.send(t, "http://orders.shop"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(6 * time.Second)
			synctest.Wait()
		}
		if n := w.Dials("orders.shop"); n != 3 || requests.Load() != 3 {
			t.Errorf("%d connections, %d requests", n, requests.Load())
		}
	})
}

// TestARequestThatWasWrittenIsNotSentAgain: whoever closes the connection
// after the request is on its way may have acted on it.
func TestARequestThatWasWrittenIsNotSentAgain(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "orders.shop", func(c *memhttp.Conn) {
			io.ReadFull(c, make([]byte, 12))
			io.WriteString(c, "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n")
			c.Read(make([]byte, 1)) // the first byte of the second request
		})
		if _, err := w.send(t, "http://orders.shop"); err != nil {
			t.Fatal(err)
		}
		_, err := w.send(t, "http://orders.shop")
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassReset {
			t.Errorf("got %v", err)
		}
		if n := w.Dials("orders.shop"); n != 1 {
			t.Errorf("sent on %d connections", n)
		}
	})
}

func TestIdleConnectionsGoAfterTheirTime(t *testing.T) {
	inWorld(t, Options{IdleTimeout: 30 * time.Second}, func(t *testing.T, w world) {
		ended := make(chan time.Time, 1)
		start := time.Now()
		raw(t, w, "orders.shop", func(c *memhttp.Conn) {
			io.WriteString(c, "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n")
			untilClosed(c)
			ended <- time.Now()
		})
		if _, err := w.send(t, "http://orders.shop"); err != nil {
			t.Fatal(err)
		}
		if at := (<-ended).Sub(start); at != 30*time.Second {
			t.Errorf("closed after %v, want 30s", at)
		}
		if n := w.Client.idle.Load(); n != 0 {
			t.Errorf("%d counted as idle", n)
		}
	})
}

func TestAPeersShorterKeepAliveIsRespected(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "node.shop", answer(202, "", "Keep-Alive", "timeout=5"))
		for _, pause := range []time.Duration{3 * time.Second, 3 * time.Second, 4500 * time.Millisecond, 0} {
			if _, err := w.send(t, "http://node.shop"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(pause)
		}
		if n := w.Dials("node.shop"); n != 2 {
			t.Errorf("%d connections, want a second one after 4.5 s", n)
		}
	})
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	for _, o := range []Options{{MaxIdlePerHost: 3}, {MaxIdle: 3}} {
		inWorld(t, o, func(t *testing.T, w world) {
			open := make(chan struct{})
			w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				<-open
				w.WriteHeader(http.StatusAccepted)
			}))
			errs := make(chan error, 10)
			for range 10 {
				go func() {
					_, err := w.send(t, "http://orders.shop")
					errs <- err
				}()
			}
			synctest.Wait()
			close(open)
			for range 10 {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			if n := w.Client.idle.Load(); n != 3 {
				t.Errorf("%d connections kept, want 3", n)
			}
		})
	}
}

func TestACancelledAttemptsConnectionIsNotUsedAgain(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		var once sync.Once
		w.Serve(t, "orders.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			once.Do(func() { <-r.Context().Done() })
		}))
		target := w.Target("http://orders.shop", TargetOptions{})
		if _, err := w.Send(t.Context(), &Request{Target: target, Event: order(t), Timeout: time.Second}); err == nil {
			t.Fatal("no timeout")
		}
		if a, err := w.Send(t.Context(), &Request{Target: target, Event: order(t), Timeout: time.Second}); err != nil {
			t.Error(a, err)
		}
		if n := w.Dials("orders.shop"); n != 2 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestAClosedClientKeepsNoConnections(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "orders.shop", answer(202, ""))
		w.send(t, "http://orders.shop")
		w.Client.Close()
		if n := w.Client.idle.Load(); n != 0 {
			t.Errorf("%d idle after Close", n)
		}
		if _, err := w.send(t, "http://orders.shop"); err != nil {
			t.Error(err)
		}
		if n := w.Client.idle.Load(); n != 0 {
			t.Errorf("%d idle after a late attempt", n)
		}
	})
}

// TestARealPeersCloseIsSeenBeforeTheNextRequest is the case of
// TestAStaleConnectionIsNotChargedToTheSubscriber on a socket, which takes
// bytes for a peer that is gone.
func TestARealPeersCloseIsSeenBeforeTheNextRequest(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	closed := make(chan struct{})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 4096))
			io.WriteString(c, "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n")
			c.Close()
			closed <- struct{}{}
		}
	}()
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	defer c.Close()
	target := c.Target("http://"+l.Addr().String(), TargetOptions{})
	for range 20 {
		if a, err := c.Send(t.Context(), &Request{Target: target, Event: order(t)}); err != nil {
			t.Fatal(a, err)
		}
		<-closed
	}
}
