package loaded

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Pod is a process of the data plane that has a Board.
type Pod struct {
	Name    string
	Address string // host:port of the Board
	Serving bool   // counts for InForce
}

// WatcherOptions configure a Watcher; a duration of 0 is the default.
type WatcherOptions struct {
	Transport http.RoundTripper        // nil is one of its own, without proxies
	Token     func() (string, error)   // bearer token of each request; nil sends none
	Rejected  func(token string)       // told which token was answered 401; may be nil
	Types     bool                     // ask for event types too
	Silence   time.Duration            // without a line, after which a stream is given up; 10 s
	OnChange  func(uids []channel.UID) // some pod's version of these is another; may be nil
	OnPods    func()                   // InForce may answer otherwise for any object; may be nil
	OnTypes   func([]Type)             // seen by a pod, perhaps not for the first time; may be nil
	Logger    *slog.Logger             // nil logs nothing
}

// Watcher reads the Boards of all pods. Make it with NewWatcher. Its methods
// may be called by any number of goroutines; Run once. The functions of its
// options are called without a lock held, concurrently, and hold up the
// stream that they are called for.
type Watcher struct {
	o WatcherOptions
}

// NewWatcher makes a Watcher that reads nothing yet.
func NewWatcher(o WatcherOptions) *Watcher { return &Watcher{o: o} }

// SetPods replaces the pods. It may be called at any time, also before Run,
// and does not wait. A pod whose address changes is another process.
func (w *Watcher) SetPods(pods []Pod) { panic("not yet") }

// Run reads until ctx ends and returns nil after all it started has ended.
func (w *Watcher) Run(ctx context.Context) error { panic("not yet") }

// InForce lists the serving pods that do not show this version of the object,
// each by name with a reason, sorted; nil says that all do. Where no pod
// serves the one entry says so.
func (w *Watcher) InForce(uid channel.UID, version string) (missing []string) { panic("not yet") }
