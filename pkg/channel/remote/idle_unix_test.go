//go:build unix

package remote_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestConnectionClosedWhileIdleCostsNothing(t *testing.T) {
	// A relay that hangs up after each answer but the hello's.
	var log storing
	upstream, _, _ := serve(t, remote.ServerOptions{Appender: of(&log)})
	cutting := rawOwner(t, func(_ int, c net.Conn, in *bufio.Reader) {
		up, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer up.Close()
		for range 2 {
			r, err := http.ReadRequest(in)
			if err != nil || r.Write(up) != nil {
				return
			}
			resp, err := http.ReadResponse(bufio.NewReader(up), r)
			if err != nil || resp.Write(c) != nil {
				return
			}
		}
	})
	var mu sync.Mutex
	var conns []*net.TCPConn
	c := client(t, remote.Options{Conns: 1, Pulse: time.Hour, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err == nil {
			mu.Lock()
			conns = append(conns, conn.(*net.TCPConn))
			mu.Unlock()
		}
		return conn, err
	}}, cutting)
	for i := range 20 {
		if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, fmt.Sprint(i), "", 10)}); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
		mu.Lock()
		last := conns[len(conns)-1]
		mu.Unlock()
		eventually(t, "the end of the connection has arrived", func() bool { return ended(last) })
	}
	if n := len(log.ids()); n != 20 || len(conns) != 20 {
		t.Errorf("%d events stored of 20, on %d connections", n, len(conns))
	}
}

// ended reports whether the peer's end of the stream has arrived.
func ended(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		over = n == 0 && err == nil
		return true
	})
	return over || err != nil
}
