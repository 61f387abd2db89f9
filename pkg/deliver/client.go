// Package deliver makes one attempt to hand one event to one destination over
// HTTP, and says what a failed attempt means: whether it may be made again and
// when (Policy.Next), and what a dead letter tells about it (Failure.Overlay).
//
// It promises that an attempt is one POST: sent once or not at all, never
// redirected, never through a proxy, never with credentials that its caller did
// not give, never to an address that the Guard denies; that it ends within its
// timeout whatever the peer does; and that it holds no more of an answer
// than Options allow. It does not loop, wait, or log, and starts nothing that
// outlives the call. Retrying is the business of the caller.
//
// A Client and its Targets may be used by any number of goroutines.
//
// An exchange is driven by the goroutine that calls Send, without
// http.Transport: that takes two goroutines for each connection and hands every
// request and answer over between them, and it decides by its own rules when a
// request is sent again. The usual exchange costs three system calls and no
// memory; what a subscriber answers in an unusual way is read by
// http.ReadResponse. HTTP/1.1 is all it speaks.
package deliver

import (
	"context"
	"crypto/tls"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/penstock-events/penstock/pkg/event"
)

// Options of a Client. The zero value works.
type Options struct {
	// Dial replaces the dialer, and with it Guard and Resolver: for tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Guard decides which addresses may be connected to.
	Guard Guard

	// Resolver looks names up; nil is the system's.
	Resolver *net.Resolver

	// TLS is the base of the settings for https: roots, client certificates.
	// The name of the peer is always checked. Nil trusts the system's roots.
	TLS *tls.Config

	// UserAgent is sent with each request; empty is "Penstock".
	UserAgent string

	// MaxAnswer bounds the body of an answer in bytes; 0 is 1 MiB. A reply that
	// is larger makes the attempt fail; of any other answer the rest is not read.
	MaxAnswer int64

	// MaxKept bounds what an Error keeps of the body, in bytes; 0 is 4 KiB.
	MaxKept int

	// MaxIdlePerHost and MaxIdle bound the connections that are kept open for
	// the next event, to one host (many triggers may have the same) and in all;
	// 0 is half of DefaultMaxIdle, and DefaultMaxIdle.
	MaxIdlePerHost int
	MaxIdle        int

	// IdleTimeout closes connections not used for so long; 0 is 60 s. A peer
	// that announces a shorter time (Keep-Alive: timeout=5) is believed.
	IdleTimeout time.Duration
}

// DefaultMaxIdle is the default of Options.MaxIdle.
const DefaultMaxIdle = 1024

// Client delivers. Make one with New; Close it when nothing sends any more.
type Client struct {
	o    Options
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	idle   atomic.Int64 // connections kept, in all pools
	closed atomic.Bool

	// pools finds the pool of a host for a new Target. It holds them weakly: a
	// pool lives as long as a Target or an idle connection needs it, so that
	// years of changing subscribers leave nothing behind.
	mu    sync.Mutex
	pools map[poolKey]weak.Pointer[pool]
}

// New makes a Client. It opens nothing and starts nothing.
func New(o Options) *Client {
	if o.UserAgent == "" || !validHeaderValue(o.UserAgent) {
		o.UserAgent = "Penstock"
	}
	o.MaxAnswer = orDefault(o.MaxAnswer, 1<<20)
	o.MaxKept = orDefault(o.MaxKept, 4<<10)
	o.MaxIdle = orDefault(o.MaxIdle, DefaultMaxIdle)
	o.MaxIdlePerHost = orDefault(o.MaxIdlePerHost, min(o.MaxIdle, DefaultMaxIdle/2))
	o.IdleTimeout = orDefault(o.IdleTimeout, time.Minute)

	c := &Client{o: o, dial: o.Dial, pools: map[poolKey]weak.Pointer[pool]{}}
	if c.dial == nil {
		d := &net.Dialer{ControlContext: c.o.Guard.control, Resolver: o.Resolver}
		c.dial = d.DialContext
	}
	return c
}

func orDefault[T int | int64 | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// Close closes the idle connections. Attempts under way go on, and their
// connections are closed when they end.
func (c *Client) Close() {
	c.closed.Store(true)
	c.mu.Lock()
	var pools []*pool
	for _, w := range c.pools {
		if p := w.Value(); p != nil {
			pools = append(pools, p)
		}
	}
	c.mu.Unlock()
	for _, p := range pools {
		p.closeIdle(func(*conn) bool { return true })
	}
}

// pool is the pool for a host, made if there is none.
func (c *Client) pool(key poolKey) *pool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.pools[key].Value(); p != nil {
		return p
	}
	p := newPool(c, key)
	c.pools[key] = weak.Make(p)
	runtime.AddCleanup(p, c.forget, key)
	return p
}

// forget drops the entry of a pool that is gone, unless a new one has its place.
func (c *Client) forget(key poolKey) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.pools[key]; ok && w.Value() == nil {
		delete(c.pools, key)
	}
}

// Format is the content mode that an event is delivered in (DeliverySpec,
// format).
type Format uint8

const (
	AsReceived Format = iota // the mode that the event came in
	Binary                   // format: binary
	JSON                     // format: json, the structured mode
)

// Request is one attempt. Send changes nothing in it and keeps nothing of it.
type Request struct {
	Target *Target
	Event  event.Event
	Format Format

	// Overlay hides and sets attributes in what is sent; nil changes nothing.
	Overlay *event.Overlay

	// Timeout bounds the whole exchange, from the dial to the last byte of the
	// answer; 0 is DefaultTimeout. A deadline of the context that is sooner holds too.
	Timeout time.Duration

	// Stamp is called for each event of a reply before it is built, to set what
	// the broker adds (hops left, time of arrival). An error from it makes the
	// attempt fail as a bad reply does. Nil changes nothing.
	Stamp func(*event.Builder) error
}

// Answer is how an attempt went.
type Answer struct {
	// Status of the answer, 0 where there was none.
	Status int

	// Replies are the events of the answer: taken from a 200 only, and only if
	// the Target asks for replies. They share no memory with the client.
	Replies []event.Event

	// Body is the beginning of an answer that took the event and replied with
	// none, at most Options.MaxKept bytes; nil where there was none. Other
	// Answers may have it too: it must not be changed.
	Body []byte

	// Duration of the attempt, failed or not, and when it had ended: what follows
	// it need not ask for the time again.
	Duration time.Duration
	Ended    time.Time
}

// Send makes one attempt. A nil error means that the subscriber has taken the
// event: it answered 200-299, to the end or up to MaxAnswer, and its reply, if
// it gave one, is in the Answer. Otherwise the error is an *Error; the Answer
// still has Status and Duration.
//
// A 200 whose head claims to be a CloudEvent is a reply, and must be a valid
// one; any other body of a 2xx is none of our business. The body of a 202 is
// never a reply (Knative specification, data plane).
//
// The request is written at most once. It goes out on a second connection only
// if nothing of it was written to the first, which is what happens to a
// connection that the peer had closed while it was idle. If ctx is cancelled
// Send returns soon, and Cancelled(err) holds.
func (c *Client) Send(ctx context.Context, r *Request) (Answer, error) {
	x := exchanges.Get().(*exchange)
	a, err := x.attempt(c, ctx, r)
	x.free()
	if err != nil {
		return a, err // not the typed nil of *Error
	}
	return a, nil
}
