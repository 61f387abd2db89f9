package remote_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// hello is an owner's answer to the empty request that opens a connection.
const hello = "HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\nContent-Length: 4\r\n\r\n\x00\x00\x00\x00"

// rawOwner takes connections and does with them what the test says. n counts
// them from 0.
func rawOwner(t *testing.T, f func(n int, c net.Conn, in *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				f(n, c, bufio.NewReader(c))
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// greet answers the hello of a connection.
func greet(c net.Conn, in *bufio.Reader) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_, _ = io.WriteString(c, hello)
}

// request reads a request's headers and the given part of its body.
func request(in *bufio.Reader, part float64) {
	r, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, int64(float64(r.ContentLength)*part))
}

// saying answers every request after the hello with these bytes, and hangs up.
func saying(answer string) func(int, net.Conn, *bufio.Reader) {
	return func(_ int, c net.Conn, in *bufio.Reader) {
		greet(c, in)
		request(in, 1)
		_, _ = io.WriteString(c, answer)
	}
}

func TestOwnerThatDiesLeavesUnknownOnlyWhatMayHaveReachedIt(t *testing.T) {
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Close()
	body := "\x01\x00\x01\x00\x00\x00\x00" // stored at 0-1, with a wrong sum
	for _, tt := range []struct {
		name    string
		owner   func(n int, c net.Conn, in *bufio.Reader)
		unknown bool
	}{
		{"before it accepts", nil, false},
		{"after it accepted", func(int, net.Conn, *bufio.Reader) {}, false},
		{"after it read the hello", func(_ int, _ net.Conn, in *bufio.Reader) { request(in, 1) }, false},
		{"never says hello", func(_ int, _ net.Conn, in *bufio.Reader) { _, _ = io.Copy(io.Discard, in) }, false},
		{"says hello in another tongue", func(_ int, c net.Conn, in *bufio.Reader) {
			request(in, 1)
			_, _ = io.WriteString(c, "220 mail.example ESMTP\r\n")
		}, false},
		{"speaks another version", func(_ int, c net.Conn, in *bufio.Reader) {
			request(in, 1)
			_, _ = io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}, false},
		{"after the first bytes", func(_ int, c net.Conn, in *bufio.Reader) { greet(c, in); _, _ = in.ReadByte() }, true},
		{"after the headers", func(_ int, c net.Conn, in *bufio.Reader) { greet(c, in); request(in, 0) }, true},
		{"after half the body", func(_ int, c net.Conn, in *bufio.Reader) { greet(c, in); request(in, .5) }, true},
		{"after the body", func(_ int, c net.Conn, in *bufio.Reader) { greet(c, in); request(in, 1) }, true},
		{"never answers", func(_ int, c net.Conn, in *bufio.Reader) { greet(c, in); _, _ = io.Copy(io.Discard, in) }, true},
		{"half a status line", saying("HTTP/1.1 20"), true},
		{"half the headers", saying("HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\n"), true},
		{"half an answer", saying("HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\nContent-Length: 7\r\n\r\n\x01\x00"), true},
		{"garbage", saying(strings.Repeat("garbage ", 100)), true},
		{"headers without end", saying("HTTP/1.1 200 OK\r\n" + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 1000)), true},
		{"answer that does not fit its sum", saying(fmt.Sprintf("HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\nContent-Length: %d\r\n\r\n%s", len(body), body)), true},
		{"answer to nothing", saying(hello), true},
		{"answer of no length", saying("HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), true},
		{"answer of any length", saying("HTTP/1.1 200 OK\r\nPenstock-Append: 1\r\nContent-Length: 1000000000\r\n\r\n"), true},
		{"somebody else's 200", saying("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x00\x00\x00\x00"), true},
		{"somebody else's 200 with our body", saying("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n" + sealed("\x01\x00\x01")), true},
		{"somebody else's 202", saying("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"), true},
		{"100 and no more", saying("HTTP/1.1 100 Continue\r\n\r\n"), true},
		{"redirect", saying("HTTP/1.1 307 Temporary Redirect\r\nPenstock-Append: 1\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"), true},
		{"500", saying("HTTP/1.1 500 Internal Server Error\r\nPenstock-Append: 1\r\nContent-Length: 0\r\n\r\n"), true},
		{"a gateway's 502", saying("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"), true},
		{"a gateway's 503", saying("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), true},
		{"a gateway's 429", saying("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), true},
		{"its own 503", saying("HTTP/1.1 503 Service Unavailable\r\nPenstock-Append: 1\r\nContent-Length: 0\r\n\r\n"), false},
		{"403", saying("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), false},
		{"401", saying("HTTP/1.1 401 Unauthorized\r\nPenstock-Append: 1\r\nContent-Length: 0\r\n\r\n"), false},
		{"404", saying("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := nobody.Addr().String()
			if tt.owner != nil {
				bad = rawOwner(t, tt.owner)
			}
			var good storing
			address, _, _ := serve(t, remote.ServerOptions{Appender: of(&good)})
			o := remote.Options{DialTimeout: 200 * time.Millisecond, Timeout: 300 * time.Millisecond}

			// Alone, or at home: what it leaves is what there is.
			c := client(t, o, bad, address)
			_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "keyed", keyOf(0, 2), 100)})
			wantOutcome(t, err, tt.unknown)

			// With another one beside it, events without a key.
			for i := range 8 {
				id := fmt.Sprint("event-", i)
				_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, id, "", 100)})
				stored := slices.Contains(good.ids(), id)
				switch {
				case err == nil && stored:
				case err == nil:
					t.Errorf("%s is answered as stored, and is not", id)
				case !tt.unknown:
					t.Errorf("%s: %v; want it stored by the other owner", id, err)
				case stored:
					t.Errorf("%s was sent on although its outcome is unknown: %v", id, err)
				default:
					wantOutcome(t, err, true)
				}
			}
			if slices.Contains(good.ids(), "keyed") {
				t.Error("an event with a key is away from home")
			}
		})
	}
}

// wantOutcome checks that an error is unknown, or a refusal that says when to
// come back.
func wantOutcome(t *testing.T, err error, unknown bool) {
	t.Helper()
	var refused *channel.Refused
	isRefused := errors.As(err, &refused)
	switch {
	case unknown && (isRefused || !errors.Is(err, channel.ErrUnknown)):
		t.Errorf("error %v: want unknown", err)
	case !unknown && (!isRefused || !errors.Is(err, channel.ErrUnavailable) || errors.Is(err, channel.ErrUnknown) || refused.RetryAfter <= 0):
		t.Errorf("error %v: want a refusal that wraps %q and says when to come back", err, channel.ErrUnavailable)
	}
}

func TestAnswerThatCameBeforeTheBodyWasReadCounts(t *testing.T) {
	// An owner that refuses a large body without reading it, and hangs up.
	bad := rawOwner(t, func(_ int, c net.Conn, in *bufio.Reader) {
		greet(c, in)
		request(in, 0)
		_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nPenstock-Append: 1\r\nRetry-After: 7\r\nContent-Length: 5\r\n\r\nbusy\n")
	})
	c := client(t, remote.Options{}, bad)
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "large", keyOf(0, 1), 8<<20)})
	wantOutcome(t, err, false)
	var refused *channel.Refused
	if errors.As(err, &refused) && refused.RetryAfter != 7*time.Second {
		t.Errorf("come back after %v, the owner said 7s", refused.RetryAfter)
	}
}
