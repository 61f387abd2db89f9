package memhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func clientOf(n *Net) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.DialContext}}
}

func TestARequestReachesTheHostItNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		for _, host := range []string{"orders.shop", "mail.shop:8080"} {
			n.Serve(t, host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, host+" has "+r.Host)
			}))
		}
		c := clientOf(n)
		defer c.CloseIdleConnections()
		for url, want := range map[string]string{
			"http://orders.shop/":         "orders.shop has orders.shop",
			"http://mail.shop:8080/inbox": "mail.shop:8080 has mail.shop:8080",
		} {
			resp, err := c.Get(url)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != want {
				t.Errorf("%s: got %q, want %q", url, body, want)
			}
		}
		if got := n.Dials("orders.shop"); got != 1 {
			t.Errorf("%d dials, want 1", got)
		}
	})
}

func TestUnknownAndClosedHostsFailLikeRealOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		l, err := n.Listen("orders.shop:8080")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen("orders.shop:8080"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("second listener: %v", err)
		}
		var dns *net.DNSError
		if _, err := n.DialContext(t.Context(), "tcp", "nobody.shop:80"); !errors.As(err, &dns) || !dns.IsNotFound {
			t.Errorf("unknown host: %v", err)
		}
		if _, err := n.DialContext(t.Context(), "tcp", "orders.shop:80"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("closed port: %v", err)
		}
		// A host that does not accept keeps its dialer waiting.
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := n.DialContext(ctx, "tcp", "orders.shop:8080"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial of a busy host: %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %v, want 3s", waited)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
	})
}

func TestAWriterDoesNotWaitForAReaderUntilTheBufferIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(Addr("a"), Addr("b"))
		if n, err := a.Write(make([]byte, bufferSize)); n != bufferSize || err != nil {
			t.Fatalf("first write: %d, %v", n, err)
		}
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			if _, err := a.Write([]byte("more")); err != nil {
				t.Error(err)
			}
		}()
		synctest.Wait()
		select {
		case <-wrote:
			t.Fatal("a full buffer took more")
		default:
		}
		if _, err := io.ReadFull(b, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		<-wrote
	})
}

func TestDeadlinesEndWhatIsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := Pipe(Addr("a"), Addr("b"))
		start := time.Now()
		a.SetDeadline(start.Add(5 * time.Second))
		_, err := a.Read(make([]byte, 1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no timeout", err)
		}
		a.SetWriteDeadline(start.Add(8 * time.Second))
		if _, err := a.Write(make([]byte, bufferSize+1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 8*time.Second {
			t.Errorf("write: %v after %v", err, time.Since(start))
		}
		// A deadline in the past wakes at once; none at all lets it go on.
		go func() {
			time.Sleep(time.Second)
			a.SetReadDeadline(time.Unix(1, 0))
		}()
		a.SetReadDeadline(time.Time{})
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 9*time.Second {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
	})
}

func TestCloseIsReadAfterTheBytesBeforeItAndResetInsteadOfThem(t *testing.T) {
	a, b := Pipe(Addr("a"), Addr("b"))
	a.Write([]byte("bye"))
	a.Close()
	if got, err := io.ReadAll(b); string(got) != "bye" || err != nil {
		t.Errorf("after close: %q, %v", got, err)
	}
	if n, err := b.Write([]byte("hello?")); n != 0 || !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %d, %v", n, err)
	}
	if _, err := a.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after own close: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after own close: %v", err)
	}

	a, b = Pipe(Addr("a"), Addr("b"))
	a.Write([]byte("bye"))
	a.Reset()
	for _, c := range []*Conn{a, b} {
		if _, err := c.Read(make([]byte, 8)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read after reset: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("write after reset: %v", err)
		}
	}
}

func TestAServerThatAnswersBeforeItReadsDoesNotDeadlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Serve(t, "early.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}))
		c := clientOf(n)
		defer c.CloseIdleConnections()
		resp, err := c.Post("http://early.shop/", "text/plain", strings.NewReader(strings.Repeat("x", 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}
