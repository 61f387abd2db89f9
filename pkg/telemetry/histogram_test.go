package telemetry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func TestBucketIsTheNumberOfBoundsBelow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, s := range []*scale{dispatchScale, ageScale, newScale(nil), newScale([]float64{1e-9, 2e-9, 3e-9, 4e-9})} {
		check := func(n uint64) {
			below := 0
			for _, b := range s.bounds {
				if n > b {
					below++
				}
			}
			if got := s.bucket(n); got != below {
				t.Fatalf("%d ns is in bucket %d, want %d of %v", n, got, below, s.bounds)
			}
		}
		for _, b := range s.bounds {
			if b != math.MaxUint64 {
				check(b - 1)
				check(b)
				check(b + 1)
			}
		}
		for length := range 64 {
			check(1<<length - 1)
			check(1 << length & math.MaxInt64)
		}
		for range 100_000 {
			check(r.Uint64() >> 1 >> r.IntN(63))
		}
	}
}

func TestSumThatIsReadBetweenItsTwoHalvesIsWhole(t *testing.T) {
	var s sum
	total := func() float64 {
		r := reading{}
		r.high, r.low = s.load()
		return r.seconds() * 1e9
	}
	before := 0.0
	for i := range 9 {
		n := uint64(math.MaxInt64 - i)
		changes := s.changes.Load()
		s.add(n)
		after := total()
		if want := before + float64(n); math.Abs(after-want) > 1e-12*want {
			t.Fatalf("%v after %d additions, want %v", after, i+1, want)
		}
		counted := s.changes.Load()
		s.changes.Store(changes) // as before the second half of add
		if got := total(); got != after {
			t.Fatalf("read in the middle of addition %d: %v, want %v", i+1, got, after)
		}
		s.changes.Store(counted)
		before = after
	}
	if s.changes.Load() < 8 {
		t.Fatalf("the top bit changed %d times, this tested nothing", s.changes.Load())
	}
}

func TestDurationBelowZeroCountsAsZero(t *testing.T) {
	var h histogram
	h.observe(dispatchScale, -time.Second)
	h.observe(dispatchScale, time.Second)
	if r := h.read(); r.buckets[0] != 1 || r.seconds() != 1 {
		t.Errorf("%d in the first bucket, sum %v", r.buckets[0], r.seconds())
	}
}
