package ingress

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/http1"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// firstRead is the buffer of a connection: an event of the usual size comes
// in one read with its head. A larger head makes it grow, up to MaxHeader.
const firstRead = 4 << 10

// States of a connection.
const (
	idle   int32 = iota // between two requests: whoever stops the server may close it
	busy                // a request is under way
	closed              // by whoever stops the server
)

// conn is one connection: it belongs to one goroutine, but for state.
type conn struct {
	peer   net.Conn
	server *Server
	state  atomic.Int32

	in   []byte // what stands from at to end has been read and not been used
	at   int
	end  int
	used int // what stands before is the head of the request under way
	from int // see http1.Head; counted from at

	head    http1.Request
	request request
	reply   reply
	out     []byte
	content content

	begun    time.Time // when the first byte of the request came
	answerBy time.Time // then its sender has given up

	readBy, writeBy time.Time // deadlines as they are set
}

func newConn(s *Server, c net.Conn) *conn {
	return &conn{peer: c, server: s, in: make([]byte, firstRead)}
}

// serve answers one request after another until the connection ends.
func (c *conn) serve(ctx context.Context) {
	defer c.peer.Close()
	defer c.recovered()
	for first := true; c.await(first) && c.exchange(ctx); first = false {
		c.state.Store(idle)
		if c.server.parting.Load() {
			return // whoever closes what is idle may have passed by
		}
	}
}

// recovered ends a connection whose request made us panic, and no other.
func (c *conn) recovered() {
	if cause := recover(); cause != nil {
		c.server.log.Error("http server", telemetry.KeyError, cause, "stack", telemetry.Stack(debug.Stack()))
	}
}

// idleSlack is by which part of it a connection may be idle for longer than
// IdleTimeout. To move a deadline costs as much as to parse a head: it is set
// for a little longer, and stays where that is enough.
const idleSlack = 16

// await waits for the first byte of the next request.
func (c *conn) await(first bool) bool {
	if c.at == c.end {
		c.at, c.end = 0, 0
		if len(c.in) != firstRead {
			c.in = make([]byte, firstRead)
		}
		now, slack := c.begun, c.server.idleTimeout/idleSlack
		if first {
			c.readUntil(time.Now().Add(c.server.headerTimeout))
		} else if by := now.Add(c.server.idleTimeout); c.readBy.Before(by) || c.readBy.Sub(by) > slack {
			c.readUntil(by.Add(slack))
		}
		n, err := c.peer.Read(c.in)
		if err != nil {
			return false
		}
		c.end = n
	}
	c.used = 0
	c.begun = time.Now()
	c.answerBy = c.begun.Add(c.server.answerTimeout)
	return c.state.CompareAndSwap(idle, busy)
}

func (c *conn) readUntil(t time.Time) {
	c.readBy = t
	_ = c.peer.SetReadDeadline(t) // an error shows at the next read
}

// exchange reads one request and answers it. It reports whether another may follow.
func (c *conn) exchange(ctx context.Context) bool {
	end, refusal := c.readHead()
	if refusal.code != 0 {
		return c.refuse(refusal)
	}
	if end == 0 {
		return false
	}
	if err := c.head.Parse(c.in[c.at : c.at+end]); err != nil {
		return c.refuse(refusalOf(err))
	}
	path, ok := pathOf(c.head.Method, c.head.Target)
	if !ok {
		return c.refuse(answer{code: http.StatusBadRequest, reason: "the target is no path and no URL of http"})
	}
	c.at, c.from = c.at+end, 0
	c.used = c.at
	c.content.begin(&c.head)
	c.understand(path)
	c.server.handler.serve(ctx, &c.request, &c.reply)
	clear(c.request.fields)
	return c.answer(c.head.Close || c.reply.close || c.server.lame.Load())
}

// understand makes the head what the Handler takes.
func (c *conn) understand(path string) {
	q := &c.request
	q.method, q.path, q.body, q.fields = asString(c.head.Method), path, c, q.fields[:0]
	q.length = max(0, c.head.ContentLength)
	if c.head.Chunked {
		q.length = -1
	}
	for i := range c.head.Fields {
		f := &c.head.Fields[i]
		lower(f.Name)
		q.fields = append(q.fields, event.Field{Name: asString(f.Name), Value: asString(f.Value)})
	}
}

// lower makes a name lower case where it stands.
func lower(name []byte) {
	for i, b := range name {
		if 'A' <= b && b <= 'Z' {
			name[i] = b | 0x20
		}
	}
}

// pathOf takes the escaped path out of a target: that is all of a target that
// means something here (RFC 9112, 3.2).
func pathOf(method, target []byte) (path string, ok bool) {
	switch {
	case target[0] == '/':
		if query := bytes.IndexByte(target, '?'); query >= 0 {
			target = target[:query]
		}
		return asString(target), true
	case string(target) == "*":
		return "*", string(method) == http.MethodOptions
	case string(method) == http.MethodConnect:
		return "", true
	}
	u, err := url.ParseRequestURI(string(target))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", false
	}
	return u.EscapedPath(), true
}

// readHead reads until a head is complete and returns its length; 0 where the
// connection has ended before.
func (c *conn) readHead() (end int, refusal answer) {
	limit := c.server.maxHeader
	for waited := false; ; {
		var err error
		if end, c.from, err = http1.Head(c.in[c.at:c.end], c.from); err != nil {
			return 0, refusalOf(err)
		}
		switch {
		case end > limit, end == 0 && c.end-c.at >= limit:
			return 0, answer{code: http.StatusRequestHeaderFieldsTooLarge, reason: "headers are too large"}
		case end > 0:
			return end, answer{}
		case !waited:
			waited = true
			c.readUntil(c.begun.Add(c.server.headerTimeout))
		}
		switch err := c.fill(); {
		case err == nil:
		case isTimeout(err):
			return 0, answer{code: http.StatusRequestTimeout, reason: "headers came too slowly"}
		case errors.Is(err, io.EOF):
			return 0, answer{code: http.StatusBadRequest, reason: "headers ended early"}
		default:
			return 0, answer{}
		}
	}
}

// fill reads more behind what is there, for which it makes room. The head of
// the request under way stays where it is.
func (c *conn) fill() error {
	if c.at > c.used {
		c.end = c.used + copy(c.in[c.used:], c.in[c.at:c.end])
		c.at = c.used
	}
	switch {
	case c.used > 0 && len(c.in)-c.used < firstRead/2:
		c.replace(firstRead)
	case c.end == len(c.in):
		c.replace(min(4*len(c.in), c.server.maxHeader+firstRead))
	}
	n, err := c.peer.Read(c.in[c.end:])
	c.end += n
	if n > 0 {
		return nil
	}
	return err
}

// replace goes on in another buffer. Whoever has views of the old one keeps it.
func (c *conn) replace(size int) {
	grown := make([]byte, size)
	c.end = copy(grown, c.in[c.at:c.end])
	c.in, c.at, c.used = grown, 0, 0
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// refusalOf is the answer to a head that cannot be read.
func refusalOf(err error) answer {
	if e, ok := errors.AsType[*http1.Error](err); ok {
		return answer{code: e.Status, reason: e.Reason}
	}
	return answer{code: http.StatusBadRequest, reason: err.Error()}
}

// refuse answers what is no request. It ends the connection, for nobody knows
// where the next request would begin.
func (c *conn) refuse(said answer) bool {
	c.head.Minor, c.request.method, c.content = 1, "", content{continued: true}
	c.server.handler.refuse(&c.reply, c.server.handler.unknown, said)
	return c.answer(true)
}
