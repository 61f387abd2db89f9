package deliver

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// maxInterim is how many 1xx answers may come before the real one.
const maxInterim = 5

// take reads the answer and judges it. writeFailed is what became of the request.
func (x *exchange) take(writeFailed error) (a Answer, failure *Error) {
	if writeFailed == nil {
		if failure, ok := x.quick(&a); ok {
			return a, failure
		}
	}
	return x.takeAny(writeFailed)
}

// takeAny takes an answer of any kind, from its beginning.
func (x *exchange) takeAny(writeFailed error) (a Answer, failure *Error) {
	resp, err := x.answer()
	if err != nil {
		if err = x.cause(err); writeFailed != nil && !x.heard {
			err = writeFailed
		}
		return Answer{}, x.fail(classOf(err), err)
	}
	a.Status = resp.StatusCode
	whole, failure := x.judge(resp, &a)
	more := x.slow.Buffered() > 0 || x.r < x.w
	if whole && !more && !resp.Close && writeFailed == nil && resp.StatusCode != http.StatusSwitchingProtocols {
		x.reuse = keepAlive(resp.Header.Get("Keep-Alive"), x.client.o.IdleTimeout)
	}
	return a, failure
}

// answer reads the header block of the final answer.
func (x *exchange) answer() (*http.Response, error) {
	if x.slow == nil {
		x.slow = bufio.NewReader(x)
	} else {
		x.slow.Reset(x)
	}
	for range maxInterim + 1 {
		resp, err := http.ReadResponse(x.slow, nil)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode < 100:
			return nil, fmt.Errorf("malformed HTTP status %d", resp.StatusCode)
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			x.headLeft = -1
			return resp, nil
		}
	}
	return nil, fmt.Errorf("more than %d interim answers", maxInterim)
}

// judge reads the body of an answer and judges the whole. whole reports
// whether the body was read to its end.
func (x *exchange) judge(resp *http.Response, a *Answer) (whole bool, failure *Error) {
	switch {
	case resp.StatusCode == http.StatusOK && x.request.Target.reply && event.Claims(resp.Header):
		return x.takeReply(resp, a)

	case resp.StatusCode >= 200 && resp.StatusCode <= 299:
		// Read to the end, or the subscriber may not be done: an answer that
		// breaks off is no answer. Past the bound it has had its say.
		kept, err := readUpTo(resp, min(int64(x.client.o.MaxKept), x.client.o.MaxAnswer))
		if len(kept) > 0 {
			a.Body = kept
		}
		if err == nil {
			whole, err = drain(resp, x.client.o.MaxAnswer-int64(len(kept)))
		}
		if err != nil {
			err = x.cause(err)
			failure = x.fail(classOf(err), err)
			failure.Status = resp.StatusCode
		}
		return whole, failure
	}

	failure = x.refused(resp.StatusCode, resp.Header.Get("Retry-After"))
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return false, failure // what follows is not HTTP
	}
	// The status stands, whatever becomes of the body.
	kept, err := readUpTo(resp, int64(x.client.o.MaxKept))
	if len(kept) > 0 {
		failure.Body = kept
	}
	if err != nil {
		return false, failure
	}
	whole, _ = drain(resp, x.client.o.MaxAnswer-int64(len(kept)))
	return whole, failure
}

// refused makes the Error of an answer outside 200-299.
func (x *exchange) refused(status int, retryAfter string) *Error {
	e := &Error{
		Class:       ClassStatus,
		Status:      status,
		RetryAfter:  RetryAfter(retryAfter, time.Now()),
		destination: x.request.Target.display,
		reason:      "status " + strconv.Itoa(status),
	}
	if status >= 300 && status <= 399 {
		e.reason += ": redirects are not followed"
	}
	return e
}

// takeReply reads a body that claims to be a CloudEvent.
func (x *exchange) takeReply(resp *http.Response, a *Answer) (whole bool, failure *Error) {
	limit := x.client.o.MaxAnswer
	tooLarge := fmt.Errorf("reply of more than %d bytes", limit)
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return false, x.badReply(ClassReply, fmt.Errorf("reply in content encoding %q, which was not asked for", clip(coding)))
	}
	if resp.ContentLength > limit {
		return false, x.badReply(ClassReply, tooLarge)
	}
	body, err := readUpTo(resp, limit+1)
	if err != nil {
		err = x.cause(err)
		return false, x.badReply(classOf(err), err)
	}
	if int64(len(body)) > limit {
		return false, x.badReply(ClassReply, tooLarge)
	}
	return true, x.reply(resp.Header, body, a)
}

// reply makes events of a body that claims to be a CloudEvent.
func (x *exchange) reply(h http.Header, body []byte, a *Answer) *Error {
	events, err := decode(h, body, x.request.Stamp)
	if err != nil {
		e := x.badReply(ClassReply, fmt.Errorf("reply: %w", err))
		if kept := body[:min(len(body), x.client.o.MaxKept)]; len(kept) > 0 {
			e.Body = bytes.Clone(kept)
		}
		return e
	}
	a.Replies = events
	return nil
}

func (x *exchange) badReply(class Class, err error) *Error {
	e := x.fail(class, err)
	e.Status = http.StatusOK
	return e
}

// decoders are for replies. Each is its borrower's alone, since the stamp
// differs from attempt to attempt.
var decoders = sync.Pool{New: func() any { return new(event.Decoder) }}

// decode reads the events of a reply.
func decode(h http.Header, body []byte, stamp func(*event.Builder) error) ([]event.Event, error) {
	d := decoders.Get().(*event.Decoder)
	defer decoders.Put(d)
	d.Stamp = stamp
	events, _, err := d.Decode(h, body)
	d.Stamp = nil
	return events, err
}

// readUpTo reads at most n bytes of a body.
func readUpTo(resp *http.Response, n int64) ([]byte, error) {
	if resp.Body == http.NoBody || resp.ContentLength == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	// What the peer announces is believed only as far as it costs little.
	if announced := min(resp.ContentLength, n); announced > 0 {
		b.Grow(int(min(announced, 64<<10)) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(resp.Body, n))
	return b.Bytes(), err
}

// drain throws away at most n more bytes of a body and reports whether that
// was all of it. It does not close the body, because that would read on for ever.
func drain(resp *http.Response, n int64) (whole bool, err error) {
	if resp.Body == http.NoBody {
		return true, nil
	}
	read, err := io.Copy(io.Discard, io.LimitReader(resp.Body, n+1))
	return err == nil && read <= n, err
}

// keepAlive reads how long a peer keeps an idle connection ("timeout=5,
// max=100", RFC 2068, 19.7.1.1), less a second for what is on the way. Without
// a word from it that is longest.
func keepAlive(header string, longest time.Duration) time.Duration {
	for header != "" {
		var part string
		part, header, _ = strings.Cut(header, ",")
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if strings.EqualFold(name, "timeout") {
			seconds, err := strconv.ParseUint(value, 10, 16)
			if err != nil {
				return longest
			}
			return min(time.Duration(seconds)*time.Second-time.Second, longest)
		}
	}
	return longest
}
