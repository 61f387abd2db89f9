package deliver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// onLoopback runs a test against a server on a real socket that answers 202
// when told. Each exchange that has arrived is told to arrived.
func onLoopback(t *testing.T, test func(c *Client, r *Request, arrived <-chan struct{}, answer chan<- string)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	arrived, answer, ended := make(chan struct{}), make(chan string), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for b := make([]byte, 4096); ; {
					if _, err := c.Read(b); err != nil {
						return
					}
					select {
					case arrived <- struct{}{}:
					case <-ended:
						return
					}
					select {
					case text := <-answer:
						io.WriteString(c, text)
					case <-ended:
						return
					}
				}
			}()
		}
	}()
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	test(c, &Request{Target: c.Target("http://"+l.Addr().String(), TargetOptions{}), Event: order(t)}, arrived, answer)
	c.Close()
	l.Close()
	<-ended
}

const taken = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

// idleOf is the one idle connection to a target.
func idleOf(t *testing.T, target *Target) *conn {
	t.Helper()
	target.pool.mu.Lock()
	defer target.pool.mu.Unlock()
	if len(target.pool.idle) != 1 {
		t.Fatalf("%d idle connections", len(target.pool.idle))
	}
	return target.pool.idle[0]
}

// TestOnASocketAnOldDeadlineOnlyWakes is the case of
// TestAnOldDeadlineEndsNoExchangeEarlyOrLate on a socket, where deadlines pass when we say so.
func TestOnASocketAnOldDeadlineOnlyWakes(t *testing.T) {
	onLoopback(t, func(c *Client, r *Request, arrived <-chan struct{}, answer chan<- string) {
		sent := make(chan error, 1)
		send := func(pass func(cn *conn)) {
			t.Helper()
			var cn *conn
			if pass != nil {
				cn = idleOf(t, r.Target)
			}
			go func() {
				_, err := c.Send(t.Context(), r)
				sent <- err
			}()
			<-arrived
			if pass != nil {
				pass(cn)
			}
			answer <- taken
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
		send(nil)
		cn := idleOf(t, r.Target)
		cn.deadline = time.Now().Add(DefaultTimeout * 3 / 4) // as if it were from an earlier exchange
		cn.SetDeadline(longPast)                             // and passes before the next one writes
		send(nil)
		if again := idleOf(t, r.Target); again != cn {
			t.Fatal("the connection was given up")
		}
		cn.deadline = time.Now().Add(DefaultTimeout * 3 / 4)
		send(func(cn *conn) { cn.SetDeadline(longPast) }) // or while it waits
		if again := idleOf(t, r.Target); again != cn {
			t.Fatal("the connection was given up")
		}
	})
}

func TestOnASocketACancelledSendReturns(t *testing.T) {
	onLoopback(t, func(c *Client, r *Request, arrived <-chan struct{}, answer chan<- string) {
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		send := func() {
			_, err := c.Send(ctx, r)
			sent <- err
		}
		for range 3 {
			go send()
			<-arrived
			answer <- taken
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
		}
		go send()
		<-arrived
		cancel()
		if err := <-sent; !Cancelled(err) {
			t.Error(err)
		}
		if n := c.idle.Load(); n != 0 {
			t.Errorf("%d connections kept", n)
		}
	})
}

// TestOnASocketAnAnswerTooManyEndsTheConnection, and is not taken for the
// answer to the next event.
func TestOnASocketAnAnswerTooManyEndsTheConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	idle, said := make(chan struct{}), make(chan struct{})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			c.Read(make([]byte, 4096))
			io.WriteString(c, taken)
			<-idle
			io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
			said <- struct{}{}
		}
	}()
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	defer c.Close()
	r := &Request{Target: c.Target("http://"+l.Addr().String(), TargetOptions{}), Event: order(t)}
	for range 3 {
		if _, err := c.Send(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if onSocket && !idleOf(t, r.Target).plain {
			t.Error("a TCP connection is not taken for one")
		}
		idle <- struct{}{}
		<-said
	}
}

// TestOnASocketAPeerMaySpeakFirst: one that is overloaded may say so to
// whoever connects.
func TestOnASocketAPeerMaySpeakFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	said := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
			said <- c
		}
	}()
	c := New(Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		us, err := net.Dial(network, l.Addr().String())
		if err == nil {
			peer := <-said // which is before we write
			t.Cleanup(func() { peer.Close() })
		}
		return us, err
	}})
	defer c.Close()
	_, err = c.Send(t.Context(), &Request{Target: c.Target("http://orders.shop", TargetOptions{}), Event: order(t), Timeout: 10 * time.Second})
	if text(err) != "deliver to http://orders.shop: status 503" {
		t.Error(err)
	}
}

func TestOnASocketALongHeadIsWrittenInPieces(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	got := make(chan []byte, 2)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for b, have := make([]byte, 64<<10), []byte(nil); ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if have = append(have, b[:n]...); bytes.HasSuffix(have, []byte("\r\n\r\nthe data")) {
				got <- have
				have = nil
				io.WriteString(c, taken)
			}
		}
	}()
	c := New(Options{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		us, err := net.Dial(network, l.Addr().String())
		if err == nil {
			err = us.(*net.TCPConn).SetWriteBuffer(4 << 10)
		}
		return us, err
	}})
	defer c.Close()
	subject := strings.Repeat("0123456789", 16<<10)
	e := built(t, event.Edit(order(t)).Set("subject", subject).SetData([]byte("the data")))
	for range 2 {
		_, err = c.Send(t.Context(), &Request{Target: c.Target("http://orders.shop", TargetOptions{}), Event: e, Timeout: 10 * time.Second})
		if err != nil || !bytes.Contains(<-got, []byte("\r\nCe-Subject: "+subject+"\r\n")) {
			t.Error(err)
		}
	}
}

func TestOnASocketAResetIsAFailedAttempt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Skip("no loopback: ", err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 10)) // not all of it
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	c := New(Options{Guard: Guard{AllowLoopback: true}})
	defer c.Close()
	_, err = c.Send(t.Context(), &Request{Target: c.Target("http://"+l.Addr().String(), TargetOptions{}), Event: order(t)})
	var e *Error
	if !errors.As(err, &e) || e.Class != ClassReset {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(text(err), "read tcp 127.0.0.1:") {
		t.Error(err)
	}
}
