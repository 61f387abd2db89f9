package deliver

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// exchange is one attempt under way, and memory that the next one can have.
type exchange struct {
	client   *Client
	request  *Request
	ctx      context.Context
	start    time.Time
	deadline time.Time

	cn      *conn
	pending bool          // the second goroutine writes
	reuse   time.Duration // how long the connection may be kept; 0: it is closed
	took    time.Duration // until the answer was complete

	head []byte // all of the request that is written first
	json []byte // body in structured mode

	input
	talk
}

var exchanges = sync.Pool{New: func() any {
	x := &exchange{}
	x.prepare()
	return x
}}

// free gives the memory back, unless one large request has made too much of it.
func (x *exchange) free() {
	const keep = 64 << 10
	x.client, x.request, x.ctx = nil, nil, nil
	if cap(x.head) <= keep && cap(x.json) <= keep && cap(x.chunks) <= keep {
		exchanges.Put(x)
	}
}

// attempt makes the attempt of a Send.
func (x *exchange) attempt(c *Client, ctx context.Context, r *Request) (a Answer, failure *Error) {
	x.client, x.ctx, x.request, x.start, x.took = c, ctx, r, time.Now(), 0
	x.deadline = x.start.Add(orDefault(r.Timeout, DefaultTimeout))
	if at, ok := ctx.Deadline(); ok && at.Before(x.deadline) {
		x.deadline = at
	}
	a, failure = x.deliver()
	if x.took == 0 {
		x.took = time.Since(x.start)
	}
	a.Duration, a.Ended = x.took, x.start.Add(x.took)
	return a, failure
}

func (x *exchange) deliver() (Answer, *Error) {
	t := x.request.Target
	switch {
	case t.err != nil:
		return Answer{}, x.fail(ClassTarget, t.err)
	case x.ctx.Err() != nil:
		return Answer{}, x.fail(ClassCancelled, x.ctx.Err())
	}
	body, err := x.compose()
	if err != nil {
		return Answer{}, x.fail(ClassEvent, err)
	}
	for {
		cn := t.pool.get(x.start)
		if cn == nil {
			if cn, err = x.client.connect(x.ctx, t.pool, x.deadline); err != nil {
				return Answer{}, x.fail(dialClass(err), err)
			}
		}
		a, stale, failure := x.run(cn, body)
		if !stale {
			return a, failure
		}
	}
}

// run sends the request on a connection, reads the answer, and gives the
// connection back or closes it. stale means that nothing was sent because the
// peer had closed the connection while it was idle: another may be tried.
func (x *exchange) run(cn *conn, body []byte) (a Answer, stale bool, failure *Error) {
	x.cn, x.pending, x.reuse = cn, false, 0
	defer x.release()
	if !cn.watch(x.ctx) {
		return Answer{}, true, nil
	}
	err := cn.arm(x.start, x.deadline, false)
	if x.ctx.Err() != nil { // its waking may have come before our deadline
		return Answer{}, false, x.fail(ClassCancelled, x.ctx.Err())
	}
	x.input.begin()
	some := false
	if err == nil {
		some, err = x.send(body)
	}
	if err != nil && !some && cn.reused && x.ctx.Err() == nil && !isTimeout(err) {
		return Answer{}, true, nil
	}

	// Also after a failed write: a peer that refuses a request may answer and
	// close before it has read it all.
	a, failure = x.take(err)
	return a, false, failure
}

// send sends the request and reports whether any of it left.
func (x *exchange) send(body []byte) (some bool, err error) {
	if len(body) == 0 && onSocket && x.cn.plain {
		return x.sendOnSocket()
	}
	if x.cn.reused && x.cn.socket != nil && !x.alive() {
		return false, errStale
	}
	some, x.pending, err = x.write(body)
	return some, err
}

var errStale = errors.New("the peer has ended the idle connection")

// release gives the connection back or closes it.
func (x *exchange) release() {
	cn := x.cn
	x.cn = nil
	if x.pending && !cn.wait(x.reuse == 0) {
		x.reuse = 0
	}
	if x.reuse == 0 || x.ctx.Err() != nil || !cn.rest() {
		cn.abort()
		return
	}
	x.took = time.Since(x.start)
	x.request.Target.pool.put(cn, x.start.Add(x.took), x.reuse)
}

// fail makes the Error of an attempt without a usable answer.
func (x *exchange) fail(class Class, err error) *Error {
	e := &Error{Class: class, Err: err, destination: x.request.Target.display}
	switch {
	case errors.Is(x.ctx.Err(), context.Canceled) && class != ClassReply && class != ClassTarget:
		e.Class, e.Err, e.reason = ClassCancelled, context.Canceled, "cancelled by the sender"
	case class == ClassTimeout, isTimeout(err):
		e.Class, e.reason = ClassTimeout, "timeout after "+x.deadline.Sub(x.start).String()
	case class == ClassReset:
		e.reason = "connection ended before the answer: " + clip(err.Error())
	default:
		e.reason = clip(err.Error())
	}
	return e
}

// classOf tells what went wrong between the first byte written and the last
// one read.
func classOf(err error) Class {
	var network *net.OpError
	switch {
	case isTimeout(err):
		return ClassTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed):
		return ClassReset
	}
	return ClassAnswer
}

// isTimeout reports whether our own time was up. A timeout of the system's (of a
// connect, of a name server) is another failure and keeps its own words.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// clip makes text from outside fit for a log line: at most 256 bytes of oneLine.
func clip(s string) string {
	const longest = 256
	if len(s) > longest {
		cut := longest
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	return oneLine(s)
}

// oneLine replaces what an attribute or a log line cannot hold: control
// characters and what is not UTF-8. Other text comes back unchanged.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
