package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Defaults of Options and ServerOptions.
const (
	DefaultConns           = 2
	DefaultMaxQueue        = 4096
	DefaultMaxQueueBytes   = 64 << 20
	DefaultMaxRequestBytes = 1 << 20
	DefaultTries           = 3
	DefaultDialTimeout     = 2 * time.Second
	DefaultTimeout         = 30 * time.Second
	DefaultPulse           = 2 * time.Second
	DefaultRetryAfter      = time.Second
)

// Tokens is who we are: auth.TokenFile is one. Rejected is told which token
// was answered 401. Neither may block for long.
type Tokens interface {
	Token() (string, error)
	Rejected(token string)
}

// Options configure a Client. The zero value works where owners ask for no token.
type Options struct {
	Tokens Tokens       // nil sends none
	Logger *slog.Logger // nil logs nothing

	// Dial opens a connection to an owner; nil is TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)

	// Keying tells how a Broker homes events without a partitionkey; nil gives
	// them no home. It is called for each append and must not block.
	Keying func(broker channel.UID) channel.Keying

	Conns int // to each owner

	// What may wait for one owner's connections, in appends and in bytes. At the
	// bound Append is refused with channel.ErrFull.
	MaxQueue      int
	MaxQueueBytes int64

	// MaxRequestBytes is how much goes together in one request. An append alone
	// may be larger, up to the MaxRequestBytes of the Server.
	MaxRequestBytes int64

	Tries       int           // owners that an append without a key is offered to
	DialTimeout time.Duration // for a connection and the owner's first answer on it
	Timeout     time.Duration // from a request's first byte to the end of the answer: unknown
	Pulse       time.Duration // between two looks at an owner that has nothing to do
	RetryAfter  time.Duration // what a refusal of our own says
}

// Client sends events to the owners of their shards. Make it with New.
type Client struct {
	o      Options
	items  sync.Pool // of *item; its own, for they hold channels
	routes atomic.Pointer[routes]

	started  chan struct{} // closed when Run begins
	stopping chan struct{} // closed when Run's ctx has ended

	// mu guards what follows, the owners and the items in their queues. It is
	// held for moments: never while anything is sent, read or encoded.
	mu      sync.Mutex
	state   state
	turn    uint64   // of events without a key
	parting []*owner // not named any more, and still with something to send
	workers sync.WaitGroup
}

type state uint8

const (
	waiting state = iota // for Run
	running
	closed
)

// routes is where events can go. It is replaced, never changed.
type routes struct {
	homes  []channel.ShardID // all declared owners, as homes has them
	owners []*owner          // those that serve, by ordinal
}

func (r *routes) owner(ordinal int) *owner {
	i, ok := slices.BinarySearchFunc(r.owners, ordinal, func(o *owner, ordinal int) int { return o.Ordinal - ordinal })
	if !ok {
		return nil
	}
	return r.owners[i]
}

var _ channel.Appender = (*Client)(nil)

