package journal

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// TestRecordingDoesNotAllocate once buffers and handles are warm.
func TestRecordingDoesNotAllocate(t *testing.T) {
	j, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{Journal: j, t: t}
	d.handles(j)
	r := &channel.Record{Position: 1, Time: time.Now(), Event: order(t, "order-1", "subject", "1", "correlationid", "c")}
	triggers := []*Trigger{d.mail, d.bill}
	a := Attempt{Number: 1, Start: r.Time, Status: 503, Error: "status 503", Answer: make([]byte, maxAnswer), Next: r.Time,
		Replies: []channel.ID{{Shard: 1, Position: 1}}}
	round := func() {
		d.shop.Matched(0, r, triggers)
		d.mail.Attempt(channel.ID{Position: 1}, a)
		d.bill.End(channel.ID{Position: 1}, r.Time, Cancelled, "trigger is gone")
	}
	const runs = 200
	for range 2 { // both buffers
		for range 2 * runs {
			round()
		}
		j.write()
	}
	if n := testing.AllocsPerRun(runs, round); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if j.Stats().Dropped != 0 {
		t.Error("dropped")
	}
}

// TestReadingBesideWriting is for the race detector: stories and searches are
// right while buffers move into files and files go.
func TestReadingBesideWriting(t *testing.T) {
	for name, dir := range map[string]string{"disk": t.TempDir(), "memory": ""} {
		t.Run(name, func(t *testing.T) {
			j, err := Open(dir, Options{SegmentBytes: leastSegment, MaxBytes: 512 << 10})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := j.Run(ctx); err != nil {
					t.Error(err)
				}
			})
			d := &desk{Journal: j, t: t}
			d.handles(j)
			var writers sync.WaitGroup
			for w := range 2 {
				writers.Go(func() {
					shop := d.shop
					for i := range 10_000 {
						id := channel.ID{Shard: channel.ShardID(w), Position: channel.Position(i + 1)}
						shop.Matched(id.Shard, &channel.Record{Position: id.Position, Time: time.Now(), Event: order(t, "order-"+id.String())}, []*Trigger{d.mail})
						d.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Status: 200, Final: Delivered})
						if i%100 != 0 {
							continue
						}
						s, err := j.Story(ctx, "uid-shop", id)
						if dropped := j.Stats().Dropped; dropped > 0 {
							continue
						}
						if err != nil || s.EventID != "order-"+id.String() || len(s.Triggers) != 1 || s.Triggers[0].Final != Delivered {
							t.Errorf("at once: %+v, %v", s, err)
							return
						}
					}
				})
			}
			for range 2 {
				wg.Go(func() {
					for ctx.Err() == nil {
						p, err := j.Find(ctx, Query{Type: "order.placed", Limit: 50})
						if err != nil {
							return
						}
						for _, e := range p.Events {
							if e.EventID != "order-"+e.ID.String() {
								t.Errorf("%+v", e)
								return
							}
						}
						j.Stats()
					}
				})
			}
			writers.Wait()
			cancel()
			wg.Wait()
		})
	}
}

// running is a journal on disk with its writer, for benchmarks.
func running(b *testing.B, o Options) *desk {
	j, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { j.Run(ctx) })
	b.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	d := &desk{Journal: j, t: b}
	d.handles(j)
	return d
}

func typical(b *testing.B) event.Event {
	return order(b, "0af76519-16cd-43dd-8448-eb211c80319c", "subject", "orders/17", "time", "2026-01-31T09:30:00Z",
		"datacontenttype", "application/json", "knativearrivaltime", "2026-01-31T09:30:00Z", "knativebrokerttl", "255")
}

func BenchmarkMatched(b *testing.B) {
	d := running(b, Options{})
	r := channel.Record{Time: time.Now(), Event: typical(b)}
	triggers := []*Trigger{d.mail}
	b.ReportAllocs()
	for b.Loop() {
		r.Position++
		if d.shop.Matched(0, &r, triggers); r.Position%4096 == 0 {
			d.keepUp()
		}
	}
	report(b, d)
}

func BenchmarkAttempt(b *testing.B) {
	d := running(b, Options{})
	a := Attempt{Number: 1, Start: time.Now(), Duration: time.Millisecond, Status: 200, Final: Delivered}
	var id channel.ID
	b.ReportAllocs()
	for b.Loop() {
		id.Position++
		if d.mail.Attempt(id, a); id.Position%4096 == 0 {
			d.keepUp()
		}
	}
	report(b, d)
}

// BenchmarkEvent is all that one event costs, writing, sorting and removing
// included: it waits for the writer where that is behind.
func BenchmarkEvent(b *testing.B) {
	d := running(b, Options{})
	r := channel.Record{Time: time.Now(), Event: typical(b)}
	a := Attempt{Number: 1, Start: time.Now(), Duration: time.Millisecond, Status: 200, Final: Delivered}
	triggers := []*Trigger{d.mail}
	b.ReportAllocs()
	began, n := cpu(), 0
	for b.Loop() {
		r.Position++
		n++
		d.shop.Matched(0, &r, triggers)
		d.mail.Attempt(channel.ID{Position: r.Position}, a)
		if r.Position%4096 == 0 {
			d.keepUp()
		}
	}
	b.ReportMetric(float64(cpu()-began)/float64(n), "cpu-ns/op")
	report(b, d)
}

// keepUp waits while the buffer is more than half full.
func (d *desk) keepUp() {
	for {
		d.mu.Lock()
		full := len(d.cur.data) > d.room/2
		d.mu.Unlock()
		if !full {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func report(b *testing.B, d *desk) {
	b.ReportMetric(float64(d.Stats().Dropped)/float64(b.N), "dropped/op")
}

// BenchmarkStoryAmongTenMillionRecords tells stories of a journal of 5,000,000
// events with an attempt each, by ID and by CloudEvents id. It needs 600 MB of disk.
func BenchmarkStoryAmongTenMillionRecords(b *testing.B) {
	if testing.Short() {
		b.Skip("builds 10,000,000 records")
	}
	const events = 5_000_000
	dir := b.TempDir()
	d := func() *desk {
		j, err := Open(dir, Options{MaxBytes: 8 << 30, SegmentBytes: defaultSegment})
		if err != nil {
			b.Fatal(err)
		}
		d := &desk{Journal: j, t: b}
		d.handles(j)
		return d
	}
	j := d()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- j.Run(ctx) }()
	for p := channel.Position(1); p <= events; p++ {
		if p%1000 == 0 {
			j.keepUp()
		}
		id := j.accept(p, order(b, fmt.Sprintf("0af76519-16cd-43dd-8448-%012d", p)))
		j.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Duration: time.Millisecond, Status: 200, Final: Delivered})
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	j = d()
	b.Logf("%d records in %d MiB, %d segments, opened in %v", j.Stats().Records, j.Stats().Bytes>>20, j.segments(), time.Since(began))
	step := func(i int) channel.Position { return 1 + channel.Position(i)*7919%events }
	b.Run("id", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if got := j.story(channel.ID{Position: step(i)}); len(got.Triggers) != 2 {
				b.Fatalf("%+v", got)
			}
		}
	})
	b.Run("CloudEvents-id", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if got := j.find(Query{ID: fmt.Sprintf("0af76519-16cd-43dd-8448-%012d", step(i))}); len(got.Events) != 1 {
				b.Fatalf("%+v", got)
			}
		}
	})
	b.Run("absent", func(b *testing.B) {
		for b.Loop() {
			if got := j.find(Query{ID: "absent"}); len(got.Events) != 0 {
				b.Fatalf("%+v", got)
			}
		}
	})
	os.RemoveAll(dir)
}
