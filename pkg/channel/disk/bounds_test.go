package disk

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestPendingEventsCostNoMemoryButTheActiveSegment(t *testing.T) {
	o := tiny
	o.TailBytes = 16 << 10
	r := start(t, t.TempDir(), o)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	for range 20 {
		fill(r, 1, 200, 100)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.Log.broker("b").shards[0]
	if s.next != 4001 || len(s.runs) != len(r.segments) || len(r.segments) < 8 {
		t.Fatalf("next %d, %d runs in %d segments", s.next, len(s.runs), len(r.segments))
	}
	if n := len(s.offsets) * int(frameHeader); n > minSegmentSize {
		t.Errorf("%d offsets are in memory", len(s.offsets))
	}
	if r.recentBytes > o.TailBytes || s.tail.len() > 200 {
		t.Errorf("the tail holds %d records, %d bytes", s.tail.len(), r.recentBytes)
	}
	if len(r.open) > maxOpen {
		t.Errorf("%d files are open", len(r.open))
	}
}

func TestBatchThatFitsNoSegmentIsTooLarge(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b"})
	_, err := r.Append(context.Background(), "b", []event.Event{made(t, "big", minSegmentSize)})
	var refused *channel.Refused
	if !errors.As(err, &refused) || !errors.Is(err, channel.ErrTooLarge) || refused.RetryAfter != 0 {
		t.Errorf("append: %v", err)
	}
	r.append("b", minSegmentSize/2, "fits")
}

func TestFullVolumeRefusesEventsButTakesDeadLettersAndRecovers(t *testing.T) {
	o := tiny
	o.MaxBytes = 8 * minSegmentSize
	r := start(t, t.TempDir(), o)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	var last channel.ID
	var err error
	for i := 0; err == nil; i++ {
		var ids []channel.Stored
		if ids, err = r.Append(context.Background(), "b", []event.Event{made(t, fmt.Sprint(i), 4000)}); err == nil {
			last = ids[0].ID
		}
		if i > 1000 {
			t.Fatal("never full")
		}
	}
	var refused *channel.Refused
	if !errors.As(err, &refused) || !errors.Is(err, channel.ErrQuota) || refused.RetryAfter <= 0 || !errors.Is(r.Ready(), channel.ErrQuota) {
		t.Fatalf("append: %v; ready: %v", err, r.Ready())
	}
	if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: last, Trigger: "t", Event: made(t, "dead", 100)}}); err != nil {
		t.Errorf("dead letter: %v", err)
	}
	if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: 0, Scanned: last.Position + 1}}); err != nil {
		t.Errorf("progress: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(r.dir, o)
	if err != nil {
		t.Fatal(err)
	}
	l.tend() // as Run does each second
	again := serve(t, l)
	again.append("b", 100, "room again")
	if n := l.broker("b").DeadCount("t"); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

func TestReadersSeeEverythingWhileSegmentsRoll(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	const writers, each = 4, 150
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if _, err := r.Append(context.Background(), "b", []event.Event{made(t, fmt.Sprint(w, "-", i), 900)}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		wg.Go(func() {
			from := channel.Position(1)
			for from <= writers*each {
				records, next, err := b.Read(context.Background(), 0, from, make([]channel.Record, 0, 16))
				if err != nil {
					t.Error(err)
					return
				}
				for i, rec := range records {
					if rec.Position != from+channel.Position(i) {
						t.Errorf("position %d after %d", rec.Position, from)
					}
				}
				from = next
			}
		})
	}
	wg.Wait()
}

// Progress that was saved while a segment was sealed goes into the next one
// first, and the batch that asked for room must still fit behind it.
func TestNoSegmentOutgrowsItsSize(t *testing.T) {
	o := tiny
	var hook atomic.Pointer[func()]
	o.Now = func() time.Time {
		if f := hook.Swap(nil); f != nil {
			(*f)()
		}
		return time.Now()
	}
	r := start(t, t.TempDir(), o)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	r.append("b", minSegmentSize/2, "first")
	save := func() {
		scattered := roaring64.New()
		for i := range uint64(4000) {
			scattered.Add(i * 70000 % 1_000_003)
		}
		if err := b.SaveProgress(context.Background(), []channel.ShardProgress{{Shard: 0, Lanes: []channel.LaneProgress{{Trigger: "t", Added: scattered}}}}); err != nil {
			t.Error(err)
		}
	}
	hook.Store(&save)
	r.append("b", minSegmentSize*9/10, "second")
	if hook.Load() != nil {
		t.Fatal("nothing was saved in between")
	}
	r.append("b", minSegmentSize*9/10, "third")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.segments {
		if g.size > minSegmentSize {
			t.Errorf("segment %d has %d bytes, at most %d were reserved", g.number, g.size, minSegmentSize)
		}
	}
}

// smallVolume is a volume of so many bytes.
type smallVolume struct {
	quickFS
	bytes int64
}

func (f smallVolume) Space(string) (int64, int64, error) { return f.bytes, f.bytes, nil }

func TestSmallVolumeIsUsedAgainWhenWhatItHoldsIsSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), Options{FS: smallVolume{bytes: 8 << 20}})
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		for i := range 200 { // 20 MB in all
			ids, err := r.Append(t.Context(), "b", []event.Event{made(t, fmt.Sprint(i), 100<<10)})
			if err != nil {
				t.Fatalf("event %d: %v", i, err)
			}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: 0, Scanned: ids[0].Position + 1}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		r.stop()
	})
}

// tightFS has no room for any new file while it is full.

// tightFS has no room for any new file while it is full, or for spares alone.
type tightFS struct {
	quickFS
	full, spares *atomic.Bool
}

func (f tightFS) Create(name string) (File, error) {
	if f.full.Load() || f.spares.Load() && strings.HasSuffix(name, spareName) {
		return nil, syscall.ENOSPC
	}
	return f.quickFS.Create(name)
}

// While there is not even room for a checkpoint nothing can be removed. As soon
// as there is, what had been dropped makes room for the rest.
func TestWhatWasDroppedOnAFullVolumeGoesWhenACheckpointFits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := tightFS{full: new(atomic.Bool), spares: new(atomic.Bool)}
		o := tiny
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 200, 1, 1000)
		fs.full.Store(true)
		time.Sleep(10 * time.Second)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: channel.Position(len(all) + 1)}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := onDisk(t, r.dir); got < 3*minSegmentSize {
			t.Fatalf("%d bytes are on the disk", got)
		}
		fs.full.Store(false)
		fs.spares.Store(true)
		time.Sleep(10 * time.Second)
		if got := onDisk(t, r.dir); got > minSegmentSize {
			t.Errorf("%d bytes stay on the disk", got)
		}
		r.stop()
	})
}

// Progress that found no room in the log is written when there is some, also
// where nobody appends or saves any more.
func TestProgressThatWaitedForRoomIsWrittenWhenThereIsSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := tightFS{full: new(atomic.Bool), spares: new(atomic.Bool)}
		o := tiny
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		fill(r, 20, 1, 1000)
		fs.full.Store(true)
		lane := channel.LaneProgress{Trigger: channel.UID(strings.Repeat("t", 5000))}
		for i := range 20 {
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: channel.Position(i + 2), Lanes: []channel.LaneProgress{lane}}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond)
		}
		fs.full.Store(false)
		time.Sleep(10 * time.Second)
		again := start(t, r.crash(), tiny)
		if got := again.Log.broker("b").Progress(0).Scanned; got != 21 {
			t.Errorf("scanned up to %d", got)
		}
		again.stop()
		r.stop()
	})
}
