package remote

import (
	"context"
	"log/slog"
	"net"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
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
	o Options
}

var _ channel.Appender = (*Client)(nil)

// New returns a Client without owners. It starts nothing.
func New(o Options) *Client { return &Client{o: o} }

// Run is the Client's lifetime: it lets appends begin, keeps the connections,
// and when ctx ends refuses new appends, sends and answers what it has taken,
// and closes the connections. Before Run is called and after it has returned
// every append is refused with channel.ErrUnavailable. It returns nil, or an
// error at once where it is called a second time.
func (c *Client) Run(ctx context.Context) error { panic("not yet") }

// SetOwners replaces the owners. It may be called at any time, also before
// Run, and does not block. An owner that is no longer named gets what waits
// for it and nothing more.
func (c *Client) SetOwners(owners Owners) { panic("not yet") }

// Append implements channel.Appender.
func (c *Client) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.ID, error) {
	panic("not yet")
}

// Ready is nil while at least one owner can be chosen, otherwise why not. It
// does not block.
func (c *Client) Ready() error { panic("not yet") }

// OwnerStats counts what one owner was sent. The counts are of this Client's
// life, also where the owner went and came back under the same address.
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
func (c *Client) Stats() []OwnerStats { panic("not yet") }
