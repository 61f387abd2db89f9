package memhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// connect makes a connection from one host to another and returns both ends.
func connect(t *testing.T, n *Net, from, to string) (client, server net.Conn) {
	t.Helper()
	l, err := n.Listen(to)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = n.Host(from).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return client, <-accepted
}

// arrives reads n bytes and says when the last came.
func arrives(t *testing.T, c net.Conn, n int, start time.Time) time.Duration {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	return time.Since(start)
}

func TestADelayedLinkDeliversEverythingLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Link("shop", "bank").Delay(300 * time.Millisecond)
		start := time.Now()
		a, b := connect(t, n, "shop", "bank")
		if took := time.Since(start); took != 600*time.Millisecond {
			t.Errorf("connected after %v, want there and back", took)
		}
		start = time.Now()
		a.Write([]byte("pay"))
		a.Close()
		if at := arrives(t, b, 3, start); at != 300*time.Millisecond {
			t.Errorf("bytes after %v", at)
		}
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the last byte: %v", err)
		}
	})
}

func TestACutLinkHoldsBackBytesAndEndsUntilItHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, "shop", "bank")
		link := n.Link("bank", "shop")
		link.Delay(time.Second)
		start := time.Now()
		a.Write([]byte("on its way"))
		time.Sleep(500 * time.Millisecond)
		link.Cut()
		a.Write([]byte("pay"))
		a.Close()
		if _, err := b.Write([]byte("hello?")); err != nil {
			t.Errorf("the other side has been told of the end: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := n.Host("shop").DialContext(ctx, "tcp", "bank"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial over a cut link: %v", err)
		}
		time.AfterFunc(time.Minute, link.Heal)
		if at := arrives(t, b, 13, start); at != time.Since(start) || at < time.Minute {
			t.Errorf("bytes after %v, want them when the link is whole again", at)
		}
		if rest, err := io.ReadAll(b); len(rest) != 0 || err != nil {
			t.Errorf("rest %q, %v", rest, err)
		}
	})
}

func TestADrippingLinkHasItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, "shop", "bank")
		n.Link("shop", "bank").Drip(10)
		start := time.Now()
		a.Write(make([]byte, 95))
		if at := arrives(t, b, 10, start); at != time.Second {
			t.Errorf("the first 10 bytes after %v", at)
		}
		if at := arrives(t, b, 85, start); at != 9500*time.Millisecond {
			t.Errorf("95 bytes after %v", at)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			io.Copy(io.Discard, b)
		}()
		start = time.Now()
		a.Write(make([]byte, 2*bufferSize))
		if took := time.Since(start); took < bufferSize/10*time.Second {
			t.Errorf("128 KiB were written after %v: a writer is not slowed", took)
		}
		a.Close()
		<-read
	})
}

func TestALinkThatIsResetEndsItsConnectionsAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, "shop", "bank")
		c, d := connect(t, n, "shop", "post")
		n.Link("shop", "bank").Reset()
		for _, end := range []net.Conn{a, b} {
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("read: %v", err)
			}
		}
		c.Write([]byte("letter"))
		arrives(t, d, 6, time.Now())
	})
}

func TestAKilledHostReachesNobodyAndItsSuccessorEverybody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Serve(t, "bank", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		serve := func(h *Host) {
			l, err := h.Listen("8080")
			if err != nil {
				t.Fatal(err)
			}
			go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		}
		first := n.Host("shop")
		serve(first)
		asked := make(chan error, 1)
		go func() {
			_, err := clientOf(n).Get("http://shop:8080/")
			asked <- err
		}()
		out, err := first.DialContext(t.Context(), "tcp", "bank")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		first.Kill()
		if err := <-asked; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("who was waiting got %v", err)
		}
		if _, err := out.Write([]byte("last words")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a dead process wrote: %v", err)
		}
		if _, err := first.DialContext(t.Context(), "tcp", "bank"); !errors.Is(err, syscall.ENETDOWN) {
			t.Errorf("a dead process dialed: %v", err)
		}
		second := n.Host("shop")
		serve(second)
		if c, err := second.DialContext(t.Context(), "tcp", "bank"); err != nil {
			t.Error(err)
		} else {
			c.Close()
		}
		second.Kill()
	})
}
