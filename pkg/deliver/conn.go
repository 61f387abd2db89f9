package deliver

import (
	"bufio"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

const (
	// maxHead bounds the header block of an answer, interim answers included.
	maxHead = 64 << 10

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

var errHeadTooLarge = errors.New("the header block of the answer is too large")

// conn is a connection and what an exchange on it needs. It belongs to one
// exchange at a time.
type conn struct {
	net.Conn                 // secured, for https
	raw      net.Conn        // below it
	socket   syscall.RawConn // below that; nil for a connection that has none
	in       *bufio.Reader

	headLeft int64 // bytes of header block that may still come; negative: not counted
	heard    bool  // a byte of the answer has come
	lost     error // what ended the reading

	reused  bool
	expires time.Time // while idle

	written chan error // by the second goroutine
	parts   [2][]byte  // memory for net.Buffers
}

// newConn takes a connection into use.
func newConn(c, raw net.Conn, deadline time.Time) *conn {
	cn := &conn{Conn: c, raw: raw}
	if s, ok := raw.(syscall.Conn); ok {
		cn.socket, _ = s.SyscallConn() // an error leaves nil
	}
	cn.in = bufio.NewReader(headReader{cn})
	cn.SetDeadline(deadline)
	return cn
}

// revive sets the deadline of a connection that was idle, and reports whether
// the peer seems to be still there.
func (cn *conn) revive(deadline time.Time) bool {
	cn.reused, cn.heard = true, false
	if cn.SetDeadline(deadline) != nil {
		return false
	}
	return cn.socket == nil || alive(cn.socket, cn.raw != cn.Conn)
}

// headReader is the connection as the bufio.Reader sees it: it counts while a
// header block is read.
type headReader struct{ cn *conn }

func (r headReader) Read(p []byte) (int, error) {
	cn := r.cn
	if cn.headLeft == 0 {
		cn.lost = errHeadTooLarge
		return 0, errHeadTooLarge
	}
	if cn.headLeft > 0 && int64(len(p)) > cn.headLeft {
		p = p[:cn.headLeft]
	}
	n, err := cn.Conn.Read(p)
	if n > 0 {
		cn.heard = true
		if cn.headLeft > 0 {
			cn.headLeft -= int64(n)
		}
	}
	if err != nil {
		cn.lost = err
	}
	return n, err
}

// cause finds behind an error of the parser that of the connection: what it has
// when a line breaks off it takes for the line.
func (cn *conn) cause(err error) error {
	switch cn.lost {
	case nil:
		return err
	case io.EOF:
		return io.ErrUnexpectedEOF
	}
	return cn.lost
}

// write sends the request and reports whether any of it left. What is small
// is written at once; for the rest pending is true, and the outcome comes from
// wait.
func (cn *conn) write(head, body []byte) (some, pending bool, err error) {
	if len(head)+len(body) <= writeAlone {
		n, err := cn.writeParts(head, body)
		return n > 0, false, err
	}
	// The head goes first and alone, so that whether anything left is known here.
	n, err := cn.Conn.Write(head)
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

func (cn *conn) writeParts(head, body []byte) (int64, error) {
	if len(body) == 0 {
		n, err := cn.Conn.Write(head)
		return int64(n), err
	}
	cn.parts = [2][]byte{head, body}
	parts := net.Buffers(cn.parts[:])
	n, err := parts.WriteTo(cn.Conn)
	cn.parts = [2][]byte{}
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
		cn.SetWriteDeadline(time.Now().Add(writeGrace))
	}
	return <-cn.written == nil
}
