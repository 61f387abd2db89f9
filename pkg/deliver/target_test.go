package deliver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memhttp"
)

func TestRequestLinesOfDestinations(t *testing.T) {
	c := New(Options{})
	for destination, want := range map[string]string{
		"http://orders.shop":            "POST / HTTP/1.1|Host: orders.shop",
		"http://orders.shop?a=b":        "POST /?a=b HTTP/1.1|Host: orders.shop",
		"HTTP://Orders.Shop:8080/a%2Fb": "POST /a%2Fb HTTP/1.1|Host: Orders.Shop:8080",
		"http://orders.shop/a b?c d=ü":  "POST /a%20b?c%20d=%C3%BC HTTP/1.1|Host: orders.shop",
		"http://orders.shop/#frag":      "POST / HTTP/1.1|Host: orders.shop",
		"http://[::1]:8080/x":           "POST /x HTTP/1.1|Host: [::1]:8080",
		"http://[fe80::1%25eth0]/x":     "POST /x HTTP/1.1|Host: [fe80::1]",
		"http://h/?x HTTP/1.1":          "POST /?x%20HTTP/1.1 HTTP/1.1|Host: h",
	} {
		target := c.Target(destination, TargetOptions{})
		if target.Err() != nil {
			t.Error(target.Err())
			continue
		}
		if got := strings.Join(strings.Split(string(target.head), "\r\n")[:2], "|"); got != want {
			t.Errorf("%s: got %s, want %s", destination, got, want)
		}
	}
}

func TestOptionsCannotSplitARequest(t *testing.T) {
	c := New(Options{UserAgent: "a\r\nX: y"})
	if got := string(c.Target("http://a.shop", TargetOptions{}).head); strings.Contains(got, "X:") {
		t.Errorf("%q", got)
	}
	if err := c.Target("http://a.shop", TargetOptions{Namespace: "n\r\nX: y"}).Err(); err == nil {
		t.Error("a namespace of two lines is sent")
	}
}

func TestAnEventCannotSetWhatFramesARequest(t *testing.T) {
	inWorld(t, Options{}, func(t *testing.T, w world) {
		var got string
		w.Serve(t, "orders.shop", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = seen(r) }))
		if _, err := w.send(t, "http://orders.shop"); err != nil {
			t.Fatal(err)
		}
		want := got
		b := event.Edit(order(t))
		for _, name := range []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Te", "Trailer",
			"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Authorization", "Cookie", "User-Agent", "Prefer", "Kn-Namespace"} {
			b.SetHeader(name, "chunked")
		}
		target := w.Target("http://orders.shop", TargetOptions{Namespace: "shop", Reply: true})
		if _, err := w.Send(t.Context(), &Request{Target: target, Event: built(t, b)}); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		for name, value := range map[string]string{"X-Request-Id": "1\r\nX-Evil: 1", "X-Evil: 1\r\nX": "1", "X Y": "1", "": "1"} {
			_, err := w.Send(t.Context(), &Request{Target: target, Event: built(t, event.Edit(order(t)).SetHeader(name, value))})
			var e *Error
			if !errors.As(err, &e) || e.Class != ClassEvent || Retriable(err) {
				t.Errorf("%q: %v", name, err)
			}
		}
		if n := w.Dials("orders.shop"); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestTheClientForgetsHostsThatNobodyNeeds(t *testing.T) {
	c := New(Options{})
	count := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.pools)
	}
	kept := c.Target("http://kept.shop", TargetOptions{})
	for i := range 100 {
		c.Target("http://"+strings.Repeat("x", i+1)+".shop", TargetOptions{})
	}
	for range 1000 {
		if runtime.GC(); count() == 1 {
			break
		}
		runtime.Gosched()
	}
	if n := count(); n != 1 {
		t.Errorf("%d hosts remembered, want 1", n)
	}
	if again := c.Target("http://kept.shop/other", TargetOptions{}); again.pool != kept.pool {
		t.Error("one host has two pools")
	}
	runtime.KeepAlive(kept)
}

// FuzzTarget: any text is either refused or gives one request for the host it
// names, as an HTTP server reads it.
func FuzzTarget(f *testing.F) {
	for _, seed := range []string{"http://orders.shop/in?q=1", "bad://uri", "http://[::1%25eth0]:80", "http://a@b", "//x", "http://h/?a b\r\n", "https://h:443/%2f..%2f", "http://h/*", "http://h?x HTTP/1.1"} {
		f.Add(seed)
	}
	c := New(Options{})
	f.Fuzz(func(t *testing.T, destination string) {
		target := c.Target(destination, TargetOptions{Namespace: "n", Reply: true})
		if target.Destination() != destination || strings.ContainsAny(target.display, "\r\n\x00") {
			t.Fatalf("%q: %q", destination, target.display)
		}
		if target.Err() != nil {
			if _, err := c.Send(t.Context(), &Request{Target: target}); err == nil {
				t.Fatal("delivered to an unusable destination")
			}
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(append(target.head, "Content-Length: 0\r\n\r\n"...))))
		if err != nil {
			t.Fatalf("%q: %q: %v", destination, target.head, err)
		}
		if r.Method != "POST" || r.Host == "" || len(r.Header) != 4 || r.Header.Get("Kn-Namespace") != "n" {
			t.Fatalf("%q: %q became %v", destination, target.head, r)
		}
	})
}

// FuzzAnswer: whatever a peer sends ends the attempt with an answer or an
// error of ours, and within the bounds.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: application/cloudevents+json\r\nContent-Length: 70\r\n\r\n" + reply,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nCe-Id: 1\r\nCe-Specversion: 1.0\r\nCe-Type: t\r\nCe-Source: s\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nRetry-After: 5\r\nKeep-Alive: timeout=5\r\n\r\nbusy",
		"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n", "SSH-2.0\r\n", "",
	} {
		f.Add([]byte(seed))
	}
	e := order(f)
	f.Fuzz(func(t *testing.T, sent []byte) {
		c := New(Options{MaxAnswer: 1000, MaxKept: 10, Dial: func(context.Context, string, string) (net.Conn, error) {
			us, peer := memhttp.Pipe(memhttp.Addr("us"), memhttp.Addr("peer"))
			go func() {
				peer.Write(sent)
				peer.CloseWrite()
			}()
			return us, nil
		}})
		defer c.Close()
		a, err := c.Send(t.Context(), &Request{Target: c.Target("http://peer", TargetOptions{Reply: true}), Event: e, Timeout: time.Minute})
		var failure *Error
		switch {
		case err == nil && (a.Status < 200 || a.Status > 299):
			t.Fatalf("status %d is a success", a.Status)
		case err == nil && a.Status != 200 && len(a.Replies) > 0:
			t.Fatalf("status %d has replies", a.Status)
		case err != nil && !errors.As(err, &failure):
			t.Fatalf("error of no class: %v", err)
		case err != nil && (len(failure.Body) > 10 || len(failure.Reason()) > 400 || strings.ContainsAny(failure.Reason(), "\r\n\x00") || len(a.Replies) > 0):
			t.Fatalf("%+v", failure)
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.ErrNoProgress):
			t.Fatalf("hung: %v", err)
		}
	})
}
