package deliver

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memhttp"
)

// raw serves each connection with a function that speaks for itself. It gets
// the connection after it has read the head of one request.
func raw(t *testing.T, w world, host string, serve func(c *memhttp.Conn)) {
	t.Helper()
	l, err := w.Listen(host)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var conns []net.Conn
	t.Cleanup(func() {
		l.Close()
		for _, c := range conns {
			c.Close()
		}
		running.Wait()
	})
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, c)
			running.Go(func() {
				defer c.Close()
				head := make([]byte, 0, 4096)
				for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b...) {
					if _, err := c.Read(b); err != nil {
						return
					}
				}
				serve(c.(*memhttp.Conn))
			})
		}
	})
}

// untilClosed waits for the client to end the connection.
func untilClosed(c net.Conn) { io.Copy(io.Discard, c) }

// forever writes until the client ends the connection, and counts.
func forever(c net.Conn, text string, every time.Duration) (written int64) {
	for {
		n, err := io.WriteString(c, text)
		written += int64(n)
		if err != nil {
			return written
		}
		time.Sleep(every)
	}
}

func TestNoPeerHoldsAnAttemptLongerThanItsTimeout(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
	for name, serve := range map[string]func(c *memhttp.Conn){
		"says nothing":        func(c *memhttp.Conn) { untilClosed(c) },
		"drips its head":      func(c *memhttp.Conn) { io.WriteString(c, head); forever(c, "X: y\r\n", time.Second) },
		"drips spaces":        func(c *memhttp.Conn) { forever(c, " ", time.Second) },
		"stops in its head":   func(c *memhttp.Conn) { io.WriteString(c, head); untilClosed(c) },
		"sends 100 and stops": func(c *memhttp.Conn) { io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n"); untilClosed(c) },
		"drips its body":      func(c *memhttp.Conn) { io.WriteString(c, head+"\r\n"); forever(c, "x", time.Second) },
		"drips a chunked body": func(c *memhttp.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			forever(c, "1\r\nx\r\n", time.Second)
		},
		"drips a reply": func(c *memhttp.Conn) {
			io.WriteString(c, head+"Ce-Id: 1\r\nCe-Specversion: 1.0\r\n\r\n")
			forever(c, "x", time.Second)
		},
		"drips a 202": func(c *memhttp.Conn) {
			io.WriteString(c, "HTTP/1.1 202 OK\r\nContent-Length: 100000\r\n\r\n")
			forever(c, "x", time.Second)
		},
		"drips a body without an end": func(c *memhttp.Conn) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); forever(c, "x", time.Second) },
		"stops within a trailer": func(c *memhttp.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ")
			untilClosed(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				raw(t, w, "slow.shop", serve)
				a, err := w.Send(t.Context(), &Request{
					Target: w.Target("http://slow.shop", TargetOptions{Reply: true}), Event: order(t), Timeout: 30 * time.Second,
				})
				if got, want := text(err), "deliver to http://slow.shop: timeout after 30s"; got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				var e *Error
				if errors.As(err, &e) && (e.Class != ClassTimeout || !e.Timeout()) || !Retriable(err) {
					t.Errorf("%+v", e)
				}
				if a.Duration != 30*time.Second {
					t.Errorf("after %v", a.Duration)
				}
			})
		})
	}
}

func text(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func TestTheTimeoutIncludesTheDial(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		l, err := w.Listen("busy.shop") // and never accepts
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		a, err := w.Send(t.Context(), &Request{Target: w.Target("http://busy.shop", TargetOptions{}), Event: order(t), Timeout: 7 * time.Second})
		if text(err) != "deliver to http://busy.shop: timeout after 7s" || a.Duration != 7*time.Second {
			t.Errorf("%v after %v", err, a.Duration)
		}
	})
}

