package remote

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// headerDuplicates is on each request of a client that reads the outcome
// known. A Server from before it does not look at it.
const headerDuplicates = "Penstock-Append-Duplicates"

// Headers of an answer. headerVersion is on every answer of a Server: what
// comes without it comes from somebody else. headerDraining is on those of an
// owner that stops.
const (
	headerVersion  = "Penstock-Append"
	headerDraining = "Penstock-Draining"
	version        = "1"
)

const (
	maxHead   = 16 << 10         // of an answer
	maxReason = 1 << 10          // of one that is no 200
	keepBuf   = 4 << 20          // a link's buffer that has grown beyond this is let go
	maxIdle   = 30 * time.Second // well below the Server's, so that it never closes first
	lastLook  = time.Second      // for an answer that came while we could not write on
)

// link is one connection to an owner. One goroutine uses it, which writes a
// request and then reads the answer: so it is always known whether a byte went
// out, which is what unknown hangs on.
type link struct {
	o       *Options
	address string

	conn    net.Conn // nil while closed
	counted bool     // in owner.links
	in      *bufio.Reader
	limit   io.LimitedReader // what in may take from conn for one answer
	buf     []byte           // the request
	body    []byte           // of the answer
	token   string
	used    time.Time
}

// reply is what became of a request.
type reply struct {
	status   int    // 0 where there was no answer to believe
	body     []byte // of a 200; valid until the next request
	wait     time.Duration
	draining bool
	wrote    bool  // bytes may have reached the owner
	err      error // why status is 0, or what a refusing owner said
}

var helloTo = &http.Request{Method: http.MethodPost}

func (l *link) open() bool { return l.conn != nil }

func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close()
		l.conn, l.in = nil, nil
	}
}

// dial opens the connection and asks the owner whether it takes events. What
// it returns has status 200, or the link is closed.
func (l *link) dial(ctx context.Context) reply {
	ctx, cancel := context.WithTimeout(ctx, l.o.DialTimeout)
	defer cancel()
	conn, err := l.o.Dial(ctx, l.address)
	if err != nil {
		return reply{err: err}
	}
	l.conn, l.used = conn, time.Now()
	l.limit.R = conn
	l.in = bufio.NewReaderSize(&l.limit, 4<<10)
	r := l.send(nil, 0, l.o.DialTimeout, maxAnswer(0, 0))
	switch {
	case r.status == http.StatusOK && len(r.body) != sumSize:
		r = reply{err: errors.New("answers what was not asked")}
	case r.status == http.StatusUnauthorized:
		l.o.Tokens.Rejected(l.token)
	}
	if r.status != http.StatusOK || r.draining {
		l.close()
	}
	return r
}

// stale closes an idle connection that the owner has closed, or that is so
// old that it may.
func (l *link) stale() bool {
	if l.conn != nil && (time.Since(l.used) > maxIdle || !alive(l.conn)) {
		l.close()
	}
	return l.conn == nil
}

// send makes one request of the items and reads the answer. size is the sum
// of their sizes. After anything but a 200 the link is closed.
func (l *link) send(batch []*item, size int64, timeout time.Duration, most int64) (r reply) {
	defer func() {
		if r.status != http.StatusOK {
			l.close()
		}
		if cap(l.buf) > keepBuf {
			l.buf = nil
		}
		if cap(l.body) > keepBuf {
			l.body = nil
		}
	}()
	if l.token, r.err = l.o.Tokens.Token(); r.err != nil {
		return r
	}
	if strings.ContainsAny(l.token, "\r\n") {
		r.err = errors.New("token has more than one line")
		return r
	}
	l.used = time.Now()
	if r.err = l.conn.SetDeadline(l.used.Add(timeout)); r.err != nil {
		return r
	}
	l.encode(batch, size)
	l.limit.N = maxHead + most
	n, err := l.conn.Write(l.buf)
	r.wrote = n > 0
	if err != nil {
		r.err = err
		if n == 0 {
			return r
		}
		// The owner may have answered before it had read all, and closed.
		_ = l.conn.SetReadDeadline(time.Now().Add(lastLook))
	}
	l.read(&r, most)
	return r
}

// encode writes the request into buf.
func (l *link) encode(batch []*item, size int64) {
	b := append(l.buf[:0], "POST "+Path+" HTTP/1.1\r\nHost: "...)
	b = append(b, l.address...)
	if l.token != "" {
		b = append(b, "\r\nAuthorization: Bearer "...)
		b = append(b, l.token...)
	}
	b = append(b, "\r\nContent-Type: application/octet-stream\r\n"+headerDuplicates+": true\r\nContent-Length: "...)
	b = strconv.AppendInt(b, size+sumSize, 10)
	b = append(b, "\r\n\r\n"...)
	from := len(b)
	for _, it := range batch {
		b = appendRequest(b, it.uid, it.events)
	}
	l.buf = seal(b, from)
}

// read reads the answer into r. An answer that cannot be believed leaves the
// status 0.
func (l *link) read(r *reply, most int64) {
	resp, err := http.ReadResponse(l.in, helloTo)
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("read answer: %w", err))
		return
	}
	ours := resp.Header.Get(headerVersion) == version
	r.draining = ours && resp.Header.Get(headerDraining) != ""
	if resp.StatusCode != http.StatusOK {
		l.refusal(r, resp, ours)
		return
	}
	switch {
	case !ours:
		err = fmt.Errorf("status 200 without header %s: not an owner's", headerVersion)
	case resp.ContentLength < 0 || resp.ContentLength > most:
		err = fmt.Errorf("answer of %d bytes, want at most %d", resp.ContentLength, most)
	default:
		if int64(cap(l.body)) < resp.ContentLength {
			l.body = make([]byte, resp.ContentLength)
		}
		r.body = l.body[:resp.ContentLength]
		_, err = io.ReadFull(resp.Body, r.body)
		if err == nil && l.in.Buffered() > 0 {
			err = errors.New("more than one answer")
		}
	}
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("read answer: %w", err))
		return
	}
	r.status = http.StatusOK
	if resp.Close || r.err != nil {
		l.close()
	}
	r.err = nil
}

// refusal reads an answer that is no 200. A Server refuses before it reads,
// so its word is that nothing is stored. From anybody else (a proxy, another
// process at a reused address) only a status that no owner can be behind
// counts: a gateway's 502 may follow a request that was stored.
func (l *link) refusal(r *reply, resp *http.Response, ours bool) {
	believed := false
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		believed = true
	case http.StatusBadRequest, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusTooManyRequests, http.StatusServiceUnavailable:
		believed = ours
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	reason, _, _ := strings.Cut(string(text), "\n")
	r.err = fmt.Errorf("status %d: %s", resp.StatusCode, telemetry.Clean(reason))
	if !believed {
		return
	}
	r.status = resp.StatusCode
	if seconds, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
		r.wait = min(time.Duration(seconds)*time.Second, maxWait)
	}
}

// refuse is what a reply that is no 200 says to an append of which nothing
// was stored.
func (r reply) refuse(owner Owner, o *Options) error {
	reason := channel.ErrUnavailable
	wait := max(r.wait, o.RetryAfter)
	switch r.status {
	case http.StatusTooManyRequests:
		reason = channel.ErrFull
	case http.StatusRequestEntityTooLarge:
		reason, wait = channel.ErrTooLarge, 0
	}
	return &channel.Refused{Err: fmt.Errorf("%w: owner %d at %s: %w", reason, owner.Ordinal, owner.Address, r.err), RetryAfter: wait}
}
