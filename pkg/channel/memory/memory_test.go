package memory_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/event"
)

func open(*testing.T) channel.Log { return memory.New(memory.Options{}) }

func TestMemoryKeepsTheContract(t *testing.T) {
	channeltest.Run(t, open, channeltest.FullIs(channel.ErrFull))
}

func TestMemoryKeepsTheContractOnTheRealClock(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds, and says little that virtual time does not")
	}
	channeltest.Run(t, open, channeltest.FullIs(channel.ErrFull), channeltest.RealTime())
}

// put appends one event or ends the test.
func put(t *testing.T, l *memory.Log, broker channel.UID, e event.Event) channel.ID {
	t.Helper()
	ids, err := l.Append(t.Context(), broker, []event.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	return ids[0].ID
}

func save(t *testing.T, b channel.BrokerLog, change channel.ShardProgress) {
	t.Helper()
	if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
		t.Fatal(err)
	}
}

func heap() (size, objects uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse, m.HeapObjects
}

func TestPendingEventsCostLittleBeyondTheirBytes(t *testing.T) {
	const events = 50_000
	l, b := running(t, memory.Options{}, channel.BrokerInfo{UID: "a"})
	size, objects := heap()
	for i := range events {
		put(t, l, "a", webhook(t, i))
	}
	for _, shard := range b.Shards() {
		_, next := b.Range(shard)
		pending := roaring64.New()
		pending.AddRange(1, uint64(next))
		save(t, b, channel.ShardProgress{Shard: shard, Scanned: next, Lanes: []channel.LaneProgress{{Trigger: "t", Added: pending}}})
	}
	sizeAfter, objectsAfter := heap()
	each := (int64(sizeAfter) - int64(size)) / events
	t.Logf("%d bytes of heap for each event of %d", each, webhook(t, 1).Size())
	if each > 1400 {
		t.Errorf("%d bytes of heap for each pending event of 1 KiB", each)
	}
	if more := int64(objectsAfter) - int64(objects); more > events/10 {
		t.Errorf("%d objects for the collector to follow, for %d events", more, events)
	}
	runtime.KeepAlive(l)
}

func TestOnePendingEventDoesNotKeepItsNeighbours(t *testing.T) {
	const events, every = 20_000, 100
	l, b := running(t, memory.Options{}, channel.BrokerInfo{UID: "a", Shards: 1})
	size, _ := heap()
	pending := roaring64.New()
	for i := range events {
		if id := put(t, l, "a", webhook(t, i)); i%every == 0 {
			pending.Add(uint64(id.Position))
		}
	}
	_, next := b.Range(0)
	save(t, b, channel.ShardProgress{Scanned: next, Lanes: []channel.LaneProgress{{Trigger: "t", Added: pending}}})
	// Two slabs' worth may be half empty: the last, and what it grows into.
	limit := int64(events/every*webhook(t, 1).Size()*2 + 128<<10)
	if s := b.Stats(); s.Bytes > limit {
		t.Errorf("%d pending events of %d keep %d bytes", events/every, events, s.Bytes)
	}
	if after, _ := heap(); int64(after)-int64(size) > 4*limit {
		t.Errorf("%d pending events of %d keep %d bytes of heap", events/every, events, after-size)
	}
	runtime.KeepAlive(l)
}

func TestEventsInHandsStayAsTheyWereWhenTheirSlabGoes(t *testing.T) {
	l, b := running(t, memory.Options{}, channel.BrokerInfo{UID: "a", Shards: 1})
	var want [][]byte
	for i := range 500 {
		e := webhook(t, i)
		want = append(want, bytes.Clone(e.Raw()))
		put(t, l, "a", e)
	}
	held, next, err := b.Read(t.Context(), 0, 0, make([]channel.Record, 0, 500))
	if err != nil || len(held) != 500 {
		t.Fatal(len(held), err)
	}
	save(t, b, channel.ShardProgress{Scanned: next, Lanes: []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(3, 77, 400)}}})
	for i := range 500 { // new slabs, perhaps where the old ones were
		put(t, l, "a", webhook(t, 1000+i))
	}
	runtime.GC()
	for i, r := range held {
		if !bytes.Equal(r.Event.Raw(), want[i]) {
			t.Fatalf("event %d changed in the hands of its reader", i)
		}
	}
}

