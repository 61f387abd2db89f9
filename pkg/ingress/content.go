package ingress

import (
	"io"
	"net"
	"time"

	"github.com/penstock-events/penstock/pkg/http1"
)

// maxDiscard is how much of a body that nobody wants is read so that the
// connection can stay.
const maxDiscard = 256 << 10

// content is how far the body of a request has been read.
type content struct {
	left      int64 // bytes that are still to come; for chunks not 0 before the last
	chunked   bool
	chunks    http1.Chunked
	piece     []byte // of a chunk that has been read and not been used
	continued bool   // the sender does not wait for a 100
	timed     bool   // the deadline for the body is set
}

const continueLine = "HTTP/1.1 100 Continue\r\n\r\n"

func (b *content) begin(head *http1.Request) {
	*b = content{left: max(0, head.ContentLength), continued: !head.Expects}
	if head.Chunked {
		b.left, b.chunked = 1, true
	}
}

// Whole implements source.
func (c *conn) Whole() ([]byte, bool) {
	b := &c.content
	if b.chunked || b.left > int64(c.end-c.at) {
		return nil, false
	}
	whole := c.in[c.at:][:b.left]
	c.at += len(whole)
	b.left = 0
	return whole, true
}

// Read implements source.
func (c *conn) Read(p []byte) (n int, err error) {
	b := &c.content
	if b.left == 0 {
		return 0, io.EOF
	}
	if !b.continued {
		b.continued = true
		if _, err := io.WriteString(c.peer, continueLine); err != nil {
			return 0, err
		}
	}
	if b.chunked {
		return c.readChunk(p)
	}
	p = p[:min(int64(len(p)), b.left)]
	if c.at < c.end {
		n = copy(p, c.in[c.at:c.end])
		c.at += n
	} else {
		c.time()
		n, err = c.peer.Read(p)
	}
	if b.left -= int64(n); b.left == 0 {
		return n, io.EOF
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// readChunk reads from the chunk under way, or goes on to the next.
func (c *conn) readChunk(p []byte) (int, error) {
	b := &c.content
	for {
		if len(b.piece) > 0 {
			n := copy(p, b.piece)
			b.piece = b.piece[n:]
			return n, nil
		}
		piece, used, done, err := b.chunks.Next(c.in[c.at:c.end])
		if err != nil {
			return 0, err
		}
		b.piece = piece
		c.at += used
		if done {
			b.left = 0
			return 0, io.EOF
		}
		if used == 0 {
			c.time()
			if err := c.fill(); err != nil {
				if err == io.EOF {
					err = io.ErrUnexpectedEOF
				}
				return 0, err
			}
		}
	}
}

// time sets the deadline for the first part of the body.
func (c *conn) time() {
	if !c.content.timed {
		c.content.timed = true
		c.readUntil(c.begun.Add(c.server.handler.bodies.timeout))
	}
}

// Extend implements source.
func (c *conn) Extend(body, answer time.Duration) {
	now := time.Now()
	c.readUntil(now.Add(body))
	c.answerBy = now.Add(answer)
}

// discard reads what the Handler has left of a body. It reports whether that
// came to its end, so that the next request may follow.
func (c *conn) discard() bool {
	b := &c.content
	if b.chunked {
		var sink [4 << 10]byte
		for n := 0; b.left > 0; {
			got, err := c.Read(sink[:])
			if n += got; n > maxDiscard || err != nil && err != io.EOF {
				return false
			}
		}
		return true
	}
	for b.left > 0 {
		n := min(b.left, int64(c.end-c.at))
		c.at += int(n)
		if b.left -= n; b.left > 0 {
			c.time()
			if c.fill() != nil {
				return false
			}
		}
	}
	return true
}

// linger waits for a moment for a sender that is still writing: were the
// connection closed under it, it would see a reset and perhaps no answer.
func linger(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(partingTime))
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	var sink [512]byte
	for range 128 { // 64 KiB: what is more is no event of a moment
		if _, err := conn.Read(sink[:]); err != nil {
			return
		}
	}
}
