package dispatch_test

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// countedLog counts the events that are read by position.
type countedLog struct {
	channel.Log
	got atomic.Int64
}

type countedBroker struct {
	channel.BrokerLog
	log *countedLog
}

func (l *countedLog) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := l.Log.Broker(ctx, info)
	return countedBroker{b, l}, err
}

func (b countedBroker) Get(ctx context.Context, shard channel.ShardID, at []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	b.log.got.Add(int64(len(at)))
	return b.BrokerLog.Get(ctx, shard, at, buf)
}

// A backlog may be larger than the memory, and the disk has better to do than
// to read it over and over for somebody who does not answer.
func TestWhatWaitsForASubscriberThatIsDownIsLeftInTheLog(t *testing.T) {
	inWorld(t, func(w *world) {
		log := &countedLog{Log: w.log}
		w.log = log
		w.trigger("sub", "", "sub", delivery(100, "linear", "PT1S"))
		w.run()
		const events = 8000
		for range events / 500 {
			w.send("order", 500)
			w.after(50 * time.Millisecond)
		}
		w.after(2 * time.Minute)
		if s := w.lane("sub"); s.Backlog != events || s.Waiting > 1000 {
			t.Errorf("%d pending, %d of them taken up", s.Backlog, s.Waiting)
		}
		if n := log.got.Load(); n > 1500 {
			t.Errorf("%d events were read while the subscriber was down", n)
		}
		w.shutdown()
		w.run()
		w.after(time.Minute)
		if n := log.got.Load(); n > 3000 {
			t.Errorf("%d events were read after a restart", n)
		}
		sub := w.subscribe("sub", nil)
		w.after(2 * time.Minute)
		if s := w.lane("sub"); s.Backlog != 0 || sub.count() != events {
			t.Errorf("%d pending, %d delivered once it is up, want each of %d once", s.Backlog, sub.count(), events)
		}
	})
}

// Each event is held for as long as its own acceptance says, whether it has
// been read or not.
func TestABacklogIsGivenUpInTheOrderItCame(t *testing.T) {
	inWorld(t, func(w *world) {
		w.trigger("sub", "", "sub", delivery(0, "linear", "PT1S"))
		w.run()
		w.send("early", 2000)
		w.after(time.Minute)
		w.send("late", 2000)
		w.after(4*time.Minute + 30*time.Second)
		// A probe was the only attempt of one or another of the late ones.
		if s := w.lane("sub"); s.Dead < 2000 || s.Dead > 2010 || s.Dead+s.Backlog != 4000 {
			t.Errorf("after 5 minutes and a half %d are dead, %d pending", s.Dead, s.Backlog)
		}
		w.after(time.Minute)
		if s := w.lane("sub"); s.Dead != 4000 || s.Backlog != 0 {
			t.Errorf("a minute later %d are dead, %d pending", s.Dead, s.Backlog)
		}
	})
}

// What comes back at once is not had sooner by 64 who wait for it on every
// lane. Who is slow gets all that a lane may have, and so does who has said how
// many it wants.
func TestLanesThatAreAnsweredFastShareWhatIsInFlight(t *testing.T) {
	const lanes = 20
	for name, test := range map[string]struct {
		each        time.Duration
		change      func(*config.Object)
		least, most int
	}{
		"fast":           {time.Millisecond, func(*config.Object) {}, lanes, lanes * 7},
		"slowly":         {10 * time.Millisecond, func(*config.Object) {}, lanes * 60, lanes * 64},
		"with a setting": {time.Millisecond, annotate("penstock.dev/concurrency", "64"), lanes * 60, lanes * 64},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				for i := range lanes {
					w.trigger(fmt.Sprintf("sub%d", i), "", "sub", test.change)
				}
				w.run()
				sub := w.subscribe("sub", func(int, receipt, http.ResponseWriter) { time.Sleep(test.each) })
				const events = 600
				for range events / 50 {
					w.send("order", 50)
					w.after(test.each / 2)
				}
				w.after(5 * time.Minute)
				if sub.count() != events*lanes || sub.most < test.least || sub.most > test.most {
					t.Errorf("%d requests, %d at once, want %d to %d", sub.count(), sub.most, test.least, test.most)
				}
			})
		})
	}
}

// A subscriber that was fast and is not any more is found out by its silence:
// nobody waits for the answers that do not come.
func TestASubscriberThatBecomesSlowGetsMoreAtOnceWithinMilliseconds(t *testing.T) {
	inWorld(t, func(w *world) {
		const lanes = 16 // which share 64
		for i := range lanes {
			w.trigger(fmt.Sprintf("sub%d", i), "", "sub")
		}
		var hangs atomic.Bool
		w.run()
		sub := w.subscribe("sub", func(int, receipt, http.ResponseWriter) {
			if hangs.Load() {
				time.Sleep(time.Second)
			}
		})
		w.send("order", 200)
		w.after(10 * time.Second)
		hangs.Store(true)
		w.send("order", 64)
		w.after(100 * time.Millisecond)
		if sub.most < lanes*60 {
			t.Errorf("%d at once 100 ms after it began to hang, want 64 for each of %d triggers", sub.most, lanes)
		}
		w.after(time.Minute)
	})
}
