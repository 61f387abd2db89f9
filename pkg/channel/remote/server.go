package remote

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Defaults of ServerOptions.
const (
	DefaultServerMaxRequestBytes = 16 << 20
	DefaultMaxAppends            = 4096
	DefaultMaxEvents             = 1 << 16
	DefaultMaxInFlight           = 128 << 20
	DefaultConcurrent            = 64
	DefaultBodyTimeout           = 30 * time.Second
	DefaultGrace                 = 6 * time.Second
	DefaultLastWords             = time.Second
)

// ErrForbidden is what ServerOptions.Authorize wraps where it knows who asks
// and does not let them: 403.
var ErrForbidden = errors.New("not allowed to append")

// ServerOptions are what a Server needs and its bounds; a bound of 0 is the
// default.
type ServerOptions struct {
	// Appender finds where a Broker's events are stored. An error is a refusal:
	// one that wraps channel.ErrNoBroker where there is no such Broker, and
	// channel.ErrUnavailable (or anything else) where it is not loaded yet. It is
	// called for each append and must not block.
	Appender func(broker channel.UID) (channel.Appender, error)

	// Authorize says whether a request may append, from its headers: nil is yes.
	// An error that wraps ErrForbidden is 403, one that wraps
	// channel.ErrUnavailable (nobody could be asked) is 503, and all others 401.
	// It is called before a byte of the body is read. A nil Authorize lets
	// nobody in.
	Authorize func(*http.Request) error

	Logger *slog.Logger // nil logs nothing

	MaxRequestBytes int64 // of one request: 413
	MaxAppends      int   // in one request: 400
	MaxEvents       int   // in one request: 400
	MaxInFlight     int64 // bytes of all requests being received or stored: 429
	Concurrent      int   // appends of one request in the log at once; the others wait

	BodyTimeout time.Duration // from the headers to the end of the body

	// When Run's ctx ends, answers say for Grace (or until no connection is left)
	// that the owner stops, and events are taken all the same; then they are
	// refused for LastWords; then the connections are closed.
	Grace     time.Duration
	LastWords time.Duration
}

// Server takes appends for the log of this process: an http.Handler for Path,
// with a Run that serves it and stops in order. Make it with NewServer.
type Server struct {
	o ServerOptions
}

// NewServer returns a Server. It starts nothing.
func NewServer(o ServerOptions) *Server { return &Server{o: o} }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("not yet") }

// Run serves on ln until ctx ends and then stops as Grace says: no append that
// a Client of this package sends meanwhile is left unknown. It returns nil
// after a stop that ctx asked for, and an error where serving ended by itself.
// It closes ln. Run may be called once. The log must outlive it.
func (s *Server) Run(ctx context.Context, ln net.Listener) error { panic("not yet") }

// Drain has every answer from now on say that the owner stops, and Refuse has
// every append refused. Run calls them in its time; they are for who serves
// the handler otherwise.
func (s *Server) Drain()  { panic("not yet") }
func (s *Server) Refuse() { panic("not yet") }

// ServerStats are a Server's counts.
type ServerStats struct {
	Requests      uint64 // answered, the empty ones included
	Appends       uint64 // in them
	Stored        uint64 // of these
	Refused       uint64
	Unknown       uint64
	Events        uint64 // stored
	Unauthorized  uint64 // requests answered 401 or 403
	Malformed     uint64 // requests that could not be read
	InFlightBytes int64
}

// Stats counts; cheap enough for every scrape.
func (s *Server) Stats() ServerStats { panic("not yet") }