func TestRetainedEventsOfOneBrokerMakeRoomForAnother(t *testing.T) {
	l, hoarder := running(t, memory.Options{MaxBytes: 1 << 20}, channel.BrokerInfo{UID: "hoarder", Shards: 1, Retention: time.Hour, RetentionBytes: 1 << 30})
	if _, err := l.Broker(t.Context(), channel.BrokerInfo{UID: "busy"}); err != nil {
		t.Fatal(err)
	}
	var err error
	for i := 0; err == nil; i++ {
		_, err = l.Append(t.Context(), "hoarder", []event.Event{webhook(t, i)})
	}
	if !errors.Is(err, channel.ErrFull) {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), "busy", []event.Event{webhook(t, 0)}); !errors.Is(err, channel.ErrFull) {
		t.Fatalf("the log is full of unscanned events, and append answers %v", err)
	}
	_, next := hoarder.Range(0)
	save(t, hoarder, channel.ShardProgress{Scanned: next})
	before := hoarder.Stats().Bytes
	for i := range 400 {
		put(t, l, "busy", webhook(t, i))
	}
	if after := hoarder.Stats().Bytes; after >= before {
		t.Errorf("the hoarder still has %d of %d bytes", after, before)
	}
	if earliest, _ := hoarder.Range(0); earliest == 1 || earliest == next {
		t.Errorf("the hoarder keeps events from %d to %d: want the younger ones", earliest, next)
	}
}

func TestEventThatNeverFitsIsTooLarge(t *testing.T) {
	l, _ := running(t, memory.Options{}, channel.BrokerInfo{UID: "a", MaxBytes: 1000})
	_, err := l.Append(t.Context(), "a", []event.Event{webhook(t, 1)})
	var refused *channel.Refused
	if !errors.As(err, &refused) || !errors.Is(err, channel.ErrTooLarge) || refused.RetryAfter != 0 {
		t.Errorf("append answers %v", err)
	}
}

func TestFullBrokerSaysWhoIsFull(t *testing.T) {
	l, _ := running(t, memory.Options{}, channel.BrokerInfo{UID: "a", Name: "shop/orders", MaxBytes: 20 << 10})
	var err error
	for i := 0; err == nil; i++ {
		_, err = l.Append(t.Context(), "a", []event.Event{webhook(t, i)})
	}
	var refused *channel.Refused
	if !errors.As(err, &refused) || refused.RetryAfter != time.Second || !strings.Contains(err.Error(), "shop/orders") {
		t.Errorf("append answers %v", err)
	}
}

func TestRetainedEventsGoInTimeThoughNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, b := running(t, memory.Options{}, channel.BrokerInfo{UID: "a", Shards: 1, Retention: time.Hour, RetentionBytes: 1 << 30})
		put(t, l, "a", webhook(t, 1))
		time.Sleep(30 * time.Minute)
		put(t, l, "a", webhook(t, 2))
		late := put(t, l, "a", webhook(t, 3))
		save(t, b, channel.ShardProgress{Scanned: late.Position + 1, Lanes: []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(uint64(late.Position))}}})
		want := func(after time.Duration, earliest channel.Position) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got, _ := b.Range(0); got != earliest {
				t.Errorf("the earliest event is %d, want %d", got, earliest)
			}
		}
		want(29*time.Minute, 1)
		want(time.Minute+2*time.Second, 2)
		want(28*time.Minute, 2)
		want(2*time.Minute, 3)
		want(100*time.Hour, 3) // pending is not retained: it stays
	})
}

func TestIdleLogDoesNotWakeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		l, b := running(t, memory.Options{Now: func() time.Time { asked.Add(1); return time.Now() }}, channel.BrokerInfo{UID: "a", Shards: 1})
		id := put(t, l, "a", webhook(t, 1))
		save(t, b, channel.ShardProgress{Scanned: id.Position + 1})
		time.Sleep(time.Second)
		before := asked.Load()
		time.Sleep(24 * time.Hour)
		if after := asked.Load(); after != before {
			t.Errorf("looked at the clock %d times in an idle day", after-before)
		}
	})
}

