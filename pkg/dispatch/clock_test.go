package dispatch_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

const years = 365 * 24 * time.Hour

// wallClock is one that somebody sets: time passes on it as it does for
// everybody, and jumps.
type wallClock struct{ jumped atomic.Int64 }

func (c *wallClock) jump(d time.Duration) { c.jumped.Add(int64(d)) }
func (c *wallClock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.jumped.Load()))
}

// attempts are when a subscriber was called.
func attempts(s *subscriber) []time.Duration {
	var at []time.Duration
	for _, r := range s.receipts() {
		at = append(at, r.at)
	}
	return at
}

func TestWaitsWithinAProcessIgnoreTheWallClock(t *testing.T) {
	for _, jump := range []time.Duration{10 * years, -10 * years} {
		inWorld(t, func(w *world) {
			var wall wallClock
			w.options.Now = wall.now
			failing := w.subscribe("failing", status(http.StatusInternalServerError))
			w.trigger("failing", "", "failing", delivery(3, "linear", "PT10S"))
			w.run()
			w.send("order", 1)
			w.after(time.Second)
			wall.jump(jump)
			w.after(time.Minute)
			wall.jump(-2 * jump)
			w.after(2 * time.Minute)
			got := attempts(failing)
			if len(got) != 4 {
				t.Fatalf("jump of %v: attempts at %v, want 4", jump, got)
			}
			for i, least := range []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second} {
				if gap := got[i+1] - got[i]; gap < least || gap > least*12/10 {
					t.Errorf("jump of %v: %v between attempts %d and %d, want %v and up to a fifth more", jump, gap, i+1, i+2, least)
				}
			}
		})
	}
}

// A retry that was to come in ten seconds comes in ten minutes at most,
// wherever the clock stands when the process is there again, and wherever it
// goes from there.
func TestAWallClockThatIsSetBackDoesNotPostponeARetryForYears(t *testing.T) {
	inWorld(t, func(w *world) {
		var wall wallClock
		w.options.Now = wall.now
		failing := w.subscribe("failing", status(http.StatusInternalServerError))
		w.trigger("failing", "", "failing", delivery(1, "linear", "PT10S"), annotate("penstock.dev/backoff-max", "30s"))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.shutdown()
		wall.jump(-10 * years)
		w.run()
		began := time.Since(w.start)
		w.after(5 * time.Second)
		wall.jump(-10 * years)
		w.after(time.Minute)
		got := attempts(failing)
		if len(got) != 2 || got[1] != began+30*time.Second {
			t.Errorf("attempts at %v, want the second 30 s after the restart at %v: the longest wait of the policy", got, began)
		}
	})
}

func TestAWaitFromBeforeTheRestartIsMeasuredByTheClockThatNobodySets(t *testing.T) {
	inWorld(t, func(w *world) {
		var wall wallClock
		w.options.Now = wall.now
		failing := w.subscribe("failing", status(http.StatusInternalServerError))
		w.trigger("failing", "", "failing", delivery(1, "linear", "PT1M"))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.shutdown()
		w.run()
		w.after(time.Second)
		wall.jump(10 * years)
		w.after(30 * time.Second)
		if n := failing.count(); n != 1 {
			t.Errorf("%d attempts: the jump ended the wait", n)
		}
		w.after(time.Minute)
		if n := failing.count(); n != 2 {
			t.Errorf("%d attempts, want 2", n)
		}
	})
}

// A trigger that is held when the process starts has no policy that could
// shorten a wait; when it is back it has.
func TestTheLongestWaitIsThatOfTheTriggerOnceItIsBack(t *testing.T) {
	inWorld(t, func(w *world) {
		var wall wallClock
		w.options.Now = wall.now
		failing := w.subscribe("failing", status(http.StatusInternalServerError))
		w.trigger("failing", "", "failing", delivery(1, "linear", "PT1H"), annotate("penstock.dev/backoff-max", "2h"))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.shutdown()
		wall.jump(-10 * years)
		here := w.objects["failing"]
		held := *here
		held.HeldUntil = time.Now().Add(time.Hour)
		w.objects["failing"] = &held
		w.run()
		w.after(30 * time.Minute)
		w.objects["failing"] = here
		w.apply()
		began := time.Since(w.start)
		w.after(4 * time.Hour)
		got := attempts(failing)
		if len(got) != 2 || got[1] != began+2*time.Hour {
			t.Errorf("attempts at %v, want the second 2 h after the trigger was back at %v", got, began)
		}
	})
}

func TestADeadLetterIsDatedByTheWallClock(t *testing.T) {
	inWorld(t, func(w *world) {
		var wall wallClock
		w.options.Now = wall.now
		wall.jump(10 * years)
		w.subscribe("failing", status(http.StatusBadRequest))
		w.trigger("failing", "", "failing", func(o *config.Object) {})
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		if letters := w.letters("failing"); len(letters) != 1 || time.Until(letters[0].Died) < 9*years {
			t.Errorf("letters %+v", letters)
		}
	})
}
