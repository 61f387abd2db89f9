package process

import (
	"math"
	"runtime/metrics"
	"time"
)

// Delay tells how busy the process is: for how long goroutines that could go
// on have waited for a processor, on average, since it was last asked. It
// belongs to one goroutine at a time.
type Delay struct {
	sample []metrics.Sample
	before []uint64
}

// NewDelay begins to look.
func NewDelay() *Delay {
	d := &Delay{sample: []metrics.Sample{{Name: "/sched/latencies:seconds"}}}
	d.Read()
	return d
}

// Read costs some ten microseconds.
func (d *Delay) Read() time.Duration {
	metrics.Read(d.sample)
	if d.sample[0].Value.Kind() != metrics.KindFloat64Histogram {
		return 0 // a Go that does not know it
	}
	h := d.sample[0].Value.Float64Histogram()
	if len(d.before) != len(h.Counts) {
		d.before = make([]uint64, len(h.Counts))
	}
	var n, sum float64
	for i, count := range h.Counts {
		if count == d.before[i] {
			continue
		}
		low, high := h.Buckets[i], h.Buckets[i+1]
		if math.IsInf(low, -1) {
			low = 0
		}
		if math.IsInf(high, 1) {
			high = low
		}
		news := float64(count - d.before[i])
		n += news
		sum += news * (low + high) / 2
	}
	copy(d.before, h.Counts)
	if n == 0 {
		return 0
	}
	return time.Duration(sum / n * float64(time.Second))
}
