package dispatch_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

func TestAStopFinishesWhatIsInFlightAndASecondStartCarriesOn(t *testing.T) {
	inWorld(t, func(w *world) {
		calm := w.subscribe("calm", hang(3*time.Second))
		w.trigger("calm", "", "calm", annotate("penstock.dev/concurrency", "10"))
		w.run()
		w.send("order", 100)
		w.after(time.Second)
		before := time.Now()
		w.shutdown()
		if took := time.Since(before); took > 3*time.Second {
			t.Errorf("the stop took %v: it started attempts anew", took)
		}
		if calm.count() != 10 {
			t.Errorf("%d attempts when stopped, want the 10 in flight", calm.count())
		}
		w.run()
		w.after(time.Minute)
		if calm.count() != 100 {
			t.Errorf("%d attempts in all, want 100: each event once", calm.count())
		}
	})
}

func TestAnAttemptThatOutlivesTheDrainIsMadeAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		stuck := w.subscribe("stuck", func(n int, _ receipt, _ http.ResponseWriter) {
			if n == 1 {
				time.Sleep(time.Hour)
			}
		})
		w.options.DrainTimeout = 5 * time.Second
		w.trigger("stuck", "", "stuck", delivery(0, "", "", timeout("PT2H")))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		before := time.Now()
		w.shutdown()
		if took := time.Since(before); took != 5*time.Second {
			t.Errorf("the stop took %v, want the drain timeout of 5 s", took)
		}
		w.run()
		w.after(time.Second)
		if s := w.lane("stuck"); stuck.count() != 2 || s.Delivered != 1 || s.Dead != 0 {
			t.Errorf("%d attempts, lane %+v: want 2 attempts, delivered; an attempt cut off is none", stuck.count(), s)
		}
	})
}

// Three attempts before the restart and two after it are five: the count
// survives, and so does the wait.
func TestRetryStateSurvivesARestart(t *testing.T) {
	inWorld(t, func(w *world) {
		failing := w.subscribe("failing", status(http.StatusInternalServerError))
		w.trigger("failing", "", "failing", delivery(4, "linear", "PT10S"))
		w.run()
		w.send("order", 1)
		w.after(45 * time.Second) // attempts at 0, 10..12, 30..36
		if failing.count() != 3 {
			t.Fatalf("%d attempts before the restart, want 3", failing.count())
		}
		w.shutdown()
		w.run()
		w.after(time.Second)
		if failing.count() != 3 {
			t.Errorf("the restart forgot the wait")
		}
		w.after(10 * time.Minute)
		if failing.count() != 5 || len(w.letters("failing")) != 1 {
			t.Errorf("%d attempts, %d dead; want 5 and 1", failing.count(), len(w.letters("failing")))
		}
	})
}