func TestTheTimeoutIncludesALargeBodyThatNobodyReads(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "full.shop", func(c *memhttp.Conn) { time.Sleep(time.Hour) })
		var b event.Builder
		b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").SetData(make([]byte, 1<<20))
		a, err := w.Send(t.Context(), &Request{Target: w.Target("http://full.shop", TargetOptions{}), Event: built(t, &b), Timeout: 7 * time.Second})
		if text(err) != "deliver to http://full.shop: timeout after 7s" || a.Duration != 7*time.Second {
			t.Errorf("%v after %v", err, a.Duration)
		}
		time.Sleep(time.Hour)
	})
}

func TestWithoutATimeoutAnAttemptEndsAfterFiveMinutes(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "slow.shop", func(c *memhttp.Conn) { untilClosed(c) })
		a, err := w.send(t, "http://slow.shop")
		if text(err) != "deliver to http://slow.shop: timeout after 5m0s" || a.Duration != 5*time.Minute {
			t.Errorf("%v after %v", err, a.Duration)
		}
	})
}

func TestAnAnswerThatTakesItsTimeIsWaitedFor(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		w.Serve(t, "slow.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(29 * time.Second)
			w.WriteHeader(http.StatusAccepted)
		}))
		a, err := w.Send(t.Context(), &Request{Target: w.Target("http://slow.shop", TargetOptions{}), Event: order(t), Timeout: 30 * time.Second})
		if err != nil || a.Duration != 29*time.Second {
			t.Errorf("%v after %v", err, a.Duration)
		}
	})
}

// TestEndlessAnswersAreNotRead: a 10 GB answer costs what the bound allows, and no more.
func TestEndlessAnswersAreNotRead(t *testing.T) {
	const body = "Content-Length: 10000000000\r\n\r\n"
	for _, c := range []struct {
		name, head string
		want       string
	}{
		{"taken", "HTTP/1.1 200 OK\r\n" + body, "no error"},
		{"taken in chunks", "HTTP/1.1 202 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", "no error"},
		{"taken without a length", "HTTP/1.0 200 OK\r\n\r\n", "no error"},
		{"refused", "HTTP/1.1 500 No\r\n" + body, "deliver to http://big.shop: status 500"},
		{"a reply", "HTTP/1.1 200 OK\r\nCe-Id: 1\r\nCe-Specversion: 1.0\r\n" + body, "deliver to http://big.shop: reply of more than 1048576 bytes"},
		{"a reply in chunks", "HTTP/1.1 200 OK\r\nCe-Id: 1\r\nCe-Specversion: 1.0\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n", "deliver to http://big.shop: reply of more than 1048576 bytes"},
		{"a head", "HTTP/1.1 200 OK\r\nX: ", "deliver to http://big.shop: the header block of the answer is too large"},
		{"heads", "", "deliver to http://big.shop: more than 5 interim answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				written := make(chan int64, 1)
				raw(t, w, "big.shop", func(conn *memhttp.Conn) {
					io.WriteString(conn, c.head)
					filler := strings.Repeat("x", 64<<10)
					if c.head == "" {
						filler = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
					}
					written <- forever(conn, filler, 0)
				})
				_, err := w.send(t, "http://big.shop")
				if got := text(err); got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
				if n := <-written; n > 1<<20+256<<10 {
					t.Errorf("read %d bytes", n)
				}
			})
		})
	}
}

