package disk

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// A million events, each of which one of a hundred triggers has yet to take:
// what that costs in memory, in the log and in the lanes that go on from it.
func TestAPendingEventCostsTwoBytesOfMemory(t *testing.T) {
	const triggers, shards = 100, 4
	const events = uint64(1_000_000)
	dir := t.TempDir()
	r := start(t, dir, Options{FS: quickFS{}})
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: shards})
	rng := rand.New(rand.NewPCG(1, 1))
	last := events/shards + 1
	for from := uint64(1); from < last; from += 5000 {
		var changes []channel.ShardProgress
		to := min(from+5000, last)
		for _, shard := range b.Shards() {
			sets := make([]*roaring64.Bitmap, triggers)
			for p := from; p < to; p++ {
				n := rng.IntN(triggers)
				if sets[n] == nil {
					sets[n] = roaring64.New()
				}
				sets[n].Add(p)
			}
			change := channel.ShardProgress{Shard: shard, Scanned: channel.Position(to)}
			for n, set := range sets {
				change.Lanes = append(change.Lanes, channel.LaneProgress{Trigger: channel.UID(fmt.Sprint("t", n)), Added: set})
			}
			changes = append(changes, change)
		}
		if err := b.SaveProgress(t.Context(), changes); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r.Log = nil

	before := alive()
	r = start(t, dir, Options{FS: quickFS{}})
	inLog := alive() - before
	if each := float64(inLog) / float64(events); each > 2.2 {
		t.Errorf("%.2f bytes for each pending event in a log that was opened again, want 2.2 at most", each)
	}
	b = r.broker(channel.BrokerInfo{UID: "b"})
	var lanes []channel.Resumed
	for _, shard := range b.Shards() {
		scanned, some := b.Resume(shard)
		if uint64(scanned) != last {
			t.Errorf("shard %d: scanned to %d, want %d", shard, scanned, last)
		}
		lanes = append(lanes, some...)
	}
	if each := float64(alive()-before-inLog) / float64(events); each > 1 {
		t.Errorf("%.2f bytes more for each in the lanes, want 1 at most: they share what the log has", each)
	}
	var pending uint64
	for i := range lanes {
		pending += lanes[i].Positions.Len()
	}
	if pending != events {
		t.Errorf("%d pending, want %d", pending, events)
	}
}

// alive is the bytes of the heap that are in use.
func alive() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// readFS counts what is read of segments.
type readFS struct {
	quickFS
	read *atomic.Int64
}

type readFile struct {
	File
	read *atomic.Int64
}

func (f readFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.read.Add(int64(n))
	return n, err
}

func (fs readFS) Open(name string) (File, error) {
	f, err := fs.quickFS.Open(name)
	if err == nil && strings.HasSuffix(name, segmentSuffix) {
		f = readFile{f, fs.read}
	}
	return f, err
}

// What waits in sealed segments is found by their footers and a checkpoint:
// a start reads the segment that was being written, however much is pending.
func TestAStartDoesNotReadTheBacklog(t *testing.T) {
	const size = 2 << 20
	var read atomic.Int64
	o := Options{FS: readFS{read: &read}, SegmentSize: size}
	dir := t.TempDir()
	open := func(backlog int) (bytes int64) {
		r := start(t, dir, o)
		bytes = read.Swap(0)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		_, next := b.Range(0)
		for n := int(next) - 1; n < backlog; n += 20 {
			ids := make([]string, 20)
			for i := range ids {
				ids[i] = fmt.Sprint(n + i)
			}
			r.append("b", 8<<10, ids...)
		}
		_, end := b.Range(0)
		added := roaring64.New()
		added.AddRange(uint64(next), uint64(end))
		change := channel.ShardProgress{Scanned: end, Lanes: []channel.LaneProgress{{Trigger: "t", Added: added}}}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
			t.Fatal(err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		read.Store(0)
		return bytes
	}
	open(300)
	few := open(3000)
	many := open(3000)
	segments := int64(3000 * 8 << 10 / size)
	if limit := int64(2*size + size/2); few > limit {
		t.Errorf("%d bytes read with 300 events pending, want %d at most", few, limit)
	}
	if limit := 2*size + size/2 + segments*footerAtOnce; many > limit {
		t.Errorf("%d bytes read with 3,000 events pending, want %d at most", many, limit)
	}
}

// The checksum of a checkpoint is put together of its pieces'.
func TestTheSumOfTwoPiecesIsThatOfThemTogether(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 200 {
		b := make([]byte, rng.IntN(20_000))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		at := rng.IntN(len(b) + 1)
		first, second := crc32.Checksum(b[:at], castagnoli), crc32.Checksum(b[at:], castagnoli)
		if got := joinSums(first, second, int64(len(b)-at)); got != crc32.Checksum(b, castagnoli) {
			t.Fatalf("%d bytes cut at %d: another sum", len(b), at)
		}
	}
}
