// Package dedup has an event that is sent twice stored once. An Appender
// stands before the Append of a log and knows the events of each Broker that
// were stored within its window by their identity, source and id (CloudEvents
// 1.0, 3.1.1: producers must make the pair unique). One that comes again is
// answered with the ID that its first copy has, and is not stored.
//
// # What it promises
//
// An event is told to be a duplicate only where one with its source and id is
// stored, as durably as the log says: what was refused is not remembered, what
// ended unknown is not either, and nothing is known before the log has
// acknowledged it. Of two that come at once one is appended. The other waits:
// where the first is stored it is a duplicate, where that is refused or its
// outcome unknown it is appended itself. After an unknown outcome an event may
// so be there twice, which its sender was told; nothing that was acknowledged
// is ever missing. An append of several events of which some are known stores
// the others, all or none. An event that is in one append twice is stored once.
//
// A window is exact to two seconds. An end of the process forgets nothing, not
// even by SIGKILL: what is known is written once a second without a sync, and
// what was stored after that is read again from the log, which has it unless
// it lets settled events go within that second. A loss of power may take what
// was not synced, up to an eighth of the window (tables are); it is read from
// the log too, so that it costs those events only which the log has let go:
// settled, and not retained.
//
// It never refuses an event for its own sake. Where its files cannot be
// written it keeps MaxUnwritten events in memory; beyond that, and beyond
// MaxBytes, the oldest entries go first. The window is then shorter than what
// was asked for, which Stats shows and a log line says once.
//
// # What passes it
//
// Whatever comes in at a door: ingress of this process, and appends from
// another. Replies of subscribers do not, and must not: many repliers answer
// with the id and source of the event they got and only another type, which
// is wrong and works everywhere, and would be swallowed here. A reply is also
// appended again only when its event is delivered again, which at least once
// allows. (A reply stored in the last second before a crash, or the last ten
// where nothing had come in before it, is found in the log among the others, and
// then counts as known. By CloudEvents it is the same event as one with its pair.)
//
// Within one process all events of a Broker are looked up in one set,
// whatever their shard. Among several each knows its own: channel.KeyIdentity
// sends an event to where its first copy went. That is no help where another
// partitionkey, or another number of dispatchers, gave the two different homes.
//
// # What it costs
//
// 32 bytes on disk for each event within the window, and 1.3 MB of memory for
// a million of them (10 bits each for a filter); the newest GenerationEntries
// are in memory, about 100 bytes each, up to twice while they are written. An
// append costs some hundred nanoseconds more; one that is a duplicate a read
// of one or two pages besides.
//
// Append, Knows and Stats may be called by any number of goroutines. Set,
// Remove and Keep by one at a time. Run is called once.
package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// Defaults of Options.
const (
	DefaultMaxBytes          = 256 << 20 // 8 million events
	DefaultMaxBytesMemory    = 64 << 20  // 2 million
	DefaultGenerationEntries = 128 << 10
	DefaultMaxUnwritten      = 4 * DefaultGenerationEntries
)

const (
	flushEvery = time.Second
	// restEvery is the same where nothing comes in. The log may move all the
	// same, by replies: the first of them are noticed this late.
	restEvery  = 10 * time.Second
	retryAfter = time.Second
)

// Options configure an Appender. The zero value keeps everything in memory.
type Options struct {
	Dir    string       // folder for what is known; "" keeps it in memory
	Logger *slog.Logger // nil logs nothing

	// MaxBytes bounds the tables of one Broker, on disk or in memory; beyond it
	// the oldest go. 0 is the default.
	MaxBytes int64

	// GenerationEntries is how many events are known in a map before they become
	// a table; 0 is the default.
	GenerationEntries int

	// MaxUnwritten is how many events in full generations wait to become tables;
	// beyond it, for the disk is slow or takes nothing, the oldest are forgotten.
	// 0 is the default.
	MaxUnwritten int

	Now func() time.Time // wall clock; nil is time.Now
}

// Appender is a channel.Appender that stores an event once. Make it with New.
type Appender struct {
	inner channel.Appender
	o     Options
	log   *slog.Logger
	keys  keys
	calls sync.Pool // of *call

	// sets are the Brokers that are known, those without a window as nil. The
	// map is replaced, never changed.
	sets    atomic.Pointer[map[channel.UID]*set]
	frozen  chan struct{} // holds one token while there is something to make a table of
	resting atomic.Bool   // nothing is to be flushed: who has something sees to it by stirred
	stirred chan struct{}
	running sync.WaitGroup
}

var _ channel.Appender = (*Appender)(nil)

