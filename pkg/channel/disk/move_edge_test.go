package disk

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// slowFS takes its time for each sync of data.
type slowFS struct {
	quickFS
	takes *atomic.Int64
}

type slowFile struct {
	File
	fs slowFS
}

func (f slowFile) Datasync() error {
	time.Sleep(time.Duration(f.fs.takes.Load()))
	return f.File.Datasync()
}

func (fs slowFS) wrap(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return slowFile{f, fs}, nil
}

func (fs slowFS) Create(name string) (File, error) { return fs.wrap(fs.quickFS.Create(name)) }

func (fs slowFS) Open(name string) (File, error) { return fs.wrap(fs.quickFS.Open(name)) }

// A long move fills a segment of which nothing else is needed: what it has put
// there must stay until the move has ended.
func TestASegmentThatAMoveHasFilledStaysUntilTheMoveEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := slowFS{takes: new(atomic.Int64)}
		const size = 100_000
		r := start(t, t.TempDir(), Options{FS: fs, SegmentSize: 8 << 20, TailBytes: 1, MaxBytes: 1 << 30, ScrubRate: -1})
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := make(acked)
		for i := 0; r.Log.active.number == 1 || i < 140; i++ {
			name := fmt.Sprint("b-", i)
			id := r.append("b", size, name)[0]
			change := channel.ShardProgress{Scanned: id.Position + 1}
			if r.Log.active.number == 1 {
				waiting[id] = name
				change.Lanes = []channel.LaneProgress{{Trigger: "slow", Added: roaring64.BitmapOf(uint64(id.Position))}}
			}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
				t.Fatal(err)
			}
		}
		bad := channel.ID{Position: 3}
		spoil(t, r, b, bad)
		delete(waiting, bad)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "slow", Settled: roaring64.BitmapOf(3)}}}}); err != nil {
			t.Fatal(err)
		}
		fs.takes.Store(int64(250 * time.Millisecond))
		r.suspect(1, errors.New("the scrubber says so"))
		time.Sleep(time.Minute)
		fs.takes.Store(0)
		if names := damagedFiles(t, r.dir); len(names) != 1 {
			t.Fatalf("set aside: %v", names)
		}
		wantWaiting(t, b, waiting, size, nil)
		r.stop()
		r = start(t, r.crash(), Options{FS: fs, SegmentSize: 8 << 20, TailBytes: 1, MaxBytes: 1 << 30, ScrubRate: -1})
		wantWaiting(t, r.Log.broker("b"), waiting, size, nil)
		r.stop()
	})
}

// jump lets the stream go on far ahead, as after as many events.
func jump(r *running, b channel.BrokerLog, to channel.Position) {
	r.t.Helper()
	l := r.Log
	l.lead(func() {
		if err := l.roll(); err != nil {
			r.t.Fatal(err)
		}
		l.mu.Lock()
		s := b.(*broker).shards[0]
		s.next, s.assign, s.tail = to, to, tail{}
		l.mu.Unlock()
		if err := l.checkpoint(); err != nil {
			r.t.Fatal(err)
		}
	})
}

func TestEventsFourBillionApartAreMovedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 100, 1000, 70)
		time.Sleep(20 * time.Second) // moved into the active segment
		var far []channel.Position
		for i := range 3 {
			jump(r, b, channel.Position(i+1)<<32+5)
			for id := range slowTrigger(r, b, 100, 1000, 70) {
				far = append(far, id.Position)
			}
			time.Sleep(20 * time.Second)
		}
		check := func(b channel.BrokerLog) {
			t.Helper()
			n := 0
			for id := range waiting {
				if got, err := b.Get(t.Context(), 0, []channel.Position{id.Position}, nil); err == nil {
					n += len(got)
				}
			}
			for _, p := range far {
				got, err := b.Get(t.Context(), 0, []channel.Position{p}, nil)
				if err != nil {
					t.Errorf("get %d: %v", p, err)
				}
				n += len(got)
			}
			if n != len(waiting)+len(far) {
				t.Fatalf("%d of %d events are there", n, len(waiting)+len(far))
			}
		}
		for range 3 {
			slowTriggerSettled(r, 200)
			time.Sleep(20 * time.Second)
			check(b)
			dir := r.crash()
			r.stop()
			r = start(t, dir, tiny)
			b = r.Log.broker("b")
			check(b)
		}
		r.stop()
	})
}

// Who starts after a crash between the two checkpoints of a drop must not
// remove the file yet: only one of the two checkpoints can do without it.
func TestAfterACrashDuringAMoveEitherCheckpointIsEnough(t *testing.T) {
	var images []image
	var waiting acked
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := &watchFS{}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting = slowTrigger(r, b, 200, 1000, 40)
		images = fs.images(r, func() { time.Sleep(10 * time.Second) })
		r.stop()
	})
	for i, im := range images {
		if len(im.names(checkpointSuffix)) == 0 {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			r := start(t, im.write(t), tiny)
			synctest.Wait()
			again := read(t, r.dir)
			r.stop()
			names := again.names(checkpointSuffix)
			for _, name := range names {
				r := start(t, again.without(name).write(t), tiny)
				wantWaiting(t, r.Log.broker("b"), waiting, 1000, nil)
				if t.Failed() {
					t.Logf("image %d without %s of %v", i, name, names)
				}
				r.stop()
			}
		})
		if t.Failed() {
			t.Fatalf("image %d of %d", i, len(images))
		}
	}
}

// Segments were larger once, and so were events: what fits no segment any more
// stays where it is, and is not tried again and again.
func TestAnEventThatFitsNoSegmentAnyMoreStaysWhereItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		r := start(t, dir, Options{FS: quickFS{}, SegmentSize: 8 << 20, TailBytes: 1, ScrubRate: -1})
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		var pending []uint64
		for i := range 3 {
			pending = append(pending, uint64(r.append("b", 20_000, fmt.Sprint("small-", i))[0].Position))
		}
		pending = append(pending, uint64(r.append("b", 200_000, "large")[0].Position))
		fill(r, 85, 1, 100_000)
		_, next := b.Range(0)
		lane := channel.LaneProgress{Trigger: "slow", Added: roaring64.BitmapOf(pending...)}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: next, Lanes: []channel.LaneProgress{lane}}}); err != nil {
			t.Fatal(err)
		}
		r.stop()
		o := tiny
		o.MaxBytes = 1 << 30
		r = start(t, dir, o)
		time.Sleep(10 * time.Minute)
		r.lead(func() {
			if r.moved > 100_000 {
				t.Errorf("%d bytes were copied in vain", r.moved)
			}
		})
		if got, err := r.Log.broker("b").Get(t.Context(), 0, []channel.Position{1, 2, 3, 4}, nil); err != nil || len(got) != 4 {
			t.Errorf("%d events, error %v", len(got), err)
		}
		r.stop()
	})
}
