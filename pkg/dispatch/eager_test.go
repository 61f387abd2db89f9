package dispatch

import (
	"math/rand/v2"
	"testing"
	"time"
)

// eager is a subscriber in rounds: each round the whole window is sent and
// answered, and the round takes as long as its answers.
type eager struct {
	p   *pace
	now time.Time
}

func newEager(limit int) *eager { return &eager{p: newEagerPace(limit), now: time.Unix(1e9, 0)} }

func (e *eager) round(what refusal, took func() time.Duration) {
	n := e.p.room(e.now)
	tickets := make([]ticket, n)
	for i := range tickets {
		tickets[i] = e.p.begin(e.now)
	}
	var longest time.Duration
	for range tickets {
		longest = max(longest, took())
	}
	e.now = e.now.Add(longest)
	for _, t := range tickets {
		e.p.end(t, what, e.now, 0, 0.5)
		if what == taken {
			e.p.late(took(), e.now)
		}
	}
}

func always(d time.Duration) func() time.Duration { return func() time.Duration { return d } }

func TestAnEagerPaceBeginsWideAndHalvesWithEachRoundThatIsRefused(t *testing.T) {
	e := newEager(64)
	for _, want := range []int{64, 32, 16, 8, 4, 2, 1, 1} {
		if got := e.p.room(e.now); got != want {
			t.Fatalf("window %d, want %d", got, want)
		}
		e.round(busy, always(100*time.Millisecond))
	}
	for want := 1; want <= 64; want++ {
		if got := e.p.room(e.now); got > want {
			t.Fatalf("window %d after %d good rounds: it grows by one each", got, want-1)
		}
		e.round(taken, always(100*time.Millisecond))
	}
	for range 64 * 20 {
		e.round(taken, always(100*time.Millisecond))
	}
	if got := e.p.room(e.now); got != 64 {
		t.Errorf("window %d in the end, want 64", got)
	}
}

func TestWhatWasRefusedHalfAMinuteAgoIsTriedAgain(t *testing.T) {
	e := newEager(64)
	e.round(busy, always(time.Second))
	e.now = e.now.Add(eagerRestful)
	if got := e.p.room(e.now); got != 64 {
		t.Errorf("window %d after a rest, want 64", got)
	}
	e.p.begin(e.now)
	if got := e.p.room(e.now); got != 63 {
		t.Errorf("room for %d beside one, want 63", got)
	}
}

func TestAnEagerPaceTakesAnotherConcurrencyAtOnce(t *testing.T) {
	e := newEager(64)
	e.p.resize(100)
	if got := e.p.room(e.now); got != 100 {
		t.Errorf("window %d, want 100", got)
	}
	e.p.resize(10)
	if got := e.p.room(e.now); got != 10 {
		t.Errorf("window %d, want 10", got)
	}
}

// A machine that stutters, a subscriber that slows down for good, a few slow
// answers: none of it is a reason to send less.
func TestNoisyAnswersNeverNarrowTheWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, took := range map[string]func() time.Duration{
		"one in a hundred takes 5 s": func() time.Duration {
			if rng.IntN(100) == 0 {
				return 5 * time.Second
			}
			return 2 * time.Millisecond
		},
		"between 1 ms and 500 ms": func() time.Duration { return time.Duration(1+rng.IntN(500)) * time.Millisecond },
		"always 10 s":             always(10 * time.Second),
	} {
		e := newEager(64)
		for range 2000 {
			e.round(taken, took)
			if got := e.p.room(e.now); got != 64 {
				t.Fatalf("%s: window %d", name, got)
			}
		}
	}
	e := newEager(64) // seconds of standstill, each half minute
	for i := range 20_000 {
		took := 5 * time.Millisecond
		if i%6000 == 5999 {
			took = 20 * time.Second
		}
		e.round(taken, always(took))
		if got := e.p.room(e.now); got != 64 {
			t.Fatalf("standstill: window %d", got)
		}
	}
}

func TestASubscriberThatSlowsDownUnderLoadGetsLess(t *testing.T) {
	e := newEager(64)
	for range 2000 {
		e.round(taken, always(20*time.Millisecond))
	}
	// From now on it takes a good 4 s with 64 at once, and is as quick as ever with few.
	least := 64
	for range 200 {
		took := 20 * time.Millisecond
		if n := e.p.room(e.now); n > 20 {
			took = time.Duration(n) * 70 * time.Millisecond
		}
		e.round(taken, always(took))
		least = min(least, e.p.room(e.now))
	}
	if least < 16 || least > 32 {
		t.Errorf("the window fell to %d, want 32 to 16: latency takes three quarters at most", least)
	}
}

// Answers that stay late with fewer at once are not late because of how many.
func TestAWindowThatWasNarrowedInVainIsWideAgain(t *testing.T) {
	e := newEager(64)
	for range 2000 {
		e.round(taken, always(20*time.Millisecond))
	}
	narrow := 0
	for range 400 {
		e.round(taken, always(3*time.Second))
		if e.p.room(e.now) < 64 {
			narrow++
		}
	}
	if got := e.p.room(e.now); got != 64 || narrow == 0 || narrow > 40 {
		t.Errorf("window %d in the end, narrow for %d rounds of 400", got, narrow)
	}
}
