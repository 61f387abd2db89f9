package dispatch_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestASlowTriggerDoesNotDelayAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		slow, fast := w.subscribe("slow", hang(time.Hour)), w.subscribe("fast", nil)
		w.trigger("slow", "", "slow", delivery(0, "", "", timeout("PT2H")))
		w.trigger("fast", "", "fast")
		w.run()
		w.send("order", 1000)
		w.after(time.Second)
		if fast.count() != 1000 {
			t.Errorf("the fast one got %d of 1000 while the other hangs", fast.count())
		}
		if s := w.lane("slow"); s.InFlight != 64 || s.Backlog != 1000 {
			t.Errorf("slow lane: %d in flight, backlog %d; want 64 and 1000", s.InFlight, s.Backlog)
		}
		w.after(24 * time.Hour)
		if slow.count() != 1000 || slow.most != 64 {
			t.Errorf("the slow one got %d, %d at a time; want 1000, 64", slow.count(), slow.most)
		}
	})
}

// What else the subscribers do must not show in when a healthy one gets its
// events: not by a millisecond, not by the order, in any state of the others.
func TestBadNeighboursDelayAHealthyTriggerByExactlyNothing(t *testing.T) {
	neighbours := map[string]func(n int, r receipt, rw http.ResponseWriter){
		"hung": hang(10 * time.Minute),
		"dripping": func(_ int, _ receipt, rw http.ResponseWriter) { // headers at once, then a byte a second
			for range 600 {
				if _, err := rw.Write([]byte("x")); err != nil {
					return
				}
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		},
		"failing": status(http.StatusInternalServerError),
		"huge": func(_ int, _ receipt, rw http.ResponseWriter) { // 10 GB, as fast as they are taken
			rw.Header().Set("Content-Length", "10000000000")
			for block := make([]byte, 64<<10); ; {
				if _, err := rw.Write(block); err != nil {
					return
				}
			}
		},
		"endless": func(_ int, r receipt, rw http.ResponseWriter) {
			for _, h := range []string{"Ce-Id", "Ce-Source", "Ce-Type", "Ce-Specversion"} {
				rw.Header().Set(h, r.header.Get(h))
			}
			for block := make([]byte, 64<<10); ; {
				if _, err := rw.Write(block); err != nil {
					return
				}
			}
		},
	}
	// For 2 s an event each 7 ms, and then a minute of quiet: the window of the
	// hung one is full after half a second, the failing one is in all its
	// retries, and letters are stored. Those who answer much get each 20th.
	run := func(beside ...string) (at map[string]time.Duration) {
		inWorld(t, func(w *world) {
			healthy := w.subscribe("healthy", nil)
			w.trigger("healthy", "", "healthy")
			for _, name := range beside {
				w.subscribe(name, neighbours[name])
				wants := ""
				if name == "huge" || name == "endless" {
					wants = "large"
				}
				w.trigger(name, wants, name, delivery(2, "exponential", "PT0.1S", timeout("PT30S")))
			}
			w.run()
			for n := range 300 {
				kind := "order"
				if n%20 == 0 {
					kind = "large"
				}
				w.append(newEvent(t, fmt.Sprintf("e-%d", n), kind))
				w.after(7 * time.Millisecond)
			}
			for _, name := range beside {
				if w.lane(name).Delivered+w.lane(name).Failed+uint64(w.lane(name).InFlight) == 0 {
					t.Errorf("nothing was tried with the %s one", name)
				}
			}
			w.after(time.Minute)
			at = make(map[string]time.Duration)
			for _, r := range healthy.receipts() {
				at[r.id] = r.at
			}
		})
		return at
	}
	alone := run()
	if len(alone) != 300 || alone["e-299"] != 299*7*time.Millisecond {
		t.Fatalf("alone: %d events, the last at %v; want 300, each when it was sent", len(alone), alone["e-299"])
	}
	beside := run(slices.Sorted(maps.Keys(neighbours))...)
	late := 0
	for id, at := range alone {
		if beside[id] != at {
			late++
		}
	}
	if late > 0 || len(beside) != len(alone) {
		t.Errorf("beside the bad ones %d of %d events came at another time, %d came in all", late, len(alone), len(beside))
	}
}

func TestConcurrencyIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		one := w.subscribe("one", hang(time.Second))
		w.trigger("one", "", "one", annotate("penstock.dev/concurrency", "1"))
		w.run()
		w.send("order", 20)
		w.after(time.Minute)
		if one.count() != 20 || one.most != 1 {
			t.Errorf("%d delivered, %d at a time; want 20, 1", one.count(), one.most)
		}
	})
}

func TestTheAttemptTimeoutCoversTheWholeExchange(t *testing.T) {
	inWorld(t, func(w *world) {
		drip := w.subscribe("drip", func(n int, _ receipt, rw http.ResponseWriter) {
			if n > 1 {
				return
			}
			for range 100 { // headers at once, then a byte a second
				if _, err := rw.Write([]byte("x")); err != nil {
					return
				}
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		w.trigger("drip", "", "drip", delivery(1, "linear", "PT1S", timeout("PT5S")))
		w.run()
		w.send("order", 1)
		w.after(time.Minute)
		got := drip.receipts()
		if len(got) != 2 || got[1].at-got[0].at < 6*time.Second || got[1].at-got[0].at > 7*time.Second {
			t.Errorf("attempts %v: want the second 5 s timeout plus 1 s backoff after the first", got)
		}
	})
}

// A lane that falls behind keeps positions only, and delivers all the same.
func TestALaneThatFellBehindCatchesUp(t *testing.T) {
	inWorld(t, func(w *world) {
		var up atomic.Bool
		late := w.subscribe("late", func(_ int, _ receipt, rw http.ResponseWriter) {
			if !up.Load() {
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.trigger("late", "", "late", delivery(100, "linear", "PT10S"))
		w.run()
		w.send("order", 5000)
		w.after(5 * time.Second)
		if s := w.lane("late"); s.Backlog != 5000 || s.Delivered != 0 {
			t.Fatalf("backlog %d, delivered %d; want 5000, 0", s.Backlog, s.Delivered)
		}
		up.Store(true)
		w.after(5 * time.Minute)
		seen := map[string]bool{}
		for _, r := range late.receipts() {
			seen[r.id] = true
		}
		if s := w.lane("late"); len(seen) != 5000 || s.Delivered != 5000 || s.Backlog != 0 || s.Behind {
			t.Errorf("%d different events, lane %+v; want 5000 delivered, none pending, not behind", len(seen), s)
		}
	})
}

// Many events may wait for their next attempt, but not any number: at the
// bound the lane starts no new ones, and goes on when some are settled.
func TestTheNumberOfWaitingEventsIsBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		const bound = 1<<16 + 64 // and what was in flight when it was reached
		var up atomic.Bool
		late := w.subscribe("late", func(_ int, _ receipt, rw http.ResponseWriter) {
			if !up.Load() {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		w.trigger("late", "", "late", delivery(1, "linear", "PT1H"), annotate("penstock.dev/backoff-max", "1h"))
		w.run()
		w.send("order", 70_000)
		w.after(time.Minute)
		if s := w.lane("late"); s.Waiting > bound || s.Waiting < bound-128 || s.Backlog != 70_000 {
			t.Errorf("%d wait, backlog %d; want about %d and 70000", s.Waiting, s.Backlog, bound)
		}
		up.Store(true)
		w.after(3 * time.Hour)
		if s := w.lane("late"); s.Delivered != 70_000 || late.count() > 140_000 {
			t.Errorf("%d delivered in %d attempts, want all 70000", s.Delivered, late.count())
		}
	})
}
