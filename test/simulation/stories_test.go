package simulation_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/history"
)

// A subscriber that takes everything gets each event at the very instant
// whether it is alone or has the worst neighbours. (The disk takes no time
// here: what neighbours have written shares its syncs.)
func TestBadNeighboursDelayAHealthyTriggerByNothing(t *testing.T) {
	play := func(t *testing.T, neighbours bool) (got []receipt) {
		tell(t, func(w *world) {
			healthy := w.with("healthy", delivery{concurrency: 2})
			healed := func() {}
			if neighbours {
				healed = w.rec.Fault(history.Subscriber, "neighbours") // their backlog lasts as long as they are bad
				for name, m := range map[string]mood{
					"hung":      {wait: 24 * time.Hour},
					"dripping":  {drip: 3600},
					"failing":   {code: 500},
					"waiting":   {code: 503, retryAfter: time.Minute},
					"refusing":  {code: 400},
					"resetting": {reset: true},
				} {
					w.with(name, delivery{retry: 3, delay: "PT1S", timeout: "PT30S", backoffMax: "1m"}).feel(m)
				}
				w.with("down", delivery{retry: 3, delay: "PT1S", backoffMax: "1m"}).down()
			}
			w.boot()
			for i := range 60 {
				w.at(time.Duration(i) * 700 * time.Millisecond)
				w.send(5)
			}
			w.settle(time.Hour)
			healed()
			got = healthy.receipts()
		})
		// Within one instant they come in any order.
		slices.SortFunc(got, func(a, b receipt) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.id, b.id))
		})
		return got
	}
	alone, beside := play(t, false), play(t, true)
	if len(alone) != 300 || !slices.Equal(alone, beside) {
		t.Errorf("%d receipts alone and %d beside others: want the same 300 at the same instants", len(alone), len(beside))
		for i := range min(len(alone), len(beside)) {
			if alone[i] != beside[i] {
				t.Fatalf("the first that differs: %v alone, %v beside", alone[i], beside[i])
			}
		}
	}
}

// F16: how often a subscriber that is down for an hour is tried in vain.
func TestASubscriberThatWasDownForAnHourGetsEverything(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 60, backoffMax: "5m", delay: "PT1S"})
		w.boot()
		w.send(10)
		w.at(time.Second) // they are answered: what is cut off in that instant may come twice
		heal := w.rec.Fault(history.Subscriber, "down")
		sub.down()
		for i := range 120 {
			w.at(time.Duration(i)*30*time.Second + 2*time.Second)
			w.send(2)
		}
		w.at(time.Hour)
		down := w.lane("sub")
		sub.up()
		heal()
		w.settle(time.Hour)
		lane := w.lane("sub")
		if lane.Delivered != 250 || lane.Letters != 0 || sub.distinct() != 250 {
			t.Errorf("lane %+v, want 250 delivered", lane)
		}
		t.Logf("%d attempts in vain for 240 events in an hour: amplification %.1f (no circuit breaker yet)",
			down.Failed, float64(down.Failed+240)/240)
	})
}