// New returns an Appender before inner. It starts nothing and opens nothing.
func New(inner channel.Appender, o Options) *Appender {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
		if o.Dir == "" {
			o.MaxBytes = DefaultMaxBytesMemory
		}
	}
	if o.GenerationEntries == 0 {
		o.GenerationEntries = DefaultGenerationEntries
	}
	if o.MaxUnwritten == 0 {
		o.MaxUnwritten = DefaultMaxUnwritten
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Appender{inner: inner, o: o, log: o.Logger, keys: keys{dir: o.Dir}, frozen: make(chan struct{}, 1), stirred: make(chan struct{}, 1)}
	a.sets.Store(&map[channel.UID]*set{})
	return a
}

// Broker is what Set needs to know of one.
type Broker struct {
	UID    channel.UID
	Name   string        // namespace/name, for people
	Window time.Duration // 0 lets every event through, and forgets what was known
	Log    channel.BrokerLog
}

// Set gives a Broker its window. The first time it reads what is known, and
// from the log what is not yet; the log must run. After an error the Broker is
// not known (Knows), or has the window it had. Events that were stored before
// a Broker had a window at all are not known.
func (a *Appender) Set(ctx context.Context, b Broker) error {
	s := (*a.sets.Load())[b.UID]
	switch {
	case b.Window <= 0:
		if err := a.forget(b.UID, s); err != nil {
			return err
		}
		a.put(b.UID, nil)
		return nil
	case s != nil:
		s.window.Store(int64(b.Window))
		return nil
	}
	s, err := a.open(ctx, b)
	if err != nil {
		return fmt.Errorf("events known of broker %s: %w", b.Name, err)
	}
	a.put(b.UID, s)
	return nil
}

// Remove forgets a Broker with its files.
func (a *Appender) Remove(uid channel.UID) error {
	sets := *a.sets.Load()
	err := a.forget(uid, sets[uid])
	if _, ok := sets[uid]; ok {
		next := maps.Clone(sets)
		delete(next, uid)
		a.sets.Store(&next)
	}
	return err
}

func (a *Appender) put(uid channel.UID, s *set) {
	if old, ok := (*a.sets.Load())[uid]; ok && old == s {
		return
	}
	next := maps.Clone(*a.sets.Load())
	next[uid] = s
	a.sets.Store(&next)
	if s != nil {
		a.stir()
	}
}

// Knows reports whether Set has said what window the Broker has, if any.
func (a *Appender) Knows(uid channel.UID) bool {
	_, ok := (*a.sets.Load())[uid]
	return ok
}

// Stats is what is known of one Broker's events.
type Stats struct {
	UID     channel.UID
	Name    string
	Entries int
	Bytes   int64         // of tables, on disk or in memory
	Window  time.Duration // in force: less than what was asked for where a bound was reached
}

// Stats calls yield for each Broker with a window until it answers false.
func (a *Appender) Stats(yield func(Stats) bool) {
	for _, s := range *a.sets.Load() {
		if s != nil && !yield(s.stats()) {
			return
		}
	}
}

// Run writes down what is known until ctx ends, and then once more. The log
// must outlive it. An Append after it has returned is as good as one before.
func (a *Appender) Run(ctx context.Context) error {
	a.running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.frozen:
			}
			for _, s := range *a.sets.Load() {
				if s != nil {
					s.tidy(ctx)
				}
			}
		}
	})
	a.flushing(ctx)
	a.running.Wait()
	var errs []error
	for _, s := range *a.sets.Load() {
		if s != nil {
			errs = append(errs, s.close())
		}
	}
	return errors.Join(errs...)
}

// flushing flushes once a second while events come in or their log moves, and
// rests while they do not.
func (a *Appender) flushing(ctx context.Context) {
	timer := time.NewTimer(flushEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.stirred:
			timer.Reset(flushEvery)
			continue
		case <-timer.C:
		}
		a.resting.Store(true) // first: what comes in from here on stirs
		busy, some := false, false
		for _, s := range *a.sets.Load() {
			if s != nil {
				some = true
				busy = s.flush() || busy
			}
		}
		switch {
		case busy:
			a.resting.Store(false)
			timer.Reset(flushEvery)
		case some:
			timer.Reset(restEvery)
		}
	}
}

// stir ends the rest of flushing.
func (a *Appender) stir() {
	if a.resting.Load() && a.resting.CompareAndSwap(true, false) {
		select {
		case a.stirred <- struct{}{}:
		default:
		}
	}
}

