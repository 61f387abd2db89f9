package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/proof"
)

// crash is what a crash of the log leaves at this moment.
func (r *running) crash() string {
	synctest.Wait() // or a file is copied that is gone with the next checkpoint
	return copyStore(r.t, r.dir)
}

// slowTrigger appends events to a broker of one shard, marks every n-th of them
// pending on a trigger that never acknowledges, and settles the rest.
func slowTrigger(r *running, b channel.BrokerLog, events, size, n int) acked {
	r.t.Helper()
	waiting := make(acked)
	for i := range events {
		name := fmt.Sprintf("%s-%d", b.Info().UID, i)
		id := r.append(b.Info().UID, size, name)[0]
		change := channel.ShardProgress{Scanned: id.Position + 1}
		if i%n == 0 {
			waiting[id] = name
			change.Lanes = []channel.LaneProgress{{Trigger: "slow", Added: roaring64.BitmapOf(uint64(id.Position))}}
		}
		if err := b.SaveProgress(r.t.Context(), []channel.ShardProgress{change}); err != nil {
			r.t.Fatal(err)
		}
	}
	return waiting
}

// wantWaiting reads by position, and from the beginning, what must be there.
func wantWaiting(t testing.TB, b channel.BrokerLog, want acked, size int, times map[channel.ID]time.Time) {
	t.Helper()
	var positions []channel.Position
	for p := channel.Position(1); int(p) < 1_000_000 && len(positions) < len(want); p++ {
		if _, ok := want[channel.ID{Position: p}]; ok {
			positions = append(positions, p)
		}
	}
	records, err := b.Get(t.Context(), 0, positions, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != len(want) {
		t.Fatalf("%d of %d events are there", len(records), len(want))
	}
	for _, rec := range records {
		id := channel.ID{Position: rec.Position}
		if string(rec.Event.Raw()) != string(made(t, want[id], size).Raw()) {
			t.Fatalf("%s is not as it was appended", id)
		}
		if was, ok := times[id]; ok && !was.Equal(rec.Time) {
			t.Fatalf("%s was appended at %v and now says %v", id, was, rec.Time)
		}
		if times != nil {
			times[id] = rec.Time
		}
	}
	read, err := contents(b)
	if err != nil {
		t.Fatal(err)
	}
	for id, name := range want {
		if e, ok := read[id]; !ok || e.ID() != name {
			t.Fatalf("reading from the beginning does not give %s", id)
		}
	}
	if got := b.Progress(0); len(got.Lanes) != 1 || got.Lanes[0].Added.GetCardinality() != uint64(len(want)) {
		t.Fatalf("progress %v, want %d pending", got, len(want))
	}
}

// onDisk is the size of all segment files.
func onDisk(t testing.TB, dir string) int64 {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+segmentSuffix))
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, name := range names {
		info, err := os.Stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since they were listed
		}
		if err != nil {
			t.Fatal(err)
		}
		bytes += info.Size()
	}
	return bytes
}

func TestFewWaitingEventsAreMovedAndTheirSegmentsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		times := make(map[channel.ID]time.Time)
		waiting := slowTrigger(r, b, 3000, 1000, 100) // 3 MB in some 50 segments
		wantWaiting(t, b, waiting, 1000, times)
		time.Sleep(time.Minute)
		if got := onDisk(t, r.dir); got > 4*minSegmentSize {
			t.Fatalf("%d bytes are on the disk for %d waiting events", got, len(waiting))
		}
		wantWaiting(t, b, waiting, 1000, times)
		if used := b.Stats().Bytes; used > 3*minSegmentSize {
			t.Errorf("the broker is charged %d bytes", used)
		}
		used := b.Stats().Bytes
		crash := r.crash()
		for name, dir := range map[string]string{"closed": r.dir, "crashed": crash} {
			r.stop()
			again := start(t, dir, tiny)
			b := again.Log.broker("b")
			wantWaiting(t, b, waiting, 1000, times)
			if got := b.Stats().Bytes; got > used+minSegmentSize || got < used-minSegmentSize {
				t.Errorf("%s: %d bytes are charged, %d before", name, got, used)
			}
			more := slowTrigger(again, b, 1, 1000, 1)
			for id, name := range more {
				waiting[id] = name
			}
			time.Sleep(time.Minute)
			wantWaiting(t, b, waiting, 1000, times)
			for id := range more {
				delete(waiting, id)
				delete(times, id)
			}
			again.stop()
		}
	})
}