func TestAnAnswerThatBreaksOffIsNoAnswer(t *testing.T) {
	for _, c := range []struct {
		name, sent string
		want       string
		class      Class
		status     int
	}{
		{"nothing", "", "connection ended before the answer: unexpected EOF", ClassReset, 0},
		{"half a head", "HTTP/1.1 200 OK\r\nConte", "connection ended before the answer: unexpected EOF", ClassReset, 0},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345", "connection ended before the answer: unexpected EOF", ClassReset, 200},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\n12345", "connection ended before the answer: unexpected EOF", ClassReset, 200},
		{"half a reply", "HTTP/1.1 200 OK\r\nCe-Id: 1\r\nCe-Specversion: 1.0\r\nContent-Length: 10\r\n\r\n12345", "connection ended before the answer: unexpected EOF", ClassReset, 200},
		{"an interim answer only", "HTTP/1.1 102 Processing\r\n\r\n", "connection ended before the answer: unexpected EOF", ClassReset, 0},
		{"half the body of a refusal", "HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\n12345", "status 503", ClassStatus, 503},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", `malformed HTTP response "SSH-2.0-OpenSSH_9.2"`, ClassAnswer, 0},
		{"no status", "HTTP/1.1 OK\r\n\r\n", `malformed HTTP status code "OK"`, ClassAnswer, 0},
		{"a status of no kind", "HTTP/1.1 042 What\r\n\r\n", `malformed HTTP status 42`, ClassAnswer, 0},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", `http: message cannot contain multiple Content-Length headers; got ["1" "2"]`, ClassAnswer, 0},
		{"a bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "invalid byte in chunk length", ClassAnswer, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, Options{}, func(t *testing.T, w world) {
				raw(t, w, "broken.shop", func(conn *memhttp.Conn) { io.WriteString(conn, c.sent) })
				a, err := w.send(t, "http://broken.shop")
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("got %v", err)
				}
				if e.Reason() != c.want || e.Class != c.class || e.Status != c.status || a.Status != c.status {
					t.Errorf("got %s (%v, %d, %d), want %s (%v, %d)", e.Reason(), e.Class, e.Status, a.Status, c.want, c.class, c.status)
				}
				if !Retriable(err) {
					t.Error("not retriable")
				}
				if n := w.Dials("broken.shop"); n != 1 {
					t.Errorf("sent %d times", n)
				}
			})
		})
	}
}

func TestAResetIsAFailedAttempt(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "reset.shop", func(c *memhttp.Conn) { c.Reset() })
		_, err := w.send(t, "http://reset.shop")
		var e *Error
		if !errors.As(err, &e) || e.Class != ClassReset || !strings.Contains(e.Reason(), "connection reset by peer") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	for _, code := range []int{300, 301, 302, 303, 307, 308} {
		inWorld(t, Options{}, func(t *testing.T, w world) {
			w.Serve(t, "moved.shop", answer(code, "", "Location", "http://metadata.shop/latest"))
			reached := false
			w.Serve(t, "metadata.shop", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
			_, err := w.send(t, "http://moved.shop")
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassStatus || e.Status != code || Retriable(err) {
				t.Errorf("%d: %v", code, err)
			}
			if code == 302 && text(err) != "deliver to http://moved.shop: status 302: redirects are not followed" {
				t.Error(err)
			}
			synctest.Wait()
			if reached || w.Dials("metadata.shop") != 0 {
				t.Errorf("%d: the target of the redirect was called", code)
			}
		})
	}
}

func TestInterimAnswersAreSkipped(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "hints.shop", func(c *memhttp.Conn) {
			io.WriteString(c, strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 3)+"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
			untilClosed(c)
		})
		if a, err := w.send(t, "http://hints.shop"); err != nil || a.Status != 202 {
			t.Error(a, err)
		}
	})
}

func TestSwitchingProtocolsIsARefusal(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		raw(t, w, "ws.shop", func(c *memhttp.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			untilClosed(c)
		})
		_, err := w.send(t, "http://ws.shop")
		if text(err) != "deliver to http://ws.shop: status 101" || Retriable(err) {
			t.Error(err)
		}
	})
}

// TestAnEarlyAnswerCounts: a peer may refuse a large event on the strength of
// its head and close without reading it.
func TestAnEarlyAnswerCounts(t *testing.T) {
	for _, size := range []int{10, 1 << 20} {
		inWorld(t, Options{}, func(t *testing.T, w world) {
			raw(t, w, "early.shop", func(c *memhttp.Conn) {
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			})
			var b event.Builder
			b.Set("id", "1").Set("source", "/s").Set("specversion", "1.0").Set("type", "t").SetData(make([]byte, size))
			_, err := w.Send(t.Context(), &Request{Target: w.Target("http://early.shop", TargetOptions{}), Event: built(t, &b)})
			var e *Error
			if !errors.As(err, &e) || e.Status != 413 || string(e.Body) != "big" {
				t.Errorf("%d bytes: %v", size, err)
			}
		})
	}
}
