// Package api is the JSON API of a running broker, below /api/v1, with
// /healthz and /readyz beside it. docs/openapi.yaml describes it; the shapes
// are in package v1.
//
// What a request can change is how events are delivered: a Trigger's delivery is
// paused and resumed and an event skipped (control.go), and jobs are begun,
// cancelled and resumed, which deliver events once more and discard dead letters
// (jobs.go). Each leaves a line "audit" in the log. No request changes a Broker,
// a Trigger or what is in an event, and all others only read. It knows no users by
// itself. Either it is given somebody who says who may (Options.Authorize), or
// whoever reaches the port may do all of this: then it listens on loopback
// unless told otherwise, and it refuses what a web page in a browser on the same
// machine could make it answer or do (names in Host that are not this machine's,
// requests from other origins). Bodies, pages, streams and the time of each are
// bounded.
//
// A Server may be used by any number of goroutines.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
)

// Source is the running broker as the API sees it. Its methods are called by
// many requests at once and must not block for long.
type Source interface {
	// Snapshot is the configuration in force.
	Snapshot() *config.Snapshot

	// Log finds the open log of a Broker; false while it has none.
	Log(broker channel.UID) (channel.BrokerLog, bool)

	// Lanes counts the deliveries of all Triggers that have a lane. Those that
	// are left out count as idle.
	Lanes(ctx context.Context) []Lane
}

// Lane counts one Trigger's deliveries.
type Lane struct {
	Trigger  channel.UID
	Backlog  uint64    // matched and not in a final state
	Oldest   time.Time // when the oldest of these was accepted; zero if not known
	InFlight int       // attempts under way
	Waiting  int       // events that wait for their next attempt

	Window int // attempts that may be under way at once now

	// What controls it, and why it waits; see v1.Trigger. An empty state of the
	// circuit counts as closed.
	Waits                        string
	PausedByAnnotation, PausedBy bool      // PausedBy: a person
	PausedUntil                  time.Time // when the person's pause ends by itself; zero: not
	Rate                         float64
	Ordered                      bool
	BlockedKeys                  int
	Blocked                      []v1.BlockedKey
	Circuit                      v1.Circuit

	// ColdSince is when a subscriber that scales from zero began to refuse, and
	// SparedUntil how long that costs no attempt; zero where it takes events.
	ColdSince, SparedUntil time.Time

	// Since the process started. Failed counts attempts, Spared those that were
	// refused and not counted, the others events.
	Delivered, Failed, Spared, Cancelled uint64
}

// Options configure a Server. Source is needed.
type Options struct {
	Source Source

	// Ready lists, one line each, why the process cannot accept and store events
	// now; empty means that it can. nil means that it always can.
	Ready func() []string

	// Latched lists, one line each, why nothing but starting the process again will
	// help; empty means nothing. nil means that it never is so.
	Latched func() []string

	// Storage says how the storage is, for GET /api/v1/doctor. nil says nothing.
	Storage func() []channel.Finding

	// Journal tells what happened to events, and Fate where they stand. Without a
	// Journal there are no lists of events, and stories are what the log knows.
	Journal Journal
	Fate    Fate

	// Traffic counts a Broker's events (namespace/name) since the process
	// started: those that came in, and those of them that were stored.
	Traffic func(broker string) (received, accepted uint64)

	// Backup begins a backup of what is on disk, written at most so many bytes a
	// second (0 for no limit). Errors are ErrBackupRuns, channel.ErrUnavailable,
	// or internal. nil means that nothing is on disk.
	Backup func(ctx context.Context, rate int64) (Backup, error)

	// Control changes deliveries; nil where this process makes none.
	Control Control

	// Jobs runs redrives, discards and replays; nil means that this process has none.
	Jobs Jobs

	// IngressURL is what a Broker's address begins with: http://localhost:8080.
	IngressURL string

	// Authorize decides whether a request may have its answer; nil is yes. It is
	// not asked about probes. With nil, whoever reaches the port may do
	// everything, and Hosts and the checks on browsers guard it instead.
	Authorize func(r *http.Request, a Access) *Denied

	// Who names whoever sent a request, for the audit; "" is nobody that is known,
	// and nil never knows. It is asked after Authorize has let the request pass.
	Who func(r *http.Request) string

	// Hosts are names, beside localhost and every IP address, that a request
	// may have in its Host header: the host names the API is meant to be
	// reached by.
	Hosts []string

	MaxBody   int64         // of an event to explain, in bytes; 0 means 4 MiB
	MaxTails  int           // streams at a time; 0 means 16
	Heartbeat time.Duration // of a quiet stream; 0 means 10 s
	Timeout   time.Duration // for reading a request, for answering it, and for each write of a stream; 0 means 30 s

	Logger *slog.Logger     // nil: slog.Default()
	Now    func() time.Time // nil: time.Now
}

// Server is the API as an http.Handler. New makes one.
type Server struct {
	opts    Options
	log     *slog.Logger
	mux     *http.ServeMux
	decoder event.Decoder
	guard   guard

	earliest earliest

	tails     chan struct{} // one token for each open stream
	closing   chan struct{}
	closeOnce sync.Once
}

// New makes a Server. It starts nothing.
func New(o Options) *Server {
	if o.MaxBody <= 0 {
		o.MaxBody = 4 << 20
	}
	if o.MaxTails <= 0 {
		o.MaxTails = 16
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		opts:    o,
		log:     o.Logger,
		mux:     http.NewServeMux(),
		decoder: event.Decoder{MaxBatch: maxExplained},
		guard:   newGuard(o.Hosts),
		tails:   make(chan struct{}, o.MaxTails),
		closing: make(chan struct{}),
	}
	for _, r := range s.routes() {
		s.mux.Handle(r.path, s.handle(r))
	}
	s.mux.Handle("/", s.handle(route{serve: s.unknown}))
	return s
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Deadlines of the connection outlive a request: every request sets them.
	// Not every ResponseWriter has them; those of connections do.
	conn := http.NewResponseController(w)
	now := time.Now()
	_ = conn.SetReadDeadline(now.Add(s.opts.Timeout))
	_ = conn.SetWriteDeadline(now.Add(2 * s.opts.Timeout)) // so that who was too slow to ask is told
	s.mux.ServeHTTP(w, r)
}

// Close ends all streams, and those that begin later at once. Give it to
// http.Server.RegisterOnShutdown: Shutdown waits for streams and does not end
// them. It may be called more than once.
func (s *Server) Close() { s.closeOnce.Do(func() { close(s.closing) }) }