// A move of a move: what was moved is moved again when little of it is left.
func TestMovedEventsAreMovedAgainAsTheyAreSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 4000, 1000, 20)
		for round := range 6 {
			time.Sleep(time.Minute)
			settled := roaring64.New()
			for id := range waiting {
				if int(id.Position/20)%(round+2) != 0 {
					settled.Add(uint64(id.Position))
					delete(waiting, id)
				}
			}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "slow", Settled: settled}}}}); err != nil {
				t.Fatal(err)
			}
			slowTriggerSettled(r, 200)
			time.Sleep(time.Minute)
			wantWaiting(t, b, waiting, 1000, nil)
			for _, s := range r.Log.broker("b").shards {
				for i := 1; i < len(s.runs); i++ {
					if s.runs[i].first <= s.runs[i-1].last {
						t.Fatalf("runs overlap at %d", s.runs[i].first)
					}
				}
			}
			if len(waiting) == 0 {
				t.Fatal("nothing is left to be moved")
			}
			dir := r.crash()
			r.stop()
			r = start(t, dir, tiny)
			b = r.Log.broker("b")
			wantWaiting(t, b, waiting, 1000, nil)
		}
		if got := onDisk(t, r.dir); got > 4*minSegmentSize {
			t.Errorf("%d bytes are on the disk for %d waiting events", got, len(waiting))
		}
		r.stop()
	})
}

// slowTriggerSettled appends events that nobody wants.
func slowTriggerSettled(r *running, n int) {
	r.t.Helper()
	b := r.Log.broker("b")
	for i := range n {
		id := r.append("b", 1000, fmt.Sprint("unwanted-", i))[0]
		if err := b.SaveProgress(r.t.Context(), []channel.ShardProgress{{Scanned: id.Position + 1}}); err != nil {
			r.t.Fatal(err)
		}
	}
}

func TestMovedDeadLettersKeepTheirOrderAndCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		var died []channel.ID
		for i := range 40 {
			slowTriggerSettled(r, 50)
			id := channel.ID{Position: channel.Position(50 * (i + 1))}
			if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: id, Trigger: "t", Attempts: i, Event: made(t, fmt.Sprint(id), 300)}}); err != nil {
				t.Fatal(err)
			}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "t", Settled: roaring64.BitmapOf(uint64(id.Position))}}}}); err != nil {
				t.Fatal(err)
			}
			died = append(died, id)
		}
		letters, cursor, err := b.Dead(t.Context(), "t", "", 17)
		if err != nil || len(letters) != 17 {
			t.Fatal(len(letters), err)
		}
		time.Sleep(time.Minute)
		if got := onDisk(t, r.dir); got > 4*minSegmentSize {
			t.Fatalf("%d bytes are on the disk", got)
		}
		for range 2 {
			b := r.Log.broker("b")
			rest, _, err := b.Dead(t.Context(), "t", cursor, 100)
			if err != nil {
				t.Fatal(err)
			}
			for i, letter := range append(letters[:17:17], rest...) {
				if letter.ID != died[i] || letter.Attempts != i || letter.Event.ID() != fmt.Sprint(died[i]) {
					t.Fatalf("letter %d is %s", i, letter.ID)
				}
			}
			if stats := b.Stats(); len(rest) != 23 || stats.DeadBytes <= 0 || stats.DeadBytes > stats.Bytes || stats.DeadBytes > 40*700 {
				t.Fatalf("%d letters after the first 17, %+v", len(rest), stats)
			}
			r.stop()
			r = start(t, r.dir, tiny)
		}
		r.stop()
	})
}

