package loaded

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Defaults of BoardOptions.
const (
	DefaultStreams   = 8
	DefaultHeartbeat = 3 * time.Second
	DefaultTimeout   = 10 * time.Second
	DefaultTypes     = 4096
)

// BoardOptions configure a Board; a bound of 0 is the default.
type BoardOptions struct {
	// Authorize says whether a request may read, from its headers: nil is yes.
	// An error that wraps ErrForbidden is 403, one that wraps
	// channel.ErrUnavailable (nobody could be asked) is 503, and all others 401.
	// A nil Authorize lets nobody in.
	Authorize func(*http.Request) error

	Streams   int           // open at once: 503 beyond
	Heartbeat time.Duration // a line is written so often at least
	Timeout   time.Duration // of one write, after which a reader is cut
	Types     int           // event types remembered: the one known longest goes
	Logger    *slog.Logger  // nil logs nothing
}

// Board shows what this process has in force: an http.Handler for Path. Make
// it with NewBoard. Its methods may be called by any number of goroutines.
//
// Nothing is queued for a reader. Each stream compares what it has told with
// what is published, so that one that is slow costs no memory and skips what
// has been overtaken meanwhile.
type Board struct {
	o       BoardOptions
	streams chan struct{} // holds a token for each stream
	closing chan struct{}
	close   func()
	types   types

	mu        sync.Mutex
	published map[channel.UID]string // nil: nothing yet. Never changed, only replaced
	changed   chan struct{}          // closed when published is replaced
}

// NewBoard makes a Board on which nothing has been published: whoever reads
// it learns that this process has not loaded anything yet.
func NewBoard(o BoardOptions) *Board {
	if o.Streams <= 0 {
		o.Streams = DefaultStreams
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = DefaultHeartbeat
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Types <= 0 {
		o.Types = DefaultTypes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Board{
		o:       o,
		streams: make(chan struct{}, o.Streams),
		closing: make(chan struct{}),
		changed: make(chan struct{}),
	}
	b.close = sync.OnceFunc(func() { close(b.closing) })
	b.types.init(o.Types)
	return b
}

// Publish shows the whole of what is in force: the Version of each object by
// its uid. It belongs behind a Dispatcher.Apply that has succeeded. The Board
// keeps the map, which nobody may change from then on. It does not wait.
func (b *Board) Publish(objects map[channel.UID]string) {
	if objects == nil {
		objects = map[channel.UID]string{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published = objects
	close(b.changed)
	b.changed = make(chan struct{})
}

// state is what is published, and what is closed when that is replaced.
func (b *Board) state() (map[channel.UID]string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.published, b.changed
}

// Seen reports an event that passed. It is made for every event: where nobody
// asks it costs one atomic load, and for a type seen lately one look-up more,
// without allocation. It keeps nothing of t but copies. A type with an
// attribute beyond MaxAttribute bytes is passed over.
func (b *Board) Seen(t Type) {
	if b.Asks() {
		b.types.seen(t)
	}
}

// Asks reports whether somebody asks for types. Who has to look for what Seen
// wants may look here first.
func (b *Board) Asks() bool { return b.types.asked.Load() > 0 }

// Close ends all streams, and refuses new ones: 503. It belongs before the
// Shutdown of the server, which would wait for them.
func (b *Board) Close() { b.close() }

// ServeHTTP streams what is published until the reader goes.
func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "want GET", http.StatusMethodNotAllowed)
		return
	}
	if code := b.authorize(r); code != 0 {
		if code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		http.Error(w, http.StatusText(code), code)
		return
	}
	types := false
	switch r.URL.RawQuery {
	case "":
	case "types=true":
		types = true
	default:
		http.Error(w, "want no query, or types=true", http.StatusBadRequest)
		return
	}
	select {
	case <-b.closing:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "this process is stopping", http.StatusServiceUnavailable)
		return
	default:
	}
	select {
	case b.streams <- struct{}{}:
		defer func() { <-b.streams }()
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many streams are open", http.StatusServiceUnavailable)
		return
	}
	if types {
		b.types.asked.Add(1)
		defer b.types.asked.Add(-1)
	}
	s := newStream(b, w, types)
	if err := s.run(r.Context()); err != nil && r.Context().Err() == nil {
		b.o.Logger.Warn("a reader of what is loaded is cut off", "reader", r.RemoteAddr, "error", err)
	}
}

// authorize is 0 for who may read.
func (b *Board) authorize(r *http.Request) int {
	if b.o.Authorize == nil {
		return http.StatusUnauthorized
	}
	switch err := b.o.Authorize(r); {
	case err == nil:
		return 0
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, channel.ErrUnavailable):
		return http.StatusServiceUnavailable
	}
	return http.StatusUnauthorized
}
