// Package memory is a channel that lives and dies with its process. It keeps
// the whole contract of package channel but one word: stored means stored
// here, and nothing of it survives a restart. Whoever wants that asks for it
// by name.
//
// It is bounded in bytes, per log and per broker, and an append that does not
// fit is refused with channel.ErrFull. What is settled is given back at once,
// unless the broker's retention asks to keep it, and then it is the first to
// go when room is needed. The last sixteenth of each bound is for dead
// letters: a full broker whose events could not die could not drain.
//
// Events are copied into slabs of at most 64 KiB without pointers, beside an
// index of 24 bytes an event, so that a million pending events cost the
// garbage collector a few ten thousand objects. An Event that Read hands out
// is a view into a slab, and keeps the slab alive for as long as it is held.
// Routes and progress are kept too, and not counted.
//
// All methods may be called by any number of goroutines, SaveProgress by one
// per broker. Each broker has one lock, held while the events of one request
// are copied.
package memory

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
)

const (
	defaultMaxBytes = 256 << 20
	defaultShards   = 4
	maxShards       = 1 << 12
	retryAfter      = time.Second
)

// Options configure a Log. The zero value works.
type Options struct {
	MaxBytes int64            // bound on what all brokers keep, dead letters included; 0 means 256 MiB
	Logger   *slog.Logger     // hears of events that are lost in closing; nil means silence
	Now      func() time.Time // the clock of append times and retention; nil means time.Now
}

// Log is a channel.Log in memory.
type Log struct {
	maxBytes int64
	logger   *slog.Logger
	now      func() time.Time

	used    atomic.Int64 // bytes of all brokers
	running atomic.Bool  // started is closed; asked before the channel, for it is cheaper
	started chan struct{}
	work    chan struct{} // tells Run that retained events have a new end to wait for

	// brokers is replaced, never changed, so that Append finds its broker
	// without a lock.
	brokers atomic.Pointer[map[channel.UID]*broker]

	mu     sync.Mutex // held to replace brokers, to start and to close
	closed bool
}

var _ channel.Log = (*Log)(nil)

// New makes an empty log. It does nothing until Run is called.
func New(o Options) *Log {
	l := &Log{
		maxBytes: o.MaxBytes, logger: o.Logger, now: o.Now,
		started: make(chan struct{}), work: make(chan struct{}, 1),
	}
	if l.maxBytes <= 0 {
		l.maxBytes = defaultMaxBytes
	}
	if l.logger == nil {
		l.logger = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	l.brokers.Store(&map[channel.UID]*broker{})
	return l
}

// Run lets appends and reads begin, removes retained events when their time
// is over, and closes the log when ctx ends. It returns nil, or an error at
// once where it is called a second time.
func (l *Log) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.running.Load() {
		l.mu.Unlock()
		return errors.New("run memory channel: it has been run before")
	}
	l.running.Store(true)
	close(l.started)
	l.mu.Unlock()

	defer l.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.work:
		case <-timer.C:
		}
		// Without retained events there is no end to wait for: no wake-ups.
		timer.Stop()
		if wait, some := l.expire(); some {
			timer.Reset(wait)
		}
	}
}

// expire removes the retained events whose time is over and tells when to come
// again: at most a second after the next one's end, so that many go together,
// and at least once a minute, since an event that is settled late may end
// before those that were there.
func (l *Log) expire() (wait time.Duration, some bool) {
	now := l.now()
	for _, b := range *l.brokers.Load() {
		if end, ok := b.expire(now); ok {
			left := min(max(end.Sub(now), 0)+time.Second, time.Minute)
			if !some || left < wait {
				wait, some = left, true
			}
		}
	}
	return wait, some
}

func (l *Log) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, b := range *l.brokers.Load() {
		if lost := b.end(channel.ErrClosed); lost > 0 {
			l.logger.Warn("memory channel closed with events not delivered", "broker", b.Info().Name, "events", lost)
		}
	}
}

// wait returns when Run has been called.
func (l *Log) wait(ctx context.Context) error {
	if l.running.Load() {
		return nil
	}
	select {
	case <-l.started:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Broker implements channel.Log. It does not block.
func (l *Log) Broker(_ context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	if info.UID == "" {
		return nil, fmt.Errorf("open broker %s in memory: it has no uid", info.Name)
	}
	if info.Shards < 0 || info.Shards > maxShards {
		return nil, fmt.Errorf("open broker %s in memory: %d shards, want 1 to %d", info.Name, info.Shards, maxShards)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("open broker %s in memory: %w", info.Name, channel.ErrClosed)
	}
	if b := (*l.brokers.Load())[info.UID]; b != nil {
		b.configure(info)
		return b, nil
	}
	if info.Shards == 0 {
		info.Shards = defaultShards
	}
	b := newBroker(l, info)
	brokers := maps.Clone(*l.brokers.Load())
	brokers[info.UID] = b
	l.brokers.Store(&brokers)
	return b, nil
}

// Brokers implements channel.Log.
func (l *Log) Brokers() []channel.BrokerInfo {
	var infos []channel.BrokerInfo
	for _, b := range *l.brokers.Load() {
		infos = append(infos, b.Info())
	}
	return infos
}

// Remove implements channel.Log. It does not block.
func (l *Log) Remove(_ context.Context, uid channel.UID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("remove broker %s from memory: %w", uid, channel.ErrClosed)
	}
	if b := (*l.brokers.Load())[uid]; b != nil {
		brokers := maps.Clone(*l.brokers.Load())
		delete(brokers, uid)
		l.brokers.Store(&brokers)
		b.end(channel.ErrNoBroker)
		b.release()
	}
	return nil
}

// Ready implements channel.Log. A full log is ready: it may have room the next
// moment, and refuses with a reason of its own until then.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return channel.ErrClosed
	case !l.running.Load():
		return fmt.Errorf("%w: not started", channel.ErrUnavailable)
	}
	return nil
}

// wake has Run look for the end of retained events again.
func (l *Log) wake() {
	select {
	case l.work <- struct{}{}:
	default: // it will look anyway
	}
}