// F22: the disk is turned over ten times while one trigger never acknowledges.
func TestOneSlowTriggerDoesNotPinTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const quota = 16 * minSegmentSize
		r := start(t, t.TempDir(), tiny)
		slow := r.broker(channel.BrokerInfo{UID: "slow", Shards: 1, MaxBytes: quota})
		other := r.broker(channel.BrokerInfo{UID: "other", Shards: 1, MaxBytes: quota})
		waiting, refused := make(acked), 0
		var worst int64
		for i := 0; i < 10*quota/1000; i++ {
			name := fmt.Sprint("slow-", i)
			ids, err := r.Append(t.Context(), "slow", []event.Event{made(t, name, 1000)})
			if err != nil {
				refused++
				var full *channel.Refused
				if !errors.As(err, &full) || !errors.Is(err, channel.ErrQuota) || full.RetryAfter <= 0 {
					t.Fatal(err)
				}
				time.Sleep(full.RetryAfter)
				continue
			}
			change := channel.ShardProgress{Scanned: ids[0].Position + 1}
			if i%100 == 0 {
				waiting[ids[0].ID] = name
				change.Lanes = []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(uint64(ids[0].Position))}}
			}
			if err := slow.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
				t.Fatal(err)
			}
			if i%50 == 0 {
				id := r.append("other", 1000, fmt.Sprint("other-", i))[0] // is never refused
				if err := other.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: id.Position + 1}}); err != nil {
					t.Fatal(err)
				}
				worst = max(worst, onDisk(t, r.dir))
			}
		}
		if worst > quota+2*minSegmentSize {
			t.Errorf("%d bytes were on the disk, the quota is %d", worst, quota)
		}
		if refused > 20 {
			t.Errorf("%d appends were refused", refused)
		}
		wantWaiting(t, slow, waiting, 1000, nil)
		r.stop()
	})
}

// What a broker has settled is not held against it where a segment stays for
// the sake of another.
func TestSettledEventsInAnothersSegmentsLeaveRoomInTheQuota(t *testing.T) {
	for _, order := range []string{"sealed", "active"} {
		t.Run(order, func(t *testing.T) {
			o := Options{FS: quickFS{}, SegmentSize: 1 << 20}
			if order == "sealed" {
				o = tiny
			}
			r := start(t, t.TempDir(), o)
			const quota = 128 << 10
			small := r.broker(channel.BrokerInfo{UID: "small", Shards: 1, MaxBytes: quota})
			r.broker(channel.BrokerInfo{UID: "large", Shards: 1}) // never scanned: all of it is kept
			for i := range 600 {
				r.append("large", 1000, fmt.Sprint("large-", i))
				id := r.append("small", 500, fmt.Sprint("small-", i))[0]
				if err := small.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: id.Position + 1}}); err != nil {
					t.Fatal(err)
				}
				r.freed(small)
			}
		})
	}
}

// freed lets the broker ask for room again at once.
func (r *running) freed(b channel.BrokerLog) { b.(*broker).freed.Store(0) }

func TestRemovedBrokersSegmentsGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		r.broker(channel.BrokerInfo{UID: "gone", Shards: 2})
		stays := r.broker(channel.BrokerInfo{UID: "stays", Shards: 1})
		waiting := make(acked)
		for i := range 1000 {
			r.append("gone", 1000, fmt.Sprint("gone-", i))
			if i%100 == 0 {
				name := fmt.Sprint("stays-", i)
				waiting[r.append("stays", 1000, name)[0]] = name
			}
		}
		if err := r.Remove(t.Context(), "gone"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if got := onDisk(t, r.dir); got > 3*minSegmentSize {
			t.Errorf("%d bytes are on the disk", got)
		}
		all, err := contents(stays)
		if err != nil || len(all) != len(waiting) {
			t.Errorf("%d of %d events, error %v", len(all), len(waiting), err)
		}
		r.stop()
	})
}

// F23: whatever a crash leaves of a move, everything that waits is there, and
// the next owner moves what is left.
func TestACrashDuringAMoveLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := &watchFS{}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 1500, 1000, 12)
		rng := proof.Rand(proof.Seed(t), 0)
		images := fs.images(r, func() { time.Sleep(time.Minute) })
		r.stop()
		during := 0
		rng.Shuffle(len(images), func(i, j int) { images[i], images[j] = images[j], images[i] })
		for n := range proof.Rounds(t, 200) {
			if n >= len(images) {
				break
			}
			im := images[n]
			dir := im.write(t)
			l, err := Open(dir, tiny)
			if err != nil {
				t.Fatal(err)
			}
			if len(l.active.parts) > 0 {
				during++
			}
			again := serve(t, l)
			wantWaiting(t, l.broker("b"), waiting, 1000, nil)
			time.Sleep(time.Minute)
			wantWaiting(t, l.broker("b"), waiting, 1000, nil)
			if got := onDisk(t, dir); got > 5*minSegmentSize {
				t.Errorf("%d bytes stay on the disk", got)
			}
			again.stop()
			os.RemoveAll(dir)
		}
		if len(images) < 20 || during == 0 && proof.Full() {
			t.Errorf("%d crashes, %d of them with moved records in the tail", len(images), during)
		}
	})
}

