package dispatch

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// paceWorld is a pace and the attempts that it has let begin.
type paceWorld struct {
	p    *pace
	now  time.Time
	open []ticket
}

func newPaceWorld(limit int) *paceWorld {
	return &paceWorld{p: newPace(limit), now: time.Unix(1e9, 0)}
}

// fill begins as many attempts as there is room for.
func (w *paceWorld) fill() (begun int) {
	for w.p.room(w.now) > 0 {
		w.open = append(w.open, w.p.begin(w.now))
		begun++
	}
	return begun
}

// end ends the n-th of those open.
func (w *paceWorld) end(n int, what refusal) {
	w.p.end(w.open[n], what, w.now, 0, 0)
	w.open = slices.Delete(w.open, n, n+1)
}

// round ends all attempts, each with the same answer, and begins the next ones
// when the lane may.
func (w *paceWorld) round(what refusal) (begun int) {
	w.now = w.now.Add(10 * time.Millisecond)
	for len(w.open) > 0 {
		w.end(0, what)
	}
	if at := w.p.reopens(w.now); !at.IsZero() && w.p.room(w.now) == 0 {
		w.now = at
	}
	return w.fill()
}

func TestTheWindowDoublesEachRoundUntilTheFirstRefusal(t *testing.T) {
	w := newPaceWorld(100)
	sizes := []int{w.fill()}
	for range 5 {
		sizes = append(sizes, w.round(taken))
	}
	if fmt.Sprint(sizes) != "[8 16 32 64 100 100]" {
		t.Errorf("windows of %v", sizes)
	}
}

func TestRefusalsOfOneRoundShrinkTheWindowOnce(t *testing.T) {
	w := newPaceWorld(64)
	w.fill()
	w.round(taken)
	w.round(taken)
	w.round(taken)
	w.end(0, taken)
	for range 20 {
		w.end(0, cold)
	}
	if w.p.window != 32 {
		t.Errorf("a window of %d after one round in which much was refused, want 32", w.p.window)
	}
	w.round(taken)
	for len(w.open) > 0 {
		w.end(0, cold)
	}
	if w.p.window > 16 || w.p.window < 15 {
		t.Errorf("a window of %d after a second one, want half", w.p.window)
	}
}

func TestALaneWithoutMuchToDoLearnsNothingOfAWiderWindow(t *testing.T) {
	w := newPaceWorld(64)
	for range 1000 {
		w.open = append(w.open, w.p.begin(w.now))
		w.end(0, taken)
	}
	if w.p.window != firstWindow {
		t.Errorf("a window of %d, of which one place was ever used", w.p.window)
	}
}

// The service may have scaled down: what it took an hour ago is no promise.
func TestAfterARestTheLaneFeelsItsWayAnew(t *testing.T) {
	w := newPaceWorld(64)
	w.fill()
	for range 5 {
		w.round(taken)
	}
	for len(w.open) > 0 {
		w.end(0, taken)
	}
	w.now = w.now.Add(restful)
	if n := w.fill(); n != firstWindow {
		// The first to begin finds out: what there is room for before says nothing.
		t.Errorf("%d at once after a rest, want %d", n, firstWindow)
	}
}

func TestAnotherConcurrencyIsInForceAtOnce(t *testing.T) {
	w := newPaceWorld(64)
	w.fill()
	for range 5 {
		w.round(taken)
	}
	w.p.resize(4)
	w.round(taken)
	if len(w.open) != 4 {
		t.Errorf("%d in flight, want 4", len(w.open))
	}
	w.p.resize(200)
	for range 8 {
		w.round(taken)
	}
	if len(w.open) != 200 {
		t.Errorf("%d in flight, want 200", len(w.open))
	}
}

// Whatever the answers are: bounds hold, and there is room or a moment when
// there will be, or an answer is awaited.
func TestWhateverTheAnswersTheLaneGoesOn(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		w := newPaceWorld(1 + rng.IntN(70))
		for range 2000 {
			w.now = w.now.Add(time.Duration(rng.Int64N(int64(time.Second))))
			switch rng.IntN(20) {
			case 0:
				w.p.resize(1 + rng.IntN(70))
			case 1:
				w.now = w.now.Add(time.Duration(rng.Int64N(int64(20 * time.Minute))))
			default:
				if len(w.open) > 0 {
					t := w.open[rng.IntN(len(w.open))]
					w.open = slices.DeleteFunc(w.open, func(o ticket) bool { return o == t })
					w.p.end(t, refusal(rng.IntN(4)), w.now, time.Duration(rng.IntN(2))*time.Minute, rng.Float64())
				}
			}
			before := len(w.open)
			if n := w.fill(); n > 0 && len(w.open) > w.p.limit {
				t.Fatalf("seed %d: %d in flight of %d", seed, before+n, w.p.limit)
			}
			if w.p.window < 1 || w.p.inflight != len(w.open) || w.p.patience < 1 || w.p.patience > maxPatience {
				t.Fatalf("seed %d: %+v with %d in flight", seed, w.p, len(w.open))
			}
			if len(w.open) == 0 && !w.p.reopens(w.now).After(w.now) {
				t.Fatalf("seed %d: %+v: nothing in flight, no room, and nothing that would give any", seed, w.p)
			}
		}
	}
}
