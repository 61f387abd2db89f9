package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Sender makes one attempt. deliver.Client is one.
type Sender interface {
	Target(destination string, o deliver.TargetOptions) *deliver.Target
	Send(ctx context.Context, r *deliver.Request) (deliver.Answer, error)
}

// Options configure a Dispatcher. Sender, Logs and Metrics are needed.
type Options struct {
	Sender  Sender
	Metrics *telemetry.Metrics
	Logger  *slog.Logger // nil: slog.Default()

	// Logs are the channels of this process by kind (config.ChannelDisk, ...).
	Logs map[string]channel.Log

	// Keys are those of KN_VERIFY_CORRELATION_ID, for filters from the log; those
	// of a Snapshot have their own. nil: a stored filter that calls it is an error
	// of its Broker's.
	Keys filter.Keys

	// Replied is told of the events that a Trigger's subscriber has answered with,
	// once they are stored; nil is nobody. It must not wait and keeps no event.
	Replied func(broker, trigger channel.UID, replies []event.Event)

	// Incident is told when a trigger's subscriber begins to fail, when it takes
	// events again, and when events begin to die: once each, not for each event.
	// nil is nobody. It must not wait.
	Incident func(Incident)

	// Journal is told of every match, attempt and end; nil is nobody.
	Journal *journal.Journal

	// Newcomers is told of Triggers that are routed for the first time; nil is nobody.
	Newcomers Newcomers

	// Concurrency is how many attempts a lane has in flight at most where its
	// Trigger does not say; 0 means 64.
	Concurrency int

	// Delay tells for how long what could go on has lately waited for a processor;
	// nil is for no time. See haste.
	Delay func() time.Duration

	// MaxHeldBytes bounds the events that all lanes together hold in memory
	// ahead of their workers; 0 means 16 MiB. At the bound lanes note positions
	// only and read the events again later.
	MaxHeldBytes int64

	// Paused are the triggers that people have paused, as SavePaused was last told:
	// until when by the wall clock, the zero time for until they are resumed.
	// SavePaused keeps them; it may block, and an error refuses the change. nil:
	// a pause ends with the process.
	Paused     map[channel.UID]time.Time
	SavePaused func(map[channel.UID]time.Time) error

	// DrainTimeout is how long a stop waits for attempts in flight before it
	// cuts them off; 0 means 20 s. An attempt that is cut off is made again
	// after the restart.
	DrainTimeout time.Duration

	// Now is the wall clock, by which what outlives the process is dated: when
	// a retry may start, when an event died. nil is time.Now. Waits within the
	// process never look at it.
	Now func() time.Time
}

const (
	// flushEvery is how long what happened waits to be handed to the log. Progress
	// may lag 100 ms in all, and the log takes its part of that.
	flushEvery = 40 * time.Millisecond

	// idleWorker is how long a parked worker is kept.
	idleWorker = 10 * time.Second

	// readsAtOnce bounds the lanes that read events again at once; the others wait
	// for their turn. Each read has a buffer of the log's, and a hundred lanes that
	// go on after a restart would all have one.
	readsAtOnce = 16

	// readAhead is how many records one scan takes at most.
	readAhead = 256
)

// Dispatcher delivers the events of all brokers of one process. Apply, Target
// and the views may be called at any time by any goroutine; Run once.
type Dispatcher struct {
	opts     Options
	ours     bool // opts.Now is time.Now
	log      *slog.Logger
	held     atomic.Int64 // bytes of events in all lanes' queues
	busy     atomic.Int64 // lanes with an attempt in flight
	haste    int          // attempts that fast lanes have in flight together; asked once, for the runtime takes a lock to tell
	queue    delay
	patience patience

	reads chan struct{} // has room for the lanes that read again at once

	attempts context.Context // of all attempts: ends when a stop has waited long enough
	cutOff   context.CancelFunc
	scanning context.Context // of all scanners: ends when a stop begins
	stop     context.CancelFunc
	scanners sync.WaitGroup
	workers  sync.WaitGroup

	// applying holds one token while Apply works: it waits for the disk, and a
	// stop waits for it.
	applying chan struct{}
	brokers  atomic.Pointer[map[channel.UID]*broker]

	// pausing holds one token while a pause is changed: it waits for the disk.
	pausing chan struct{}
	paused  atomic.Pointer[map[channel.UID]time.Time]
}