func TestClosingSaysWhatIsLost(t *testing.T) {
	var said bytes.Buffer
	l := memory.New(memory.Options{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	for _, uid := range []channel.UID{"empty", "full"} {
		if _, err := l.Broker(t.Context(), channel.BrokerInfo{UID: uid, Name: "default/" + string(uid)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		put(t, l, "full", webhook(t, i))
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := said.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "broker=default/full events=3") {
		t.Errorf("said %q", got)
	}
}

func TestLogRunsOnce(t *testing.T) {
	l := memory.New(memory.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Run(ctx); err == nil {
		t.Error("a log that is closed runs again")
	}
}

func TestBrokerThatMakesNoSenseIsAnError(t *testing.T) {
	l := memory.New(memory.Options{})
	for _, info := range []channel.BrokerInfo{{}, {UID: "a", Shards: -1}, {UID: "a", Shards: 1 << 20}} {
		if _, err := l.Broker(t.Context(), info); err == nil {
			t.Errorf("%+v is opened", info)
		}
	}
}

// TestEverythingAtOnce is for the race detector: all methods together, brokers
// coming and going, a log that is always nearly full.
func TestEverythingAtOnce(t *testing.T) {
	l, b := running(t, memory.Options{MaxBytes: 512 << 10}, channel.BrokerInfo{UID: "a", Shards: 2, Retention: time.Hour, RetentionBytes: 100 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	var appenders, rest sync.WaitGroup
	events := make([]event.Event, 16)
	for i := range events {
		events[i] = webhook(t, i)
	}
	for n := range 4 {
		appenders.Go(func() {
			for i := range 500 {
				uid := channel.UID([]string{"a", "passing"}[(n+i)%2])
				_, err := l.Append(ctx, uid, events[:1+i%8])
				if err != nil && !errors.Is(err, channel.ErrFull) && !errors.Is(err, channel.ErrNoBroker) {
					t.Errorf("append: %v", err)
				}
			}
		})
	}
	progress := make(chan channel.ShardProgress)
	for _, shard := range b.Shards() {
		rest.Go(func() {
			var from channel.Position
			for {
				records, next, err := b.Read(ctx, shard, from, make([]channel.Record, 0, 8))
				if err != nil {
					return
				}
				settled, pending := roaring64.New(), roaring64.New()
				for _, r := range records {
					pending.Add(uint64(r.Position))
					if r.Position%50 != 0 {
						settled.Add(uint64(r.Position))
					}
				}
				from = next
				select {
				case progress <- channel.ShardProgress{Shard: shard, Scanned: next, Lanes: []channel.LaneProgress{{Trigger: "t", Added: pending, Settled: settled}}}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	rest.Go(func() {
		for {
			select {
			case p := <-progress:
				if err := b.SaveProgress(ctx, []channel.ShardProgress{p}); err != nil {
					t.Errorf("save progress: %v", err)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	rest.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if passing, err := l.Broker(ctx, channel.BrokerInfo{UID: "passing"}); err == nil {
				_, _ = passing.SetRoutes(ctx, channel.Routes{Whole: true})
				_ = passing.AppendDead(ctx, []channel.DeadLetter{{ID: channel.ID{Position: 1}, Trigger: "t", Event: events[0]}})
			}
			_, _ = l.Broker(ctx, channel.BrokerInfo{UID: "a", Retention: time.Duration(i%2) * time.Hour, RetentionBytes: 100 << 10})
			_, _ = b.SetRoutes(ctx, channel.Routes{Whole: true})
			_ = l.Remove(ctx, "passing")
			b.Stats()
			b.Range(0)
			b.Routes()
			b.Progress(1)
			_, _ = b.Get(ctx, 0, []channel.Position{1, 50, 100}, nil)
			_, _, _ = b.Dead(ctx, "", "", 10)
			_ = l.Ready()
			runtime.Gosched()
		}
	})
	appenders.Wait()
	cancel()
	rest.Wait()
	if s := b.Stats(); s.Bytes > s.MaxBytes {
		t.Errorf("%d of %d bytes", s.Bytes, s.MaxBytes)
	}
}