// A replay makes settled events pending. Where their segment is being copied
// without them it must stay.
func TestAReplayDuringAMoveFindsItsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := &watchFS{}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 500, 1000, 40)
		replayed := make(acked)
		hook := func() {
			m := r.Log.moving // the hook runs where the log commits
			if m == nil || m.source.entries[0].kind != kindEvent {
				return
			}
			for p := m.source.entries[0].first; p < m.source.entries[0].last(); p++ {
				id := channel.ID{Position: p}
				if waiting[id] != "" || replayed[id] != "" {
					continue
				}
				replayed[id] = fmt.Sprint("b-", p-1)
				change := channel.ShardProgress{Lanes: []channel.LaneProgress{{Trigger: "replay", Added: roaring64.BitmapOf(uint64(p))}}}
				if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
					t.Error(err)
				}
				return
			}
		}
		fs.hook.Store(&hook)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		fs.hook.Store(nil)
		time.Sleep(time.Minute)
		if len(replayed) == 0 {
			t.Fatal("nothing was replayed")
		}
		for id, name := range replayed {
			records, err := b.Get(t.Context(), 0, []channel.Position{id.Position}, nil)
			if err != nil || len(records) != 1 || records[0].Event.ID() != name {
				t.Errorf("%s is pending again, and gone: %v", id, err)
			}
		}
		r.stop()
	})
}

// watchFS calls a hook before every change.
type watchFS struct {
	quickFS
	hook atomic.Pointer[func()]
}

func (f *watchFS) tell() {
	if hook := f.hook.Load(); hook != nil {
		(*hook)()
	}
}

// images are the store before every change that is made during work.
func (f *watchFS) images(r *running, work func()) []image {
	var images []image
	hook := func() { images = append(images, read(r.t, r.dir)) }
	f.hook.Store(&hook)
	work()
	synctest.Wait()
	f.hook.Store(nil)
	return images
}

func (f *watchFS) Create(name string) (File, error) {
	f.tell()
	file, err := f.quickFS.Create(name)
	return watchFile{file, f}, err
}

func (f *watchFS) Open(name string) (File, error) {
	file, err := f.quickFS.Open(name)
	return watchFile{file, f}, err
}

func (f *watchFS) Rename(from, to string) error { f.tell(); return f.quickFS.Rename(from, to) }
func (f *watchFS) Remove(name string) error     { f.tell(); return f.quickFS.Remove(name) }

type watchFile struct {
	File
	fs *watchFS
}

func (f watchFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.tell()
	return f.File.WriteAt(b, off)
}

func (f watchFile) Truncate(size int64) error { f.fs.tell(); return f.File.Truncate(size) }

// A random life of several shards and triggers, with crashes: after each step
// exactly what is pending or not scanned must be there, and nothing twice.
func TestMovesKeepWhatAModelKeeps(t *testing.T) {
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 30) {
		synctest.Test(t, func(t *testing.T) { moveModel(t, proof.Rand(seed, n)) })
	}
}

