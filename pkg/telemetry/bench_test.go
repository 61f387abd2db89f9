package telemetry_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// durations are those of a subscriber that answers in about a millisecond,
// sometimes much later: no branch predictor knows them.
func durations() (list [8192]time.Duration) {
	seed := uint64(1)
	for i := range list {
		seed = seed*6364136223846793005 + 1442695040888963407
		list[i] = time.Duration(100_000 << (seed >> 33 % 8) * (1 + seed>>40%16) / 4)
	}
	return list
}

// BenchmarkDelivery counts what one delivery counts.
func BenchmarkDelivery(b *testing.B) {
	took := durations()
	run := func(b *testing.B, code func(int) int) {
		l := telemetry.New(nil).Lane("shop/orders", "shop/billing")
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			d := took[i%len(took)]
			l.Attempt(d, code(i))
			l.Count(telemetry.Delivered, 1)
			l.Age(2 * d)
			i++
		}
	}
	b.Run("one code", func(b *testing.B) { run(b, func(int) int { return 200 }) })
	b.Run("four codes", func(b *testing.B) { run(b, func(i int) int { return [4]int{200, 202, 503, 0}[i%4] }) })
	b.Run("two processors", func(b *testing.B) {
		l := telemetry.New(nil).Lane("shop/orders", "shop/billing")
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				d := took[i%len(took)]
				l.Attempt(d, 200)
				l.Count(telemetry.Delivered, 1)
				l.Age(2 * d)
			}
		})
	})
}

// BenchmarkReceiving counts what one request of a sender counts.
func BenchmarkReceiving(b *testing.B) {
	took := durations()
	m := telemetry.New(nil)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		broker := m.Broker("shop/orders")
		broker.Received(202, 1)
		broker.Appended(202, took[i%len(took)])
		i++
	}
}

const manyLanes = 10_000

// used makes lanes and lets each deliver one event, or none.
func used(m *telemetry.Metrics, idle bool) []*telemetry.Lane {
	lanes := make([]*telemetry.Lane, manyLanes)
	for i := range lanes {
		lanes[i] = m.Lane("shop/orders", fmt.Sprintf("shop/t%d", i))
		if !idle {
			lanes[i].Attempt(time.Millisecond, 200)
			lanes[i].Count(telemetry.Delivered, 1)
			lanes[i].Age(time.Millisecond)
		}
	}
	return lanes
}

// BenchmarkScrape is one scrape of ten thousand triggers, without its text.
func BenchmarkScrape(b *testing.B) {
	reg := prometheus.NewRegistry()
	used(telemetry.New(reg), false)
	b.ReportAllocs()
	for b.Loop() {
		if families, err := reg.Gather(); err != nil || len(families) < 5 {
			b.Fatal(len(families), err)
		}
	}
}

// BenchmarkLaneMemory reports the heap that a trigger's instruments keep.
func BenchmarkLaneMemory(b *testing.B) {
	for name, idle := range map[string]bool{"idle": true, "delivering": false} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				m := telemetry.New(nil)
				before := heap()
				lanes := used(m, idle)
				b.ReportMetric(float64(heap()-before)/manyLanes, "B/lane")
				runtime.KeepAlive(lanes)
				runtime.KeepAlive(m)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}
