// Package channeltest holds every channel to the contract of package channel:
// Run for a Log, RunAppender for what is an Appender and nothing else, and
// RunDurable in addition for what claims to survive a crash.
//
// Each story plays in a synctest bubble with a log of its own, so time is
// virtual and a log that waits for something nobody will do is reported as a
// deadlock. A log must therefore start its goroutines in open or below Run,
// and keep pools of channels or timers to itself: one that crosses from one
// bubble into the next is a panic. What cannot live in a bubble because it
// waits for sockets passes RealTime.
//
// The package promises that a story fails only where the contract is broken.
// It does not measure, and it does not look for what an implementation
// promises beyond the contract. Its functions are for tests to call.
package channeltest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Option says what the contract leaves to the implementation.
type Option func(*suite)

// FullIs names the reason with which a broker at its MaxBytes refuses:
// channel.ErrQuota unless this says otherwise.
func FullIs(reason error) Option { return func(s *suite) { s.full = reason } }

// RealTime plays the stories on the real clock. They then take seconds, and
// "has not answered yet" is looked at once instead of proved.
func RealTime() Option { return func(s *suite) { s.realTime = true } }

// NumbersFrom says that the log numbers its shards from first where those
// behind it begin at 0, and that it is these which bid for keys.
func NumbersFrom(first channel.ShardID) Option { return func(s *suite) { s.first = first } }

// Run plays the whole contract. open returns an empty log whose Run nobody has
// called; the suite calls and ends it. Small units of storage (segments of
// 256 KiB or less) let removal show: the suite expects a settled event to be
// gone after 4 MiB of younger ones.
func Run(t *testing.T, open func(t *testing.T) channel.Log, options ...Option) {
	s := newSuite(options)
	stories := slices.Concat(appendStories(), readStories(), routesStories(), progressStories(),
		retentionStories(), quotaStories(), deadStories(), discardStories(), lifeStories())
	for _, story := range stories {
		s.play(t, story.name, func(t *testing.T) {
			w := s.start(t, open(t))
			defer w.stop()
			story.play(w)
		})
	}
	for name, play := range unstarted() {
		s.play(t, name, func(t *testing.T) { play(s, t, open(t)) })
	}
	s.playModel(t, false, func(*testing.T) reopener {
		return func(t *testing.T, _ bool) channel.Log { return open(t) }
	})
}

// Front is an Appender under test with a way to what it stores.
type Front struct {
	channel.Appender

	// Broker opens a broker where the appended events come to rest.
	Broker func(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error)
}

// RunAppender plays the Appender's half of the contract, on the real clock.
// open returns a front that is running, and ends it by t.Cleanup.
func RunAppender(t *testing.T, open func(t *testing.T) Front, options ...Option) {
	s := newSuite(append(options, RealTime()))
	for _, story := range appendStories() {
		s.play(t, story.name, func(t *testing.T) {
			story.play(&world{t: t, suite: s, Front: open(t), stop: func() {}})
		})
	}
}

// RunDurable plays what a log must bring through a crash and a clean close.
//
// Each story calls reopener once to get storage of its own and then its
// answer several times: first for a log over the empty storage, then for one
// over what the log before has left. The log before has been closed by ending
// its Run, or, where crash is true, is still running and perhaps in the middle
// of appends. In that case the answer must be a log over the storage as a
// crash at this instant would leave it (a snapshot, which the old log cannot
// reach any more); the suite ends the old one afterwards.
func RunDurable(t *testing.T, reopen func(t *testing.T) func(t *testing.T, crash bool) channel.Log, options ...Option) {
	s := newSuite(options)
	for _, story := range durableStories() {
		for _, crash := range []bool{false, true} {
			name := story.name + "/AfterAClose"
			if crash {
				name = story.name + "/AfterACrash"
			}
			s.play(t, name, func(t *testing.T) {
				again := reopen(t)
				w := &life{world: s.start(t, again(t, false)), again: again, crash: crash}
				defer func() { w.stop() }()
				story.play(w)
			})
		}
	}
	s.playModel(t, true, func(t *testing.T) reopener { return reopen(t) })
}

// reopener is what RunDurable's argument answers.
type reopener = func(t *testing.T, crash bool) channel.Log

type suite struct {
	full     error
	first    channel.ShardID
	realTime bool
}

func newSuite(options []Option) *suite {
	s := &suite{full: channel.ErrQuota}
	for _, option := range options {
		option(s)
	}
	return s
}

func (s *suite) play(t *testing.T, name string, f func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		if s.realTime {
			f(t)
		} else {
			synctest.Test(t, f)
		}
	})
}

// home is the shard that a key belongs to.
func (s *suite) home(b channel.BrokerLog, key string) channel.ShardID {
	shards := slices.Clone(b.Shards())
	for i := range shards {
		shards[i] -= s.first
	}
	return channel.Home(key, shards) + s.first
}

type story struct {
	name string
	play func(w *world)
}

// world is what one story has at hand.
type world struct {
	Front
	t     *testing.T
	suite *suite
	log   channel.Log // nil where only an Appender is under test
	stop  func()      // ends Run and checks what it says; may be called again
}

// start calls Run on a log.
func (s *suite) start(t *testing.T, log channel.Log) *world {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	stopped := false
	return &world{t: t, suite: s, log: log, Front: Front{Appender: log, Broker: log.Broker}, stop: func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("Run ended with %v, want a clean close", err)
		}
	}}
}

// settle waits until every other goroutine of the bubble waits too.
func (s *suite) settle() {
	if !s.realTime {
		synctest.Wait()
	}
}

// pause lets virtual time go by, and of real time enough for progress to
// become durable.
func (w *world) pause(d time.Duration) {
	if w.suite.realTime {
		d = min(d, 150*time.Millisecond)
	}
	w.wait(d)
}

func (w *world) wait(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.t.Context().Done():
	}
}

// broker opens a broker that keeps nothing settled.
func (w *world) broker(uid channel.UID) channel.BrokerLog {
	w.t.Helper()
	return w.brokerOf(channel.BrokerInfo{UID: uid, Name: "default/" + string(uid)})
}

func (w *world) brokerOf(info channel.BrokerInfo) channel.BrokerLog {
	w.t.Helper()
	b, err := w.Broker(w.t.Context(), info)
	if err != nil {
		w.t.Fatalf("open broker %s: %v", info.UID, err)
	}
	return b
}
