package deliver

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// writeAlone is how much is written before the answer is looked at. A
	// socket's empty send buffer takes that much without its peer's doing, so
	// a peer that answers before it reads cannot block us both. More than that is written
	// by a second goroutine.
	writeAlone = 16 << 10

	// copyBody is up to which size a body is copied behind its header: one
	// buffer is cheaper to write than two.
	copyBody = 8 << 10

	// writeGrace is how long a request may still be on its way out when its
	// answer is complete.
	writeGrace = 50 * time.Millisecond
)

// longPast as a deadline wakes whoever reads or writes.
var longPast = time.Unix(1, 0)

// conn is a connection. It belongs to one exchange at a time, or to its pool.
type conn struct {
	net.Conn                 // secured, for https
	raw      net.Conn        // below it
	socket   syscall.RawConn // below that; nil for a connection that has none
	secure   bool
	plain    bool // a TCP connection and nothing around it

	reused   bool
	expires  time.Time // while idle
	deadline time.Time // as set on the connection, not later than the exchange's

	done <-chan struct{} // of the context that wakes the connection's user
	stop func() bool     // ends that; nil where nothing has been asked for
	last <-chan struct{} // what done was when the connection became idle
	wake func()

	written chan error // by the second goroutine
	parts   [2][]byte  // memory for buffers
	buffers net.Buffers

	said []byte // a short body that an answer had here
}

func newConn(c, raw net.Conn) *conn {
	cn := &conn{Conn: c, raw: raw, secure: c != raw}
	_, cn.plain = c.(*net.TCPConn)
	if s, ok := raw.(syscall.Conn); ok {
		cn.socket, _ = s.SyscallConn() // an error leaves nil
	}
	cn.plain = cn.plain && cn.socket != nil
	cn.wake = func() { raw.SetDeadline(longPast) }
	return cn
}

// Close ends the connection in order.
func (cn *conn) Close() error {
	cn.unwatch()
	return cn.Conn.Close()
}

// abort ends it at once and without a goodbye, which could block.
func (cn *conn) abort() {
	cn.unwatch()
	cn.raw.Close()
}

// watch has a cancelled ctx wake whoever uses the connection. It reports
// whether the connection is fit for use: one that an earlier context has woken,
// or is just about to, is not.
func (cn *conn) watch(ctx context.Context) bool {
	done := ctx.Done()
	if done == cn.done {
		return true
	}
	if !cn.unwatch() {
		return false
	}
	if cn.done = done; done != nil {
		cn.stop = context.AfterFunc(ctx, cn.wake)
	}
	return true
}

// rest makes a connection ready to be idle, and reports whether it is still fit
// for use. For a context that has come twice in a row the watch stands on, since
// the next exchange is likely under it too. One that is made for an attempt ends
// with it and shall not take the connection along.
func (cn *conn) rest() bool {
	if cn.done == nil || cn.done == cn.last {
		return true
	}
	cn.last = cn.done
	return cn.unwatch()
}

// unwatch takes back what watch has asked for, and reports whether that was in time.
func (cn *conn) unwatch() bool {
	stop := cn.stop
	cn.done, cn.stop = nil, nil
	return stop == nil || stop()
}

// arm sees to it that the connection ends the exchange's waiting. To move a
// deadline costs as much as to parse an answer, so that of an earlier exchange
// stays while it is not later than this one's and at least half the time away. If
// it passes while we wait, resume moves it then: no exchange ends early or late.
// A secure connection cannot write on after a timeout, so there each exchange
// sets its own.
func (cn *conn) arm(now, deadline time.Time, exactly bool) error {
	if !exactly && !cn.secure && !cn.deadline.After(deadline) && cn.deadline.Sub(now) > deadline.Sub(now)/2 {
		return nil
	}
	cn.deadline = deadline
	return cn.Conn.SetDeadline(deadline)
}

// resume reports whether err is only that the deadline of an earlier exchange
// has passed, and if so sets ours: what was interrupted can go on.
func (x *exchange) resume(err error) bool {
	if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !x.cn.deadline.Before(x.deadline) {
		return false
	}
	// Who cancels says so first and wakes us then. So if nobody has said so
	// after the deadline was moved, the waking is still to come.
	return x.cn.arm(time.Now(), x.deadline, true) == nil && x.ctx.Err() == nil
}

// write sends the request and reports whether any of it left. What is small
// is written at once; for the rest pending is true, and the outcome comes from
// wait.
func (x *exchange) write(body []byte) (some, pending bool, err error) {
	cn := x.cn
	if len(body) == 0 {
		n, err := x.writeAll(x.head)
		return n > 0, false, err
	}
	if len(x.head)+len(body) <= writeAlone {
		cn.parts = [2][]byte{x.head, body}
		cn.buffers = cn.parts[:]
		for again := true; again; again = x.resume(err) {
			var n int64
			n, err = cn.buffers.WriteTo(cn.Conn) // and cuts off what it has written
			some = some || n > 0
		}
		cn.parts, cn.buffers = [2][]byte{}, nil
		return some, false, err
	}
	if err := cn.arm(x.start, x.deadline, true); err != nil {
		return false, false, err
	}
	// The head goes first and alone, so that whether anything left is known here.
	n, err := cn.Conn.Write(x.head)
	if err != nil {
		return n > 0, false, err
	}
	if cn.written == nil {
		cn.written = make(chan error, 1)
	}
	go func() {
		_, err := cn.Conn.Write(body)
		cn.written <- err
	}()
	return true, true, nil
}

// writeAll is a Write that an old deadline does not end.
func (x *exchange) writeAll(b []byte) (n int, err error) {
	for again := true; again; again = x.resume(err) {
		var m int
		m, err = x.cn.Conn.Write(b[n:])
		n += m
	}
	return n, err
}

// wait ends the second goroutine and reports whether it wrote the whole
// request. With abort it is not waited for: the connection is closed under it.
// Without, it gets a moment to report; an answer that overtakes its request
// by more than that is final, and the rest of the request of no use to anybody.
func (cn *conn) wait(abort bool) bool {
	if abort {
		cn.raw.Close()
	} else {
		cn.Conn.SetWriteDeadline(time.Now().Add(writeGrace))
		cn.deadline = time.Time{} // no longer that of both directions
	}
	return <-cn.written == nil
}