// New returns a Client without owners. It starts nothing.
func New(o Options) *Client {
	if o.Tokens == nil {
		o.Tokens = noTokens{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
	}
	if o.Keying == nil {
		o.Keying = func(channel.UID) channel.Keying { return 0 }
	}
	o.Conns = orDefault(o.Conns, DefaultConns)
	o.MaxQueue = orDefault(o.MaxQueue, DefaultMaxQueue)
	o.MaxQueueBytes = orDefault(o.MaxQueueBytes, DefaultMaxQueueBytes)
	o.MaxRequestBytes = orDefault(o.MaxRequestBytes, DefaultMaxRequestBytes)
	o.Tries = orDefault(o.Tries, DefaultTries)
	o.DialTimeout = orDefault(o.DialTimeout, DefaultDialTimeout)
	o.Timeout = orDefault(o.Timeout, DefaultTimeout)
	o.Pulse = orDefault(o.Pulse, DefaultPulse)
	o.RetryAfter = orDefault(o.RetryAfter, DefaultRetryAfter)
	c := &Client{o: o, started: make(chan struct{}), stopping: make(chan struct{})}
	c.routes.Store(&routes{})
	return c
}

type noTokens struct{}

func (noTokens) Token() (string, error) { return "", nil }
func (noTokens) Rejected(string)        {}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// Run is the Client's lifetime: it lets appends begin, keeps the connections,
// and when ctx ends refuses new appends, sends and answers what it has taken,
// and closes the connections. Before Run is called Append waits for it; after
// ctx has ended it is refused with channel.ErrClosed. Run returns nil, or an
// error at once where it is called a second time.
func (c *Client) Run(ctx context.Context) error {
	c.mu.Lock()
	if c.state != waiting {
		c.mu.Unlock()
		return errors.New("run remote channel: it has been run before")
	}
	c.state = running
	close(c.started)
	for _, o := range c.routes.Load().owners {
		o.start()
	}
	c.mu.Unlock()

	pulse := time.NewTicker(c.o.Pulse)
	defer pulse.Stop()
	for open := true; open; {
		select {
		case <-ctx.Done():
			open = false
		case <-pulse.C:
			c.beat()
		}
	}
	c.mu.Lock()
	c.state = closed
	close(c.stopping)
	for _, o := range slices.Concat(c.routes.Load().owners, c.parting) {
		o.wake()
	}
	c.mu.Unlock()
	// A worker ends when its queue is empty. What it waits for has a timeout.
	c.workers.Wait()
	return nil
}

// beat has a word with each owner that has nothing to do, and every idle
// connection looked at.
func (c *Client) beat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.routes.Load().owners {
		o.ask = o.ask || o.up && o.requests == o.asked
		o.asked = o.requests
		o.wake()
	}
}

// SetOwners replaces the owners. It may be called at any time, also before
// Run, and does not block. An owner that is no longer named is sent what waits
// for it and nothing more. Of two with one ordinal the last counts.
func (c *Client) SetOwners(owners Owners) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.routes.Load()
	next := &routes{homes: homes(max(owners.Declared, 0))}
	named := make(map[int]Owner, len(owners.Serving))
	for _, serving := range owners.Serving {
		named[serving.Ordinal] = serving
	}
	for _, ordinal := range slices.Sorted(maps.Keys(named)) {
		o := old.owner(ordinal)
		if o == nil || o.Address != named[ordinal].Address {
			o = newOwner(c, named[ordinal])
			if c.state == running {
				o.start()
			}
		}
		next.owners = append(next.owners, o)
	}
	for _, o := range old.owners {
		if next.owner(o.Ordinal) != o {
			o.part()
		}
	}
	c.routes.Store(next)
}

// Ready is nil while at least one owner can be chosen, otherwise why not. It
// does not block.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != running {
		return c.notRunning()
	}
	all := c.routes.Load().owners
	if len(all) == 0 {
		return fmt.Errorf("%w: no dispatcher serves", channel.ErrUnavailable)
	}
	var why error
	for _, o := range all {
		if o.up {
			return nil
		}
		why = o.why
	}
	return fmt.Errorf("%w: no dispatcher of %d answers; the last says: %w", channel.ErrUnavailable, len(all), why)
}

func (c *Client) notRunning() error {
	if c.state == closed {
		return fmt.Errorf("%w: %w", channel.ErrUnavailable, channel.ErrClosed)
	}
	return fmt.Errorf("%w: not started", channel.ErrUnavailable)
}

// OwnerStats counts what one owner was sent since SetOwners named it, or named
// it with another address.
type OwnerStats struct {
	Owner
	Up          bool  // may be chosen
	Draining    bool  // has said that it stops
	Queued      int   // appends that wait for a connection
	QueuedBytes int64 //
	Requests    uint64
	Appends     uint64 // sent in them
	Stored      uint64 // of these
	Refused     uint64
	Unknown     uint64
	Moved       uint64 // appends offered to another owner instead
}

// Stats tells of each serving owner, by ordinal; cheap enough for every scrape.
func (c *Client) Stats() []OwnerStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []OwnerStats
	for _, o := range c.routes.Load().owners {
		s := o.stats
		s.Owner, s.Up, s.Draining = o.Owner, o.up, o.draining
		s.Queued, s.QueuedBytes, s.Requests = len(o.queue), o.queued, o.requests
		all = append(all, s)
	}
	return all
}
