//go:build unix

package deliver

import (
	"io"
	"net"
	"os"
	"syscall"
)

// onSocket tells that this system has sendOnSocket.
const onSocket = true

// talk is what sendOnSocket and alive keep between system calls.
type talk struct {
	step, peek func(fd uintptr) bool // made once: a method value costs memory

	stale bool
	tried bool // to write
	sent  int
	wrote error // of the writing
}

func (x *exchange) prepare() { x.step, x.peek = x.onReady, x.onPeek }

// sendOnSocket sends a request that is x.head alone, and waits for the first
// bytes of the answer, with the three system calls that this takes: a look, a
// write, a read.
//
// The look is a read that shall find nothing. It finds a peer that has ended the
// idle connection, or said something on it unasked: a socket takes bytes for a
// peer that is gone, which would cost the subscriber an attempt. However lately
// the connection was used, the look is not left out, because a server may well
// close right behind an answer. It costs no call more than an exchange with
// Write and Read: such a Read begins by finding nothing too. Here that one is made
// before the write, and the poller tells of all that comes from then on.
func (x *exchange) sendOnSocket() (some bool, err error) {
	x.stale, x.tried, x.sent, x.wrote = false, false, 0, nil
	for again := true; again; again = x.resume(err) {
		err = x.cn.socket.Read(x.step)
	}
	switch {
	case err != nil && x.tried:
		x.ended = err // while we waited for the answer
	case err != nil:
		return false, err
	case x.stale:
		return false, errStale
	case x.wrote != nil:
		return x.sent > 0, x.onCall("write", x.wrote)
	case x.sent < len(x.head):
		n, err := x.writeAll(x.head[x.sent:])
		return x.sent+n > 0, err
	}
	return true, nil
}

// onReady makes the system calls; false waits until the peer has sent something.
func (x *exchange) onReady(fd uintptr) bool {
	if !x.tried {
		if x.cn.reused {
			if _, err := retry(syscall.Read, fd, x.buf[:1]); err != syscall.EAGAIN {
				x.stale = true
				return true
			}
		}
		x.tried = true
		if x.sent, x.wrote = retry(syscall.Write, fd, x.head); x.wrote == syscall.EAGAIN {
			x.wrote = nil // the rest is for who waits
		}
		if x.wrote != nil || x.sent < len(x.head) {
			return true
		}
		if x.cn.reused {
			return false
		}
	}
	n, err := retry(syscall.Read, fd, x.buf[:])
	switch {
	case err == syscall.EAGAIN:
		return false
	case err != nil:
		x.ended = x.onCall("read", err)
	case n == 0:
		x.ended = io.EOF
	default:
		x.came(n)
		x.w = n
	}
	return true
}

// retry makes a system call until no signal interrupts it.
func retry(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		n, err := call(int(fd), b)
		if err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

// onCall is the error that a method of net.Conn would have returned.
func (x *exchange) onCall(name string, err error) error {
	return &net.OpError{Op: name, Net: "tcp", Source: x.cn.LocalAddr(), Addr: x.cn.RemoteAddr(), Err: os.NewSyscallError(name, err)}
}

// alive is the look of sendOnSocket by itself, for the other ways to send. On
// a secure connection there are TLS records, which may come at any time
// (session tickets).
func (x *exchange) alive() bool {
	x.stale = true
	return x.cn.socket.Read(x.peek) == nil && !x.stale
}

func (x *exchange) onPeek(fd uintptr) bool {
	n, _, err := syscall.Recvfrom(int(fd), x.buf[:1], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	x.stale = err != syscall.EAGAIN && err != syscall.EWOULDBLOCK && !(x.cn.secure && n > 0)
	return true
}