func moveModel(t *testing.T, rng *rand.Rand) {
	const shards, triggers = 2, 3
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b", Shards: shards})
	names := make(map[channel.ID]string)
	pending := make(map[channel.ID]map[int]bool)
	scanned := [shards]channel.Position{1, 1}
	next := [shards]channel.Position{1, 1}
	slow := rng.IntN(200) + 2
	for step := range 60 {
		b := r.Log.broker("b")
		switch rng.IntN(6) {
		case 0, 1, 2: // append
			for i := range rng.IntN(150) {
				name := fmt.Sprintf("%d-%d", step, i)
				id := r.append("b", 1000, name)[0]
				names[id], next[id.Shard] = name, id.Position+1
			}
		case 3: // scan
			for s := range next {
				change := channel.ShardProgress{Shard: channel.ShardID(s)}
				to := scanned[s] + channel.Position(rng.Uint64N(uint64(next[s]-scanned[s])+1))
				lanes := make([]*roaring64.Bitmap, triggers)
				for i := range lanes {
					lanes[i] = roaring64.New()
				}
				for p := scanned[s]; p < to; p++ {
					for i := range lanes {
						if rng.IntN(slow) == 0 {
							lanes[i].Add(uint64(p))
							id := channel.ID{Shard: channel.ShardID(s), Position: p}
							if pending[id] == nil {
								pending[id] = make(map[int]bool)
							}
							pending[id][i] = true
						}
					}
				}
				for i, set := range lanes {
					change.Lanes = append(change.Lanes, channel.LaneProgress{Trigger: channel.UID(fmt.Sprint(i)), Added: set})
				}
				change.Scanned, scanned[s] = to, to
				if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
					t.Fatal(err)
				}
			}
		case 4: // settle
			for id, on := range pending {
				if rng.IntN(3) > 0 {
					continue
				}
				for i := range on {
					set := roaring64.BitmapOf(uint64(id.Position))
					if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: id.Shard, Lanes: []channel.LaneProgress{{Trigger: channel.UID(fmt.Sprint(i)), Settled: set}}}}); err != nil {
						t.Fatal(err)
					}
					delete(on, i)
					break
				}
				if len(on) == 0 {
					delete(pending, id)
				}
			}
		case 5: // time, and perhaps a crash
			time.Sleep(time.Duration(rng.IntN(20)) * time.Second)
			if rng.IntN(2) == 0 {
				time.Sleep(time.Second) // progress is durable
				dir := r.crash()
				r.stop()
				os.RemoveAll(r.dir)
				r = start(t, dir, tiny)
				b = r.Log.broker("b")
			}
			got, err := contents(b)
			if err != nil {
				t.Fatal(err)
			}
			for id, e := range got {
				if names[id] != e.ID() || !strings.HasPrefix(string(e.Raw()), string(made(t, names[id], 1000).Raw())) {
					t.Fatalf("%s is %s, was %s", id, e.ID(), names[id])
				}
			}
			for id := range names {
				if _, ok := got[id]; !ok && (len(pending[id]) > 0 || id.Position >= scanned[id.Shard]) {
					t.Fatalf("%s is lost", id)
				}
			}
		}
	}
	r.stop()
	os.RemoveAll(r.dir)
}

// A third of all that fills the volume waits, so no segment goes by itself.
func TestAFullVolumeMakesRoomByMovingAndKeepsItsReserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.MaxBytes = 16 * minSegmentSize
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := make(acked)
		refused, accepted := 0, 0
		for i := 0; accepted < 2500 && refused < 100; i++ {
			name := fmt.Sprint("b-", i)
			ids, err := r.Append(t.Context(), "b", []event.Event{made(t, name, 1000)})
			if err != nil {
				if !errors.Is(err, channel.ErrQuota) {
					t.Fatal(err)
				}
				refused++
				// Progress and dead letters go on meanwhile.
				last := channel.ID{Position: channel.Position(accepted)}
				if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: last, Trigger: "dead", Event: made(t, "x", 100)}}); err != nil {
					t.Fatal(err)
				}
				if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "dead", Settled: roaring64.BitmapOf(uint64(last.Position))}}}}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				continue
			}
			accepted++
			change := channel.ShardProgress{Scanned: ids[0].Position + 1}
			if i%3 == 0 && len(waiting) < 500 {
				waiting[ids[0].ID] = name
				change.Lanes = []channel.LaneProgress{{Trigger: "slow", Added: roaring64.BitmapOf(uint64(ids[0].Position))}}
			}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
				t.Fatal(err)
			}
			if got := onDisk(t, r.dir); got > o.MaxBytes+2*minSegmentSize {
				t.Fatalf("%d bytes are on the disk", got)
			}
		}
		if accepted < 2500 || refused == 0 {
			t.Errorf("%d events were accepted and %d refused", accepted, refused)
		}
		wantWaiting(t, b, waiting, 1000, nil)
		r.stop()
	})
}
