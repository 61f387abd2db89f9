package loaded

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// BoardOptions configure a Board; a bound of 0 is the default.
type BoardOptions struct {
	// Authorize says whether a request may read, from its headers: nil is yes.
	// An error that wraps ErrForbidden is 403, one that wraps
	// channel.ErrUnavailable (nobody could be asked) is 503, and all others 401.
	// A nil Authorize lets nobody in.
	Authorize func(*http.Request) error

	Streams   int           // open at once: 503 beyond; 8
	Heartbeat time.Duration // what is written at least; 3 s
	Timeout   time.Duration // for one write, after which a reader is cut; 10 s
	Types     int           // types remembered, the oldest goes; 4096
	Logger    *slog.Logger  // nil logs nothing
}

// Board shows what this process has in force: an http.Handler for Path. Make
// it with NewBoard. Its methods may be called by any number of goroutines.
type Board struct {
	o BoardOptions
}

// NewBoard makes a Board on which nothing has been published: whoever reads
// it learns that this process has not loaded anything yet.
func NewBoard(o BoardOptions) *Board { return &Board{o: o} }

// Publish shows the whole of what is in force: the Version of each object by
// its uid. It belongs behind a Dispatcher.Apply that has succeeded. The Board
// keeps the map, which nobody may change from then on. It does not wait.
func (b *Board) Publish(objects map[channel.UID]string) { panic("not yet") }

// Seen reports an event that passed. It is made for every event: where nobody
// asks it costs one atomic load, and for a type seen lately one look-up more,
// without allocation. It keeps nothing of t but copies.
func (b *Board) Seen(t Type) { panic("not yet") }

// Close ends all streams, and refuses new ones: 503.
func (b *Board) Close() { panic("not yet") }

// ServeHTTP streams what is published until the reader goes.
func (b *Board) ServeHTTP(w http.ResponseWriter, r *http.Request) { panic("not yet") }
