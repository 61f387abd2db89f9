// Package load sends events as cheaply as it can, so that what is measured is
// the broker and not its client: HTTP/1.1 on raw sockets, one goroutine and one
// connection each, one request at a time, the request's bytes made once and
// patched. It promises that Accepted holds exactly the ids that were answered
// 2xx. It is a client for benchmarks only: it reads no chunked answers and
// follows nothing.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/test/bench/tally"
	"github.com/penstock-events/penstock/test/bench/wire"
)

// Options say what to send. It ends after Events or Duration, whichever comes
// first; at least one must be given.
type Options struct {
	Address     string // host:port
	Path        string
	Connections int // at once; 0 is 1
	Events      int
	Duration    time.Duration
	Rate        float64 // events a second; 0 is a closed loop, each connection as fast as it is answered
	Size        int     // bytes of the body
	FirstID     uint64
	FirstType   int
	Types       int // in turn, from FirstType; 0 is 1
}

// Result is what came of it. Durations are nanoseconds in JSON.
type Result struct {
	Sent     uint64         `json:"sent"`
	Accepted uint64         `json:"accepted"`
	Refused  uint64         `json:"refused"`          // answered, and not 2xx
	Errors   uint64         `json:"errors"`           // not answered: may be stored or not
	Status   map[int]uint64 `json:"status,omitempty"` // refused, by status
	Error    string         `json:"error,omitempty"`  // the first one
	Elapsed  time.Duration  `json:"elapsed"`
	P50      time.Duration  `json:"p50"` // until the answer; with a Rate from the time the event was due
	P99      time.Duration  `json:"p99"`
	Max      time.Duration  `json:"max"`

	// Of those refused: how long until the answer, and how many were told to
	// come back (429, 503, 507) and not when.
	RefusedP50    time.Duration `json:"refusedP50,omitempty"`
	RefusedP99    time.Duration `json:"refusedP99,omitempty"`
	RefusedMax    time.Duration `json:"refusedMax,omitempty"`
	NoRetryAfter  uint64        `json:"noRetryAfter,omitempty"`
	MaxRetryAfter time.Duration `json:"maxRetryAfter,omitempty"`
}

const (
	exchangeTimeout = 60 * time.Second
	dialTimeout     = 5 * time.Second

	// pause keeps a connection that cannot be opened, or is refused in a closed
	// loop, from turning in circles.
	pause = 10 * time.Millisecond
)

// Run sends until all is sent or ctx ends, and waits for every answer. It adds
// the ids that were accepted to accepted.
func Run(ctx context.Context, o Options, accepted *tally.Bitset) (Result, error) {
	switch {
	case o.Events <= 0 && o.Duration <= 0:
		return Result{}, errors.New("load: want a number of events or a duration")
	case o.FirstType < 0 || o.Types < 0 || o.FirstType+max(o.Types, 1) > wire.MaxTypes:
		return Result{}, fmt.Errorf("load: types %d to %d: want 0 to %d", o.FirstType, o.FirstType+o.Types-1, wire.MaxTypes-1)
	}
	r := &run{Options: o, accepted: accepted, status: map[int]uint64{}}
	r.Types = max(o.Types, 1)
	r.start = time.Now()
	var wg sync.WaitGroup
	for range max(o.Connections, 1) {
		wg.Go(func() { r.connection(ctx) })
	}
	wg.Wait()
	return Result{
		Sent: r.sent.Load(), Accepted: r.ok.Load(), Refused: r.refused, Errors: r.errors,
		Status: r.status, Error: r.first, Elapsed: time.Since(r.start),
		P50: r.latency.Quantile(0.5), P99: r.latency.Quantile(0.99), Max: r.latency.Quantile(1),
		RefusedP50: r.refusal.Quantile(0.5), RefusedP99: r.refusal.Quantile(0.99), RefusedMax: r.refusal.Quantile(1),
		NoRetryAfter: r.silent, MaxRetryAfter: r.longest,
	}, nil
}

type run struct {
	Options
	start    time.Time
	next     atomic.Uint64
	sent, ok atomic.Uint64
	accepted *tally.Bitset
	latency  tally.Histogram
	refusal  tally.Histogram

	mu      sync.Mutex // guards what follows
	refused uint64
	errors  uint64
	status  map[int]uint64
	silent  uint64
	longest time.Duration
	first   string
}

// take is the next event: its number and when it is due.
func (r *run) take(ctx context.Context) (n uint64, due time.Time, ok bool) {
	n = r.next.Add(1) - 1
	if ctx.Err() != nil || r.Events > 0 && n >= uint64(r.Events) {
		return 0, due, false
	}
	due = time.Now()
	if r.Rate > 0 {
		due = r.start.Add(time.Duration(float64(n) / r.Rate * float64(time.Second)))
	}
	if r.Duration > 0 && due.Sub(r.start) >= r.Duration {
		return 0, due, false
	}
	if wait := time.Until(due); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return 0, due, false
		}
	}
	return n, due, true
}

func (r *run) connection(ctx context.Context) {
	req := newRequest(r.Address, r.Path, r.Size)
	var conn net.Conn
	var reader *bufio.Reader
	closeConn := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer closeConn()
	for {
		n, due, ok := r.take(ctx)
		if !ok {
			return
		}
		if conn == nil {
			c, err := net.DialTimeout("tcp", r.Address, dialTimeout)
			if err != nil {
				r.fail(err)
				time.Sleep(pause)
				continue
			}
			conn, reader = c, bufio.NewReaderSize(c, 4096)
		}
		id := r.FirstID + n
		req.set(id, r.FirstType+int(n%uint64(r.Types)), due.UnixNano())
		r.sent.Add(1)
		a, err := exchange(conn, reader, req.bytes)
		took := time.Since(due)
		r.latency.Add(took)
		switch {
		case err != nil:
			r.fail(err)
			closeConn()
			continue
		case a.status/100 == 2:
			r.ok.Add(1)
			r.accepted.Add(id)
		default:
			r.refuse(a, took)
			if r.Rate == 0 {
				time.Sleep(pause)
			}
		}
		if a.last {
			closeConn()
		}
	}
}

// exchange sends one request and reads its answer.
func exchange(conn net.Conn, reader *bufio.Reader, request []byte) (answer, error) {
	if err := conn.SetDeadline(time.Now().Add(exchangeTimeout)); err != nil {
		return answer{}, err
	}
	if _, err := conn.Write(request); err != nil {
		return answer{}, err
	}
	head, err := wire.ReadHead(reader)
	if err != nil {
		return answer{}, err
	}
	a, err := parseAnswer(head)
	if err != nil {
		return a, err
	}
	// The head is gone from the buffer only now: parseAnswer reads it in place.
	if _, err = reader.Discard(len(head) + a.length); err != nil {
		return a, err
	}
	return a, nil
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors++
	if r.first == "" {
		r.first = err.Error()
	}
}

func (r *run) refuse(a answer, took time.Duration) {
	r.refusal.Add(took)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
	r.status[a.status]++
	r.longest = max(r.longest, a.retryAfter)
	switch a.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		if a.retryAfter == 0 {
			r.silent++
		}
	}
}