// F17: a hanging, a dripping and an endless answer hold a slot for the time
// limit of the attempt, and no more of the answer than agreed.
func TestAnAnswerThatDoesNotEndHoldsASlotForTheTimeLimit(t *testing.T) {
	for name, m := range map[string]mood{"hangs": {wait: 24 * time.Hour}, "drips": {drip: 1 << 20}} {
		t.Run(name, func(t *testing.T) {
			tell(t, func(w *world) {
				sub := w.with("sub", delivery{retry: 2, policy: "linear", delay: "PT10S", timeout: "PT20S", concurrency: 1})
				sub.feel(m)
				w.boot()
				ids := w.send(2)
				w.settle(time.Hour)
				// One slot: an event comes when the other has left it. Which of
				// the two is first is open: they lie in different shards.
				first, second := sub.instants(ids[0]), sub.instants(ids[1])
				if len(first) != 3 || len(second) != 3 || min(first[0], second[0]) != 0 || max(first[0], second[0]) != 20*time.Second {
					t.Errorf("attempts at %v and %v: want one event 20 s after the other, 3 attempts each", first, second)
				}
				if lane := w.lane("sub"); lane.Letters != 2 {
					t.Errorf("%d dead letters, want 2", lane.Letters)
				}
			})
		})
	}
	t.Run("10 GB", func(t *testing.T) {
		tell(t, func(w *world) {
			sub := w.with("sub", delivery{retry: 0, timeout: "PT1M", concurrency: 1})
			var written atomic.Int64
			sub.also = func(rw http.ResponseWriter) {
				_ = http.NewResponseController(rw).Flush() // from here on the broker reads along
				for written.Load() < 10<<30 {
					n, err := rw.Write(make([]byte, 64<<10))
					if written.Add(int64(n)); err != nil {
						return
					}
				}
			}
			w.boot()
			w.send(1)
			w.settle(time.Minute)
			if lane := w.lane("sub"); lane.Delivered != 1 || written.Load() > 2<<20 {
				t.Errorf("lane %+v after %d bytes of an answer: want the event delivered and the rest not read", lane, written.Load())
			}
		})
	})
}

// F18: one event that its subscriber never takes is dead after its attempts,
// and holds up none of the others.
func TestAPoisonMessageDiesAloneAndDelaysNobody(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 3, policy: "linear", delay: "PT5S"})
		var events []history.Event
		for range 50 {
			events = append(events, history.NewEvent(w.events))
		}
		poison := events[20].ID()
		sub.pick = func(id string) mood {
			if id == poison {
				return mood{code: 500}
			}
			return mood{}
		}
		w.boot()
		for _, e := range events {
			w.sender("shop", "default").Send(context.Background(), e)
		}
		w.at(time.Second)
		if lane := w.lane("sub"); lane.Delivered != 49 || lane.Waiting != 1 {
			t.Errorf("lane %+v after a second: want 49 delivered, one waiting", lane)
		}
		w.settle(time.Hour)
		if lane := w.lane("sub"); lane.Delivered != 49 || lane.Letters != 1 || len(sub.instants(poison)) != 4 {
			t.Errorf("lane %+v, %d attempts of the one; want 49 delivered, one dead after 4", lane, len(sub.instants(poison)))
		}
	})
}

// F19: what a subscriber asks for with Retry-After is granted, up to the cap of
// the Trigger, and never undercut.
func TestRetryAfterIsGrantedUpToItsCap(t *testing.T) {
	for _, c := range []struct {
		asked     time.Duration
		granted   string // retryAfterMax
		code      int
		wait, add time.Duration // at least, and jitter at most
	}{
		{7 * time.Second, "", 429, 7 * time.Second, 0},
		{7 * time.Second, "", 503, 7 * time.Second, 0},
		{time.Hour, "PT30S", 429, 30 * time.Second, 0},
		{time.Hour, "", 503, time.Minute, 0}, // the cap is that of all waits
		{7 * time.Second, "PT0S", 429, 2 * time.Second, 400 * time.Millisecond},
		{7 * time.Second, "", 500, 2 * time.Second, 400 * time.Millisecond}, // has no such meaning there
	} {
		t.Run(fmt.Sprintf("%d asks for %v of %s", c.code, c.asked, c.granted), func(t *testing.T) {
			tell(t, func(w *world) {
				sub := w.with("sub", delivery{retry: 1, policy: "linear", delay: "PT2S", retryAfterMax: c.granted, backoffMax: "1m"})
				sub.feel(mood{code: c.code, retryAfter: c.asked})
				w.boot()
				ids := w.send(1)
				w.settle(2 * time.Hour)
				at := sub.instants(ids[0])
				if len(at) != 2 || at[1]-at[0] < c.wait || at[1]-at[0] > c.wait+c.add {
					t.Errorf("attempts at %v, want %v in between and at most %v more", at, c.wait, c.add)
				}
			})
		})
	}
}
