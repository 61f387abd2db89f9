package loaded

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// DefaultSilence is the default of WatcherOptions.Silence: three heartbeats
// and a little.
const DefaultSilence = 10 * time.Second

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
	Silence   time.Duration            // without a line, after which a stream is given up
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
	o      WatcherOptions
	client *http.Client
	asked  chan struct{} // holds one token while SetPods has asked for something new

	mu      sync.Mutex
	members map[string]*member // by name of the pod
}

// member is a pod and what is known of it. All but pod's name and address is
// under the Watcher's lock.
type member struct {
	pod     Pod
	objects map[channel.UID]string // as last shown, also while no stream stands
	whole   bool                   // a stream stands, and shows all there is
	lacks   string                 // why not whole
	lost    bool                   // and that has been told
	stop    context.CancelFunc     // ends its stream; nil: not begun
}

// NewWatcher makes a Watcher that reads nothing yet.
func NewWatcher(o WatcherOptions) *Watcher {
	if o.Silence <= 0 {
		o.Silence = DefaultSilence
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.OnChange == nil {
		o.OnChange = func([]channel.UID) {}
	}
	if o.OnPods == nil {
		o.OnPods = func() {}
	}
	if o.OnTypes == nil {
		o.OnTypes = func([]Type) {}
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			ResponseHeaderTimeout:  5 * time.Second,
			MaxResponseHeaderBytes: 16 << 10,
			DisableCompression:     true,
			DisableKeepAlives:      true, // a stream is a connection
		}
	}
	return &Watcher{
		o: o,
		client: &http.Client{
			Transport:     o.Transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		asked:   make(chan struct{}, 1),
		members: make(map[string]*member),
	}
}

// SetPods replaces the pods. It may be called at any time, also before Run,
// and does not wait. A pod whose address changes is another process. OnPods
// is called before it returns where InForce may now answer otherwise.
func (w *Watcher) SetPods(pods []Pod) {
	if w.set(pods) {
		select {
		case w.asked <- struct{}{}:
		default:
		}
		w.o.OnPods()
	}
}

func (w *Watcher) set(pods []Pod) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	named := make(map[string]bool, len(pods))
	for _, p := range pods {
		named[p.Name] = true
		m := w.members[p.Name]
		switch {
		case m != nil && m.pod == p:
		case m != nil && m.pod.Address == p.Address:
			m.pod.Serving = p.Serving
			changed = true
		default:
			if m != nil && m.stop != nil {
				m.stop()
			}
			w.members[p.Name] = &member{pod: p, lacks: "has not been asked yet"}
			changed = true
		}
	}
	for name, m := range w.members {
		if !named[name] {
			if m.stop != nil {
				m.stop()
			}
			delete(w.members, name)
			changed = true
		}
	}
	return changed
}

// Run reads until ctx ends and returns nil after all it started has ended.
func (w *Watcher) Run(ctx context.Context) error {
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		w.mu.Lock()
		for _, m := range w.members {
			if m.stop != nil {
				continue
			}
			ctx, stop := context.WithCancel(ctx)
			m.stop = stop
			streams.Go(func() {
				defer stop()
				w.follow(ctx, m)
			})
		}
		w.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-w.asked:
		}
	}
}

// InForce lists the serving pods that do not show this version of the object,
// each by name with a reason, sorted; nil says that all do. Where no pod
// serves the one entry says so.
func (w *Watcher) InForce(uid channel.UID, version string) (missing []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	serving := 0
	for _, name := range slices.Sorted(maps.Keys(w.members)) {
		m := w.members[name]
		if !m.pod.Serving {
			continue
		}
		serving++
		switch has, ok := m.objects[uid]; {
		case !m.whole:
			missing = append(missing, name+": "+m.lacks)
		case !ok:
			missing = append(missing, name+": has not loaded it yet")
		case has != version:
			missing = append(missing, name+": has loaded version "+has+", not yet "+version)
		}
	}
	if serving == 0 {
		return []string{"no dispatcher is serving"}
	}
	return missing
}
