package deliver

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// longPast as a deadline wakes whoever reads or writes.
var longPast = time.Unix(1, 0)

// exchange is one attempt under way.
type exchange struct {
	client   *Client
	request  *Request
	start    time.Time
	deadline time.Time
}

// run sends the request on a connection, reads the answer, and gives the
// connection back or closes it. stale means that nothing was sent because the
// peer had closed the connection while it was idle: another may be tried.
func (x *exchange) run(ctx context.Context, cn *conn, head, body []byte) (a Answer, stale bool, failure *Error) {
	// A cancelled caller wakes us by moving the deadline.
	stop := func() bool { return true }
	if ctx.Done() != nil {
		stop = context.AfterFunc(ctx, func() { cn.raw.SetDeadline(longPast) })
	}
	reuse := time.Duration(0) // how long the connection may be kept
	defer func() {
		// Once the deadline has been moved, the connection is not ours alone.
		if stop() && reuse > 0 {
			x.request.Target.pool.put(cn, reuse)
		} else {
			cn.raw.Close()
		}
	}()

	some, pending, err := cn.write(head, body)
	if err != nil && !some && cn.reused && ctx.Err() == nil && !isTimeout(err) {
		return Answer{}, true, nil
	}
	writeFailed := err
	if pending {
		defer func() {
			if !cn.wait(reuse == 0) {
				reuse = 0
			}
		}()
	}

	// Also after a failed write: a peer that refuses a request may answer and
	// close before it has read it all.
	resp, err := cn.answer()
	if err != nil {
		if err = cn.cause(err); writeFailed != nil && !cn.heard {
			err = writeFailed
		}
		return Answer{}, false, x.fail(ctx, classOf(err), err)
	}
	a.Status = resp.StatusCode
	whole, failure := x.take(ctx, cn, resp, &a)
	if whole && !resp.Close && writeFailed == nil && cn.in.Buffered() == 0 && resp.StatusCode != http.StatusSwitchingProtocols {
		reuse = keepAlive(resp.Header.Get("Keep-Alive"), x.client.o.IdleTimeout)
	}
	return a, false, failure
}

// fail makes the Error of an attempt without a usable answer.
func (x *exchange) fail(ctx context.Context, class Class, err error) *Error {
	e := &Error{Class: class, Err: err, destination: x.request.Target.display}
	switch {
	case errors.Is(ctx.Err(), context.Canceled) && class != ClassReply && class != ClassTarget:
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