func TestEventsBetweenTwoRunsAreDelivered(t *testing.T) {
	inWorld(t, func(w *world) {
		down := atomic.Bool{}
		sub := w.subscribe("sub", func(_ int, _ receipt, rw http.ResponseWriter) {
			if down.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("sub", "", "sub", delivery(100, "linear", "PT1S"))
		w.run()
		down.Store(true)
		w.send("order", 700) // more than a lane holds ready
		w.after(300 * time.Millisecond)
		w.shutdown()
		down.Store(false)
		w.run()
		w.after(10 * time.Minute)
		seen := map[string]int{}
		for _, r := range sub.receipts() {
			seen[r.id]++
		}
		if s := w.lane("sub"); len(seen) != 700 || s.Backlog != 0 || s.Delivered != 700 {
			t.Errorf("%d different events, lane %+v; want 700 and nothing pending", len(seen), s)
		}
	})
}

// The dead letter is stored, the sink is not reached before the stop: after
// it the event is not delivered again, but the sink still gets it.
func TestADeadEventIsNotDeliveredAgainAfterARestart(t *testing.T) {
	inWorld(t, func(w *world) {
		failing := w.subscribe("failing", status(http.StatusBadRequest))
		up := atomic.Bool{}
		graves := w.subscribe("graves", func(_ int, _ receipt, rw http.ResponseWriter) {
			if !up.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("failing", "", "failing", delivery(50, "linear", "PT10S", sink("graves")))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.shutdown()
		up.Store(true)
		w.run()
		w.after(time.Hour)
		if failing.count() != 1 || graves.count() != 2 || len(w.letters("failing")) != 1 || w.lane("failing").Backlog != 0 {
			t.Errorf("subscriber %d, sink %d, letters %d, backlog %d; want 1, 2, 1, 0",
				failing.count(), graves.count(), len(w.letters("failing")), w.lane("failing").Backlog)
		}
	})
}

// What is settled is settled for the log too, dead or delivered: it would pin
// its storage otherwise.
func TestSettledEventsArePendingNowhere(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("fine", nil)
		w.subscribe("failing", status(http.StatusBadRequest))
		w.trigger("fine", "", "fine")
		w.trigger("failing", "", "failing")
		w.run()
		w.send("order", 20)
		w.after(time.Second)
		log, _ := w.dispatcher.Log(brokerUID)
		for _, shard := range log.Shards() {
			p := log.Progress(shard)
			if _, next := log.Range(shard); p.Scanned != next {
				t.Errorf("shard %d: scanned to %d of %d", shard, p.Scanned, next)
			}
			for _, l := range p.Lanes {
				if n := l.Added.GetCardinality(); n != 0 || len(l.Retries) != 0 {
					t.Errorf("shard %d: %s has %d pending and %d retries in the log", shard, l.Trigger, n, len(l.Retries))
				}
			}
		}
	})
}

// A crash forgets what happened in the last 100 ms at most. The log takes 50 of
// them; the rest is ours.
func TestWhatHappenedIsHandedToTheLogSoon(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("sub", nil)
		w.trigger("sub", "", "sub")
		w.run()
		for i := range 10 { // whenever it happens between two flushes
			w.send("order", 1)
			w.after(time.Duration(i) * 7 * time.Millisecond)
			w.send("order", 1)
			w.after(45 * time.Millisecond)
			log, _ := w.dispatcher.Log(brokerUID)
			for _, shard := range log.Shards() {
				if _, next := log.Range(shard); next > 1 && log.Progress(shard).Scanned != next {
					w.t.Fatalf("round %d: shard %d is scanned to %d of %d for the log", i, shard, log.Progress(shard).Scanned, next)
				}
			}
			if n, _ := w.pendingInLog(); n != 0 {
				w.t.Fatalf("round %d: %d are pending for the log, and delivered", i, n)
			}
		}
	})
}

// tightFor has no room for progress for a while.
type tightFor struct {
	channel.Log
	refusals atomic.Int32
}

type tightBroker struct {
	channel.BrokerLog
	of *tightFor
}

func (f *tightFor) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := f.Log.Broker(ctx, info)
	return &tightBroker{b, f}, err
}

func (b *tightBroker) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	if b.of.refusals.Add(-1) >= 0 {
		return &channel.Refused{Err: channel.ErrFull, RetryAfter: time.Second}
	}
	return b.BrokerLog.SaveProgress(ctx, changes)
}

func TestProgressThatTheLogHasNoRoomForIsSavedLater(t *testing.T) {
	inWorld(t, func(w *world) {
		tight := &tightFor{Log: w.log}
		w.log = tight
		sub := w.subscribe("sub", nil)
		failing := w.subscribe("failing", status(http.StatusServiceUnavailable))
		w.trigger("sub", "", "sub")
		w.trigger("failing", "", "failing", delivery(50, "linear", "PT10M"))
		w.run()
		tight.refusals.Store(8)
		w.send("order", 10)
		w.after(250 * time.Millisecond) // refused six times by now
		w.send("order", 10)
		w.after(time.Second)
		w.shutdown()
		w.run()
		w.after(time.Second)
		if sub.count() != 20 {
			t.Errorf("%d deliveries, want 20: progress was lost, or saved out of order", sub.count())
		}
		if s := w.lane("failing"); s.Backlog != 20 || s.Waiting != 20 || failing.count() != 20 {
			t.Errorf("failing lane %+v after %d attempts; want 20 pending and waiting", s, failing.count())
		}
	})
}
