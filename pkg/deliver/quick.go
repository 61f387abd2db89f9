package deliver

import (
	"bytes"
	"net/http"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/http1"
)

// quick takes an answer of the kind that nearly all are: written without
// liberties, of known length, and all of it in the buffer. It allocates nothing
// for one of 200-299 that is no reply. ok is false where the answer is of
// another kind, or broke off: it is then still all there for http.ReadResponse,
// which judges everything else and names every error of the connection. What is
// taken here has the same meaning there.
func (x *exchange) quick(a *Answer) (failure *Error, ok bool) {
	head, n := &x.parsed, 0
	head.Restart()
	for n == 0 {
		if x.w == 0 && !x.fill() {
			return nil, false
		}
		var err error
		if n, err = http1.ParseResponse(x.buf[:x.w], head); err != nil || n == 0 && !x.fill() {
			return nil, false
		}
	}
	if head.Status < 200 || head.Status == http.StatusNotModified || head.Minor != 1 {
		return nil, false
	}
	isReply := head.Status == http.StatusOK && x.request.Target.reply && claims(head.Fields)
	if isReply && head.Get("content-encoding") != nil {
		return nil, false
	}
	body, end, ok := x.quickBody(n)
	if !ok || int64(len(body)) > x.client.o.MaxAnswer {
		return nil, false
	}

	a.Status = head.Status
	kept := body[:min(len(body), x.client.o.MaxKept)]
	switch {
	case isReply:
		failure = x.reply(headerOf(head.Fields), body, a)
	case head.Status <= 299:
		a.Body = x.cn.remember(kept)
	default:
		failure = x.refused(head.Status, string(head.Get("retry-after")))
		if len(kept) > 0 {
			failure.Body = bytes.Clone(kept)
		}
	}
	if !head.Close && x.w == end {
		x.reuse = keepAlive(string(head.Get("keep-alive")), x.client.o.IdleTimeout)
	}
	return failure, true
}

// quickBody finds the body that begins at n, and its end in the buffer.
func (x *exchange) quickBody(n int) (body []byte, end int, ok bool) {
	head := &x.parsed
	switch {
	case head.Status == http.StatusNoContent:
		return nil, n, head.ContentLength <= 0 && !head.Chunked
	case head.ContentLength > int64(len(x.buf)-n):
		return nil, 0, false
	case head.ContentLength >= 0:
		end = n + int(head.ContentLength)
		for x.w < end {
			if !x.fill() {
				return nil, 0, false
			}
		}
		return x.buf[n:end], end, true
	case head.Chunked && head.Get("trailer") == nil:
		return x.quickChunks(n)
	}
	return nil, 0, false // until the connection ends
}

func (x *exchange) quickChunks(n int) (body []byte, end int, ok bool) {
	x.chunks = x.chunks[:0]
	for c := (http1.Chunked{}); ; {
		data, used, done, err := c.Next(x.buf[n:x.w])
		if err != nil || used == 0 && !done && !x.fill() {
			return nil, 0, false
		}
		x.chunks = append(x.chunks, data...)
		if n += used; done {
			return x.chunks, n, true
		}
	}
}

// claims is event.Claims of an answer that is not in a map.
func claims(fields []http1.Field) bool {
	for i := range fields {
		if event.ClaimsField(fields[i].Name, fields[i].Value) {
			return true
		}
	}
	return false
}

// headerOf is the map of header fields that net/http would have made.
func headerOf(fields []http1.Field) http.Header {
	h := make(http.Header, len(fields))
	for i := range fields {
		h.Add(string(fields[i].Name), string(fields[i].Value))
	}
	return h
}

// remember returns the body in memory that may be kept: that of the last
// answer on the connection if it was the same, because a subscriber says the
// same most of the time.
func (cn *conn) remember(body []byte) []byte {
	const longest = 256
	switch {
	case len(body) == 0:
		return nil
	case bytes.Equal(body, cn.said):
		return cn.said
	}
	kept := bytes.Clone(body)
	if len(kept) <= longest {
		cn.said = kept
	}
	return kept
}
