//go:build unix

package disk

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// BenchmarkAppendAgainstPlainFile appends batches of 1 KiB events, and in
// turn the same bytes to a preallocated file with one fdatasync each. plain/log
// is what a batch costs there for what it costs here: 1 would be free.
func BenchmarkAppendAgainstPlainFile(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprint("batch=", n), func(b *testing.B) {
			r := start(b, b.TempDir(), Options{})
			r.broker(channel.BrokerInfo{UID: "b"})
			e := made(b, "bench", 1024)
			events := make([]event.Event, n)
			for i := range events {
				events[i] = e
			}
			plain := openPlain(b, n, e)
			var inLog, inPlain time.Duration
			b.ReportAllocs()
			for b.Loop() {
				begin := time.Now()
				if _, err := r.Append(context.Background(), "b", events); err != nil {
					b.Fatal(err)
				}
				mid := time.Now()
				if err := plain.append(); err != nil {
					b.Fatal(err)
				}
				inLog, inPlain = inLog+mid.Sub(begin), inPlain+time.Since(mid)
			}
			b.ReportMetric(float64(inPlain)/float64(inLog), "plain/log")
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(inLog)/float64(b.N)/float64(n), "ns/event")
		})
	}
}

// BenchmarkConcurrentAppend is 64 callers of one event each, sharing syncs.
func BenchmarkConcurrentAppend(b *testing.B) {
	r := start(b, b.TempDir(), Options{})
	r.broker(channel.BrokerInfo{UID: "b"})
	events := []event.Event{made(b, "bench", 1024)}
	b.ReportAllocs()
	var wg sync.WaitGroup
	before := cpu()
	b.ResetTimer()
	for i := range 64 {
		wg.Go(func() {
			for range b.N/64 + min(1, max(0, b.N%64-i)) {
				if _, err := r.Append(context.Background(), "b", events); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-us/event")
}

// cpu is what this process has used, user and system.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkReadTail(b *testing.B) {
	for what, tail := range map[string]int64{"memory": 64 << 20, "file": 1} {
		b.Run(what, func(b *testing.B) {
			r := start(b, b.TempDir(), Options{TailBytes: tail})
			log := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
			fill(r, 40, 250, 1024)
			buf := make([]channel.Record, 0, 250)
			b.ReportAllocs()
			from := channel.Position(1)
			for b.Loop() {
				var err error
				if buf, from, err = log.Read(context.Background(), 0, from, buf[:0]); err != nil {
					b.Fatal(err)
				}
				if _, next := log.Range(0); from >= next {
					from = 1
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/250, "ns/event")
		})
	}
}