// New makes a Dispatcher that does nothing yet.
func New(o Options) *Dispatcher {
	if o.Concurrency <= 0 {
		o.Concurrency = 64
	}
	if o.MaxHeldBytes <= 0 {
		o.MaxHeldBytes = 16 << 20
	}
	if o.DrainTimeout <= 0 {
		o.DrainTimeout = 20 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	ours := o.Now == nil
	if ours {
		o.Now = time.Now
	}
	d := &Dispatcher{opts: o, ours: ours, log: o.Logger, applying: make(chan struct{}, 1), pausing: make(chan struct{}, 1), reads: make(chan struct{}, readsAtOnce)}
	d.haste = max(leastHaste, hastePerProcessor*runtime.GOMAXPROCS(0))
	paused := maps.Clone(o.Paused)
	if paused == nil {
		paused = make(map[channel.UID]time.Time)
	}
	d.paused.Store(&paused)
	d.attempts, d.cutOff = context.WithCancel(context.Background())
	d.scanning, d.stop = context.WithCancel(context.Background())
	d.brokers.Store(&map[channel.UID]*broker{})
	return d
}

// wall is opts.Now for a moment that has just been.
func (d *Dispatcher) wall(at time.Time) time.Time {
	if d.ours {
		return at
	}
	return d.opts.Now()
}

// Run delivers until ctx ends. Then it starts no attempt more, waits for those
// in flight, saves the progress and returns.
func (d *Dispatcher) Run(ctx context.Context) error {
	<-ctx.Done()
	d.applying <- struct{}{} // no Apply from here on: it would start what nobody stops
	defer func() { <-d.applying }()
	d.stop()
	d.scanners.Wait()
	for _, b := range *d.brokers.Load() {
		b.routing.shut() // for good: also those who store an event offer none any more
	}
	d.patience.stop()
	for _, b := range *d.brokers.Load() {
		b.stopLanes()
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		d.workers.Wait()
	}()
	limit := time.NewTimer(d.opts.DrainTimeout)
	defer limit.Stop()
	select {
	case <-drained:
	case <-limit.C:
		d.cutOff()
		<-drained
	}
	d.cutOff()
	var errs []error
	for _, b := range *d.brokers.Load() {
		errs = append(errs, b.flush(context.WithoutCancel(ctx)))
	}
	return errors.Join(errs...)
}

// Apply puts a snapshot in force: it opens the brokers' logs, records changed
// trigger sets, gives lanes their new settings, and cancels what was removed.
// When it returns, every event appended from then on is matched by the new
// trigger sets. What could not be put in force is in the error, for each Broker
// a *BrokerError (errors.Join); the rest is.
func (d *Dispatcher) Apply(ctx context.Context, s *config.Snapshot) error {
	select {
	case d.applying <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.applying }()
	if d.scanning.Err() != nil {
		return channel.ErrClosed
	}
	var errs []error
	old := *d.brokers.Load()
	brokers := make(map[channel.UID]*broker, len(old))
	for uid, b := range old {
		brokers[uid] = b
	}
	removed := make(map[channel.UID]bool)
	for _, r := range s.Removed() {
		removed[r.UID] = true
	}

	for _, conf := range append(append([]*config.Broker(nil), s.Brokers()...), s.HeldBrokers()...) {
		b := brokers[conf.UID]
		if b == nil && !conf.Ready && !conf.Held {
			continue // never ran: there is nothing to keep
		}
		triggers := s.TriggersOf(conf.Namespace, conf.Name)
		b, err := d.open(ctx, conf, b, triggers)
		if err != nil {
			errs = append(errs, &BrokerError{conf.UID, conf.FullName(), err})
			continue
		}
		brokers[conf.UID] = b
		if err := b.apply(ctx, conf.Held, triggers, removed); err != nil {
			errs = append(errs, &BrokerError{conf.UID, conf.FullName(), err})
		}
	}
	var gone []*broker
	for uid, b := range brokers {
		if removed[uid] {
			delete(brokers, uid)
			gone = append(gone, b)
		}
	}
	for _, b := range gone {
		b.remove(named(brokers, b.name))
	}
	d.brokers.Store(&brokers)
	d.forgetPaused(removed)
	for uid := range removed {
		for _, log := range d.opts.Logs {
			if err := log.Remove(ctx, uid); err != nil {
				errs = append(errs, fmt.Errorf("remove broker %s: %w", uid, err))
			}
		}
	}
	return errors.Join(errs...)
}

// named reports whether one of the brokers has this name.
func named(brokers map[channel.UID]*broker, name string) bool {
	for _, b := range brokers {
		if b.name == name {
			return true
		}
	}
	return false
}

// BrokerError is why a Broker, or a change of its Triggers, is not in force.
type BrokerError struct {
	UID  channel.UID
	Name string // namespace/name
	Err  error
}

func (e *BrokerError) Error() string { return "broker " + e.Name + ": " + e.Err.Error() }
func (e *BrokerError) Unwrap() error { return e.Err }

// open opens a broker's log, and starts its scanners if it is new.
func (d *Dispatcher) open(ctx context.Context, conf *config.Broker, b *broker, triggers []*config.Trigger) (*broker, error) {
	log := d.opts.Logs[conf.Channel]
	if log == nil {
		return nil, fmt.Errorf("this process has no channel of kind %s", conf.Channel)
	}
	opened, err := log.Broker(ctx, conf.Info())
	if err != nil {
		return nil, err
	}
	if b == nil {
		return newBroker(d, conf, opened, triggers)
	}
	return b, nil
}

// sorted lists the brokers by name.
func (d *Dispatcher) sorted() []*broker {
	brokers := make([]*broker, 0, len(*d.brokers.Load()))
	for _, b := range *d.brokers.Load() {
		brokers = append(brokers, b)
	}
	sort.Slice(brokers, func(i, j int) bool { return brokers[i].name < brokers[j].name })
	return brokers
}
