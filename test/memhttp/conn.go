package memhttp

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// bufferSize is what one direction of a connection holds before a writer has
// to wait, about what a socket holds.
const bufferSize = 64 << 10

// Conn is one end of a connection.
type Conn struct {
	in, out       *stream // out is the peer's in
	local, remote net.Addr
	ended         func() // once, when this end is closed or reset; nil for nothing
}

// Pipe makes a connection between two addresses and returns both ends.
func Pipe(a, b net.Addr) (*Conn, *Conn) { return pipe(a, b, nil) }

// pipe is Pipe over a link, nil for one that is perfect.
func pipe(a, b net.Addr, l *Link) (*Conn, *Conn) {
	ab, ba := newStream(l), newStream(l)
	return &Conn{in: ba, out: ab, local: a, remote: b}, &Conn{in: ab, out: ba, local: b, remote: a}
}

// Read waits for bytes, the peer's end (io.EOF), a reset or the deadline.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.wrap("read", err)
}

// Write waits until all of p is in the peer's buffer. After the peer's Close
// it is EPIPE: unlike a socket it never swallows bytes for a peer that is gone.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.wrap("write", err)
}

// Close ends the connection in order: the peer reads what was written, then
// io.EOF.
func (c *Conn) Close() error {
	c.out.end(io.EOF)
	c.in.abandon()
	if c.ended != nil {
		c.ended()
	}
	return nil
}

// CloseWrite ends the direction from here to the peer, who reads what was
// written and then io.EOF. The other direction stays open.
func (c *Conn) CloseWrite() error {
	c.out.end(io.EOF)
	return nil
}

// Reset ends the connection hard: both ends get ECONNRESET, and what was on
// the way is lost.
func (c *Conn) Reset() {
	c.out.reset()
	c.in.reset()
	if c.ended != nil {
		c.ended()
	}
}

func (c *Conn) LocalAddr() net.Addr  { return c.local }
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of net.Conn;
// they also end a Read or Write that is waiting.
func (c *Conn) SetDeadline(at time.Time) error {
	c.in.readBy.set(at)
	c.out.writeBy.set(at)
	return nil
}

func (c *Conn) SetReadDeadline(at time.Time) error {
	c.in.readBy.set(at)
	return nil
}

func (c *Conn) SetWriteDeadline(at time.Time) error {
	c.out.writeBy.set(at)
	return nil
}

func (c *Conn) wrap(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
}

// stream is one direction of a connection.
type stream struct {
	mu      sync.Mutex
	changed *sync.Cond // a sync.Cond blocks durably in a bubble
	buf     []byte
	ended   error // what the reader gets after buf, nil while there may be more
	shut    bool  // the writer has closed
	gone    bool  // the reader has closed: writes are EPIPE, reads are net.ErrClosed
	readBy  deadline
	writeBy deadline
	transit
}

func newStream(l *Link) *stream {
	s := &stream{transit: transit{link: l}}
	s.changed = sync.NewCond(&s.mu)
	s.readBy.stream, s.writeBy.stream = s, s
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case s.readBy.passed:
			return 0, os.ErrDeadlineExceeded
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			s.changed.Broadcast()
			return n, nil
		case s.ended != nil:
			return 0, s.ended
		case len(p) == 0:
			return 0, nil
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	written := 0
	for {
		switch {
		case s.ended != nil && s.ended != io.EOF:
			return written, s.ended
		case s.shut:
			return written, net.ErrClosed
		case s.writeBy.passed:
			return written, os.ErrDeadlineExceeded
		case s.gone && !s.link.isCut(): // else nobody could have told us
			return written, syscall.EPIPE
		case written == len(p):
			return written, nil
		}
		if room := bufferSize - len(s.buf) - s.underway; room > 0 {
			n := min(room, len(p)-written)
			s.send(p[written:written+n], nil)
			written += n
			continue
		}
		s.changed.Wait()
	}
}

// end is the writer's: no more bytes, and what the reader gets instead.
func (s *stream) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil && !s.shut {
		s.shut = true
		s.send(nil, err)
	}
	s.changed.Broadcast()
}

// abandon is the reader's: nobody will read any more.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	s.forget()
	s.readBy.stop()
	s.changed.Broadcast()
}

func (s *stream) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.buf = syscall.ECONNRESET, nil
	s.forget()
	s.changed.Broadcast()
}

// deadline is a time that wakes the stream's waiters. Its fields are guarded
// by the stream's mutex.
type deadline struct {
	stream *stream
	timer  *time.Timer
	passed bool
}

func (d *deadline) set(at time.Time) {
	s := d.stream
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.passed = false
	if at.IsZero() {
		return
	}
	left := time.Until(at)
	if left <= 0 {
		d.passed = true
		s.changed.Broadcast()
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if d.timer == timer { // not replaced meanwhile
			d.passed = true
			s.changed.Broadcast()
		}
	})
	d.timer = timer
}

// stop forgets a timer that is set. The stream's mutex is held.
func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
