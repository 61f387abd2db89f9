package ingress

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// progress is how much of a body must arrive within one body timeout. The
// first such part has the server's ReadTimeout.
const progress = 64 << 10

// firstSize is the buffer every body begins with. It grows by steps of four as
// bytes arrive, whatever length was announced: a thousand senders that
// announce 1 MiB and send nothing hold 4 KiB each.
const firstSize = 4 << 10

// bodies receives request bodies into pooled buffers within one budget. (What
// has come together with its head needs none.) What
// it hands out is free for the next request as soon as it is given back, so
// nobody may keep a slice of it; event.Builder copies.
type bodies struct {
	max     int64         // of one body
	budget  int64         // of all buffers held
	timeout time.Duration // for each progress bytes
	answer  time.Duration // from the last of those to the end of the answer
	report  func(delta int64)

	held  atomic.Int64
	sizes []int // of buffers: firstSize, times four, ..., max+1
	pools []sync.Pool
}

// body is one request's. Its zero value is an empty body that holds no buffer.
type body struct {
	bytes  []byte
	buffer *[]byte
	size   int // index into sizes
}

func newBodies(max, budget int64, timeout, answer time.Duration, report func(delta int64)) *bodies {
	b := &bodies{max: max, budget: budget, timeout: timeout, answer: answer, report: report}
	for size := int64(firstSize); size < b.max; size *= 4 {
		b.sizes = append(b.sizes, int(size))
	}
	// One byte more than allowed, to see whether more was sent.
	b.sizes = append(b.sizes, int(b.max+1))
	b.pools = make([]sync.Pool, len(b.sizes))
	return b
}

// admit looks at what the header says of the body.
func (b *bodies) admit(q *request) answer {
	for i := range q.fields {
		f := &q.fields[i]
		if f.Name == "content-encoding" && f.Value != "" && !strings.EqualFold(f.Value, "identity") {
			// Inflating what a stranger sent is a bound of its own that nobody asked for.
			return answer{code: http.StatusUnsupportedMediaType, close: true,
				reason: "Content-Encoding: events are taken as they are, without compression"}
		}
	}
	if q.length > b.max {
		return b.tooLarge()
	}
	return answer{}
}

func (b *bodies) tooLarge() answer {
	return answer{code: http.StatusRequestEntityTooLarge, close: true,
		reason: "body is too large: at most " + strconv.FormatInt(b.max, 10) + " bytes"}
}

// read receives the body. The caller gives back what it returns with free,
// also where the answer is a refusal.
func (b *bodies) read(q *request) (body, answer) {
	var in body
	if whole, ok := q.body.Whole(); ok {
		in.bytes = whole
		return in, answer{}
	}
	if !b.grow(&in, 0) {
		return in, overBudget
	}
	var n, mark int
	for {
		buf := *in.buffer
		if n == len(buf) {
			if !b.grow(&in, n) {
				return in, overBudget
			}
			continue
		}
		got, err := q.body.Read(buf[n:])
		n += got
		switch {
		case int64(n) > b.max:
			return in, b.tooLarge()
		case err == io.EOF:
			in.bytes = buf[:n]
			return in, answer{}
		case err != nil:
			return in, brokenBody(err)
		}
		if n-mark >= progress {
			mark = n
			q.body.Extend(b.timeout, b.answer)
		}
	}
}

// grow gives in a larger buffer with its first n bytes, or its first one. It
// reports whether the budget allows that.
func (b *bodies) grow(in *body, n int) bool {
	next := body{}
	if in.buffer != nil {
		next.size = in.size + 1
	}
	size := b.sizes[next.size]
	if b.held.Add(int64(size)) > b.budget {
		b.held.Add(-int64(size))
		return false
	}
	b.report(int64(size))
	if pooled, ok := b.pools[next.size].Get().(*[]byte); ok {
		next.buffer = pooled
	} else {
		fresh := make([]byte, size)
		next.buffer = &fresh
	}
	if in.buffer != nil {
		copy(*next.buffer, (*in.buffer)[:n])
	}
	b.free(in)
	*in = next
	return true
}

// free gives the buffer back.
func (b *bodies) free(in *body) {
	if in.buffer == nil {
		return
	}
	size := int64(b.sizes[in.size])
	b.pools[in.size].Put(in.buffer)
	b.held.Add(-size)
	b.report(-size)
	*in = body{}
}

var overBudget = answer{code: http.StatusTooManyRequests, retryAfter: time.Second,
	reason: "too many events are being received at once"}

// brokenBody is the answer where the body did not come to its end.
func brokenBody(err error) answer {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return answer{code: http.StatusRequestTimeout, close: true, reason: "body came too slowly"}
	}
	return answer{code: http.StatusBadRequest, close: true, reason: "body ended early or its chunks are malformed"}
}
