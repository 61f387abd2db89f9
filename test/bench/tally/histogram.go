// Package tally keeps what a measurement counts: latencies in a histogram and
// event ids in a bitset. Both are exact in their counts, need no lock and may
// be written by any number of goroutines at once.
package tally

import (
	"math/bits"
	"sync/atomic"
	"time"
)

const (
	stepBits = 6 // 64 steps to an octave: a value is known to 1.6 %
	steps    = 1 << stepBits
	octaves  = 36 // up to 2^41 ns, 36 minutes; what is longer counts as that
	buckets  = (octaves + 1) * steps
)

// Histogram counts durations in log-linear buckets. The zero value is empty.
type Histogram struct {
	counts [buckets]atomic.Uint64
}

// Add counts d; less than nothing is nothing.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)].Add(1)
}

// Merge adds what other has counted.
func (h *Histogram) Merge(other *Histogram) {
	for i := range other.counts {
		if n := other.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
}

// Reset forgets everything. What is added meanwhile may or may not be kept.
func (h *Histogram) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

// Count is how many durations there are.
func (h *Histogram) Count() uint64 {
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Quantile is a duration that a share q of all counted ones does not exceed:
// the upper end of its bucket, so at most 1.6 % too long and never too short.
// Without any it is 0.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank := max(uint64(q*float64(total)+0.999999), 1)
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return upper(i)
		}
	}
	return upper(buckets - 1)
}

// bucket is where a duration counts: the first 64 ns one by one, then 64 to
// each octave.
func bucket(d time.Duration) int {
	if d < steps {
		return int(max(d, 0))
	}
	octave := bits.Len64(uint64(d)) - stepBits // 1 for 64 to 127
	if octave > octaves {
		return buckets - 1
	}
	return octave*steps + int(uint64(d)>>(octave-1)) - steps
}

// upper is the longest duration of a bucket.
func upper(i int) time.Duration {
	if i < steps {
		return time.Duration(i)
	}
	octave, step := i/steps, i%steps
	return time.Duration(uint64(steps+step+1)<<(octave-1)) - 1
}
