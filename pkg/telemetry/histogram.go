package telemetry

import (
	"math"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// maxBounds is the number of bounds of the finest scale.
const maxBounds = 19

// histogram counts durations by the buckets of a scale, which is the same at
// each call. It costs two additions; the number of durations is the sum of the
// buckets and is found by who collects it.
//
// The library's own histogram finds its bucket among floating point numbers
// and keeps two sets of buckets, so that a sum always belongs to its count.
// Here who reads may miss in the sum what is being counted just then, but all
// that is in the sum is in the buckets.
type histogram struct {
	born    moment
	sum     sum
	buckets [maxBounds + 1]atomic.Uint64
}

// observe counts one duration. One below zero, which only a clock that was
// set back can yield, counts as zero: a sum must not fall.
func (h *histogram) observe(s *scale, d time.Duration) {
	n := uint64(max(d, 0))
	if h.buckets[s.bucket(n)].Add(1) == 1 {
		h.born.now()
	}
	h.sum.add(n)
}

// reading is what a histogram held when it was read, or several together.
type reading struct {
	born      int64 // Unix nanoseconds, 0 for no observation
	high, low uint64
	buckets   [maxBounds + 1]uint64
}

func (h *histogram) read() (r reading) {
	if r.born = h.born.Load(); r.born == 0 {
		return r
	}
	r.high, r.low = h.sum.load()
	for i := range h.buckets {
		r.buckets[i] = h.buckets[i].Load()
	}
	return r
}

// add makes r what one histogram would hold that had seen both.
func (r *reading) add(other *reading) {
	if r.born == 0 || other.born < r.born {
		r.born = other.born
	}
	var carry uint64
	r.low, carry = bits.Add64(r.low, other.low, 0)
	r.high, _ = bits.Add64(r.high, other.high, carry)
	for i, n := range other.buckets {
		r.buckets[i] += n
	}
}

// seconds is the sum.
func (r *reading) seconds() float64 {
	return (float64(r.high)*(1<<64) + float64(r.low)) / 1e9
}

// sum adds up nanoseconds in 128 bits: a trigger that catches up after a day
// adds ten thousand days in a second, and 64 bits hold 213 thousand.
//
// The upper half counts how often the top bit of the lower has changed, which
// is twice for each overflow. So a reader knows by that bit whether the one who
// changed it has yet to count, and never sees a sum that falls.
type sum struct {
	low     atomic.Uint64
	changes atomic.Uint64
}

func (s *sum) add(n uint64) {
	if after := s.low.Add(n); (after^(after-n))>>63 != 0 {
		s.changes.Add(1)
	}
}

func (s *sum) load() (high, low uint64) {
	changes := s.changes.Load() // before low, so that it is never ahead
	low = s.low.Load()
	changes += (changes ^ low>>63) & 1
	return changes / 2, low
}

// scale finds the bucket of a duration.
type scale struct {
	octaves [64]uint8  // by length in bits: the bucket of the least duration of that length
	bounds  [32]uint64 // nanoseconds, ascending, and then more than any duration
}

// newScale returns the scale whose buckets end at all of the bounds, in seconds.
func newScale(bounds ...[]float64) *scale {
	all := slices.Concat(bounds...)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > maxBounds {
		panic("more bounds than a histogram has")
	}
	s := &scale{}
	for i := range s.bounds {
		s.bounds[i] = math.MaxUint64
		if i < len(all) {
			s.bounds[i] = nanoseconds(all[i])
		}
	}
	for length := range s.octaves {
		first := 0
		for s.bounds[first] < uint64(1)<<length>>1 {
			first++
		}
		s.octaves[length] = uint8(first)
		if bits.Len64(s.bounds[first+2]) == length {
			panic("three bounds in one octave")
		}
	}
	return s
}

// bucket is the number of bounds below n nanoseconds, which are a Duration. An
// octave has two bounds at most, so this takes two comparisons and no branch
// that a processor would have to guess.
func (s *scale) bucket(n uint64) int {
	i := int(s.octaves[bits.Len64(n)&63])
	b := i
	if n > s.bounds[i&31] {
		b = i + 1
	}
	if n > s.bounds[(i+1)&31] {
		b = i + 2
	}
	return b
}

func nanoseconds(seconds float64) uint64 { return uint64(math.Round(seconds * 1e9)) }
