package memory_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/event"
)

// webhook is an event of about 1 KiB of data with the attributes that a
// webhook has.
func webhook(tb testing.TB, n int) event.Event {
	tb.Helper()
	var b event.Builder
	e, err := b.Set(event.AttrID, fmt.Sprintf("018f2b7c-9d4e-7a31-8c55-%012d", n)).Set(event.AttrSource, "https://shop.example/orders").
		Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "shop.order.placed.v1").
		Set(event.AttrTime, "2031-05-04T03:02:01Z").Set(event.AttrDataContentType, "application/json").
		SetData(bytes.Repeat([]byte("0123456789abcdef"), 64)).Build()
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// running opens a broker in a log that runs until the test ends.
func running(tb testing.TB, o memory.Options, info channel.BrokerInfo) (*memory.Log, channel.BrokerLog) {
	tb.Helper()
	l := memory.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	b, err := l.Broker(context.Background(), info)
	if err != nil {
		tb.Fatal(err)
	}
	return l, b
}

// BenchmarkAppend is the cost of storing one event and of giving its bytes
// back, 256 at a time, without a reader to wake.
func BenchmarkAppend(b *testing.B) {
	l, broker := running(b, memory.Options{}, channel.BrokerInfo{UID: "a", Shards: 1})
	events := []event.Event{webhook(b, 1)}
	b.ReportAllocs()
	b.SetBytes(int64(events[0].Size()))
	for n := 0; b.Loop(); n++ {
		if _, err := l.Append(b.Context(), "a", events); err != nil {
			b.Fatal(err)
		}
		if n%256 == 0 {
			_, next := broker.Range(0)
			if err := broker.SaveProgress(b.Context(), []channel.ShardProgress{{Scanned: next}}); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkAppendAndRead is an event's whole way through the channel: append,
// read by one reader per shard, settled in chunks of what a read returned.
func BenchmarkAppendAndRead(b *testing.B) {
	for _, appenders := range []int{1, 64} {
		b.Run(fmt.Sprint("Appenders", appenders), func(b *testing.B) {
			l, broker := running(b, memory.Options{}, channel.BrokerInfo{UID: "a"})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			progress := make(chan channel.ShardProgress, len(broker.Shards()))
			for _, shard := range broker.Shards() {
				go func() {
					var from channel.Position
					buf := make([]channel.Record, 0, 256)
					for {
						_, next, err := broker.Read(ctx, shard, from, buf)
						if err != nil {
							return
						}
						from = next
						select {
						case progress <- channel.ShardProgress{Shard: shard, Scanned: next}:
						case <-ctx.Done():
							return
						}
					}
				}()
			}
			go func() {
				for {
					select {
					case p := <-progress:
						_ = broker.SaveProgress(ctx, []channel.ShardProgress{p})
					case <-ctx.Done():
						return
					}
				}
			}()
			e := webhook(b, 1)
			b.ReportAllocs()
			b.SetBytes(int64(e.Size()))
			b.SetParallelism(max(1, appenders/runtime.GOMAXPROCS(0)))
			if appenders == 1 {
				for b.Loop() {
					if _, err := l.Append(ctx, "a", []event.Event{e}); err != nil {
						b.Fatal(err)
					}
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					_, err := l.Append(ctx, "a", []event.Event{e})
					for errors.Is(err, channel.ErrFull) { // faster than the readers
						runtime.Gosched()
						_, err = l.Append(ctx, "a", []event.Event{e})
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkGet reads pending events again, as a lane does that has fallen behind.
func BenchmarkGet(b *testing.B) {
	const events = 10_000
	l, broker := running(b, memory.Options{}, channel.BrokerInfo{UID: "a", Shards: 1})
	pending := roaring64.New()
	for i := range events {
		if _, err := l.Append(b.Context(), "a", []event.Event{webhook(b, i)}); err != nil {
			b.Fatal(err)
		}
		pending.Add(uint64(i + 1))
	}
	if err := broker.SaveProgress(b.Context(), []channel.ShardProgress{{Scanned: events + 1, Lanes: []channel.LaneProgress{{Trigger: "t", Added: pending}}}}); err != nil {
		b.Fatal(err)
	}
	var ask []channel.Position
	for p := channel.Position(1); p <= events; p += events / 64 {
		ask = append(ask, p)
	}
	buf := make([]channel.Record, 0, len(ask))
	b.ReportAllocs()
	for b.Loop() {
		if got, err := broker.Get(b.Context(), 0, ask, buf); err != nil || len(got) != len(ask) {
			b.Fatal(len(got), err)
		}
	}
}