// call is one Append under way. Its slices are used again.
type call struct {
	hashes []hash
	same   []int  // the same event earlier in the call, -1 for none
	own    []bool // is ours to append
	out    []channel.Stored
	seen   map[hash]int
	page   [pageSize]byte
	wait   chan struct{} // closed at the end; nil where nobody waits
	epoch  uint64
	tables []*table
}

func (c *call) reset(n int) {
	if cap(c.hashes) < n {
		c.hashes, c.same, c.own = make([]hash, n), make([]int, n), make([]bool, n)
	}
	c.hashes, c.same, c.own = c.hashes[:n], c.same[:n], c.own[:n]
}

// Append implements channel.Appender.
func (a *Appender) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	s := (*a.sets.Load())[uid]
	if s == nil || len(events) == 0 {
		return a.inner.Append(ctx, uid, events)
	}
	for i := range events {
		if events[i].IsZero() {
			return nil, &channel.Refused{Err: fmt.Errorf("event %d of %d is empty", i+1, len(events))}
		}
	}
	c, _ := a.calls.Get().(*call)
	if c == nil {
		c = &call{}
	}
	c.reset(len(events))
	for i := range events {
		s.hasher.of(events[i], &c.hashes[i])
	}
	c.pair()
	for {
		busy := s.reserve(c)
		if busy == nil {
			break
		}
		select {
		case <-busy:
		case <-ctx.Done():
			a.recycle(c)
			return nil, &channel.Refused{Err: fmt.Errorf("%w: the same event is being stored: %w", channel.ErrUnavailable, ctx.Err()), RetryAfter: retryAfter}
		}
	}
	return a.append(ctx, s, c, events)
}

// errPanicked is the outcome of an append until it returns.
var errPanicked = fmt.Errorf("%w: append has panicked", channel.ErrUnknown)

// append looks up what was reserved, and stores what is new of it.
func (a *Appender) append(ctx context.Context, s *set, c *call, events []event.Event) (answer []channel.Stored, err error) {
	err = errPanicked
	defer func() { // also where the log panics: nobody must wait for ever
		s.settle(c, answer, err)
		a.recycle(c)
	}()
	s.look(c)
	rest, all := c.fresh(events)
	switch {
	case all:
		answer, err = a.inner.Append(ctx, s.uid, events)
		if err == nil && len(answer) != len(events) {
			answer, err = nil, fmt.Errorf("%w: %d ids for %d events", channel.ErrUnknown, len(answer), len(events))
		}
		return answer, err
	case len(rest) == 0:
		return c.answer(nil), nil
	}
	stored, err := a.inner.Append(ctx, s.uid, rest)
	if err == nil && len(stored) != len(rest) {
		err = fmt.Errorf("%w: %d ids for %d events", channel.ErrUnknown, len(stored), len(rest))
	}
	if err != nil {
		return nil, err
	}
	return c.answer(stored), nil
}

// pair finds events that are in the call twice.
func (c *call) pair() {
	if len(c.hashes) > 16 {
		if c.seen == nil {
			c.seen = make(map[hash]int, len(c.hashes))
		}
		for i, h := range c.hashes {
			if first, ok := c.seen[h]; ok {
				c.same[i] = first
				continue
			}
			c.seen[h], c.same[i] = i, -1
		}
		clear(c.seen)
		return
	}
	for i := range c.hashes {
		c.same[i] = -1
		for j := range i {
			if c.hashes[i] == c.hashes[j] {
				c.same[i] = j
				break
			}
		}
	}
}

// fresh are the events that are to be stored; all says that every one is.
func (c *call) fresh(events []event.Event) (rest []event.Event, all bool) {
	n := 0
	for _, own := range c.own {
		if own {
			n++
		}
	}
	if n == len(events) {
		return nil, true
	}
	if n == 0 {
		return nil, false
	}
	rest = make([]event.Event, 0, n)
	for i, own := range c.own {
		if own {
			rest = append(rest, events[i])
		}
	}
	return rest, false
}

// answer joins what was stored and what was known.
func (c *call) answer(stored []channel.Stored) []channel.Stored {
	all := make([]channel.Stored, len(c.hashes))
	for i := range all {
		switch {
		case c.same[i] >= 0:
			all[i] = channel.Stored{ID: all[c.same[i]].ID, Duplicate: true}
		case c.own[i]:
			all[i], stored = stored[0], stored[1:]
		default:
			all[i] = c.out[i]
		}
	}
	return all
}

// recycle takes back a call that nothing refers to any more: who waits for it
// holds its channel only.
func (a *Appender) recycle(c *call) {
	c.tables, c.wait = nil, nil
	a.calls.Put(c)
}
