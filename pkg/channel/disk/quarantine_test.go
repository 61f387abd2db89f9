package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// spoil flips a byte of an event where it lies on the disk.
func spoil(t testing.TB, r *running, b channel.BrokerLog, id channel.ID) {
	t.Helper()
	l := r.Log
	p, more, err := l.plan(b.(*broker).shards[id.Shard], id.Position, 1, nil)
	if err != nil || !more || p.segment == nil || p.first != id.Position {
		t.Fatalf("%s is not on the disk: %v", id, err)
	}
	if p.segment == l.active {
		t.Fatalf("%s is in the active segment", id)
	}
	spoilFile(t, segmentName(l.dir, p.segment.number), int64(p.offsets[0])*frameAlign+frameHeader+40)
	p.close()
}

func spoilFile(t testing.TB, name string, off int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var one [1]byte
	if _, err := f.ReadAt(one[:], off); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 0x10
	if _, err := f.WriteAt(one[:], off); err != nil {
		t.Fatal(err)
	}
}

func damagedFiles(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"+damagedSuffix))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDamagedSegmentIsSetAsideAndItsGoodEventsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 300, 1000, 2)
		bad := channel.ID{Position: 11} // pending
		spoil(t, r, b, bad)
		spoil(t, r, b, channel.ID{Position: 12}) // settled
		_, err := b.Get(t.Context(), 0, []channel.Position{bad.Position}, nil)
		var gap *channel.GapError
		if !errors.As(err, &gap) || gap.Lost {
			t.Fatalf("get of a damaged event: %v", err)
		}
		time.Sleep(5 * time.Second)
		delete(waiting, bad)
		for range 3 { // declared once, also after restarts
			b := r.Log.broker("b")
			if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].From != bad.Position || gaps[0].To != bad.Position+1 || gaps[0].Lost != 1 || gaps[0].Dead || gaps[0].Cause == "" {
				t.Fatalf("gaps %+v", gaps)
			}
			if _, err := b.Get(t.Context(), 0, []channel.Position{bad.Position}, nil); !errors.As(err, &gap) || !gap.Lost {
				t.Fatalf("get of a lost event: %v", err)
			}
			var positions []channel.Position
			for p := channel.Position(1); p <= 300; p++ {
				if waiting[channel.ID{Position: p}] != "" {
					positions = append(positions, p)
				}
			}
			if records, err := b.Get(t.Context(), 0, positions, nil); err != nil || len(records) != len(waiting) {
				t.Fatalf("%d of %d events, error %v", len(records), len(waiting), err)
			}
			if _, err := contents(b); err != nil {
				t.Fatalf("a reader of what is scanned is told of the gap again: %v", err)
			}
			if names := damagedFiles(t, r.dir); len(names) != 1 || filepath.Base(names[0]) != "0000000000000001.damaged" {
				t.Fatalf("set aside: %v", names)
			}
			if health := r.Health(); health.Gaps != 1 || len(health.Quarantined) != 1 {
				t.Fatalf("health %+v", health)
			}
			if pending := b.Progress(0).Lanes[0].Added; !pending.Contains(uint64(bad.Position)) {
				t.Fatal("the lost event has ended in silence: it must be settled where people see it")
			}
			r.stop()
			r = start(t, r.crash(), tiny)
		}
		if err := r.Log.broker("b").SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "slow", Settled: roaring64.BitmapOf(uint64(bad.Position))}}}}); err != nil {
			t.Fatal(err)
		}
		r.stop()
	})
}

func TestUnscannedEventsThatAreLostAreToldToTheScannerOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 200, 1, 1000)
		for p := channel.Position(5); p < 9; p++ {
			spoil(t, r, b, channel.ID{Position: p})
		}
		r.suspect(1, errors.New("the scrubber says so"))
		time.Sleep(5 * time.Second)
		for _, scanned := range []channel.Position{0, 7, 9} {
			b := r.Log.broker("b")
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: scanned}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
			r.stop()
			r = start(t, r.dir, tiny)
			b = r.Log.broker("b")
			if recent, next, all := b.Recent(0, max(1, scanned), make([]channel.Record, 0, 100)); all || len(recent) > 0 || next != max(1, scanned) {
				t.Fatalf("from memory, scanned up to %d: %d records, next %d, all %v; want Read asked", scanned, len(recent), next, all)
			}
			records, next, err := b.Read(t.Context(), 0, max(1, scanned), make([]channel.Record, 0, 100))
			var gap *channel.GapError
			switch {
			case scanned == 9:
				if err != nil || len(records) == 0 || records[0].Position != 9 {
					t.Fatalf("scanned up to 9: %d records, error %v", len(records), err)
				}
			case !errors.As(err, &gap) || !gap.Lost || gap.From != max(5, scanned) || gap.To != 9 || next != 9:
				t.Fatalf("scanned up to %d: error %v, next %d", scanned, err, next)
			}
		}
		got, err := contents(r.Log.broker("b"))
		if err != nil || len(got) != len(all)-4 {
			t.Fatalf("%d of %d events, error %v", len(got), len(all), err)
		}
		r.stop()
	})
}

// Who scans may meet damage before the log has examined it: what he has gone
// on without is declared all the same.
func TestWhatAReaderWasToldIsDamagedIsDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		fill(r, 200, 1, 1000)
		spoil(t, r, b, channel.ID{Position: 3})
		_, next, err := b.Read(t.Context(), 0, 1, make([]channel.Record, 0, 100))
		var gap *channel.GapError
		if !errors.As(err, &gap) || gap.From != 3 || next != 4 {
			t.Fatalf("read: %v, next %d", err, next)
		}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: 4}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].From != 3 {
			t.Fatalf("gaps %+v", gaps)
		}
		r.stop()
	})
}

func TestLostDeadLetterIsListedAsAGapAndNotAsALetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		for i := range 100 {
			id := r.append("b", 1000, fmt.Sprint(i))[0]
			if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: id, Trigger: "t", Event: made(t, fmt.Sprint(i), 1000)}}); err != nil {
				t.Fatal(err)
			}
		}
		p, _, err := r.plan(b.(*broker).dead, 7, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		spoilFile(t, segmentName(r.dir, p.segment.number), int64(p.offsets[0])*frameAlign+frameHeader+3)
		p.close()
		r.suspect(p.segment.number, errors.New("the scrubber says so"))
		time.Sleep(5 * time.Second)
		letters, _, err := b.Dead(t.Context(), "t", "", 1000)
		if err != nil || len(letters) != 99 || b.DeadCount("t") != 99 {
			t.Fatalf("%d letters, count %d, error %v", len(letters), b.DeadCount("t"), err)
		}
		if gaps := b.Gaps(); len(gaps) != 1 || !gaps[0].Dead || gaps[0].From != 7 || gaps[0].Lost != 1 {
			t.Fatalf("gaps %+v", gaps)
		}
		r.stop()
	})
}

func TestSealedSegmentWithoutItsIndexIsReadByItsFrames(t *testing.T) {
	for _, what := range []string{"footer", "trailer", "header", "cut"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, t.TempDir(), tiny)
				b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
				waiting := slowTrigger(r, b, 2000, 1000, 100)
				time.Sleep(time.Minute) // moved, so that there are moved runs too
				more := slowTrigger(r, b, 100, 1000, 3)
				all := make(acked)
				for id, name := range waiting {
					all[id] = name
				}
				for id, name := range more {
					all[id] = name
				}
				var victim *segment
				for _, g := range r.segments {
					if len(g.moves) > 0 {
						victim = g
					}
				}
				if victim == nil {
					t.Fatal("nothing was moved")
				}
				name := segmentName(r.dir, victim.number)
				size := victim.size
				r.stop()
				switch what {
				case "footer":
					spoilFile(t, name, size-trailerSize-1)
				case "trailer":
					spoilFile(t, name, size-10)
				case "header":
					spoilFile(t, name, 20)
				case "cut":
					if err := os.Truncate(name, size-trailerSize); err != nil {
						t.Fatal(err)
					}
				}
				for range 2 {
					r = start(t, r.dir, tiny)
					b := r.Log.broker("b")
					if gaps := b.Gaps(); len(gaps) > 0 {
						t.Fatalf("gaps %+v", gaps)
					}
					wantWaiting(t, b, all, 1000, nil)
					time.Sleep(10 * time.Second)
					wantWaiting(t, b, all, 1000, nil)
					if names := damagedFiles(t, r.dir); len(names) != 1 {
						t.Fatalf("set aside: %v", names)
					}
					r.stop()
				}
			})
		})
	}
}

// The last event of a segment stands before its footer: where both are
// damaged nothing in the segment says that there was one.
func TestEventsThatAreNowhereAreDeclaredBeforeAnybodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 200, 1, 1000)
		g := r.segments[0]
		last := g.entries[0].last()
		spoil(t, r, b, channel.ID{Position: last})
		r.stop()
		spoilFile(t, segmentName(r.dir, 1), g.size-10)
		r = start(t, r.dir, tiny)
		_, next, err := r.Log.broker("b").Read(t.Context(), 0, last, make([]channel.Record, 0, 10))
		var gap *channel.GapError
		if !errors.As(err, &gap) || !gap.Lost || gap.From != last || next != last+1 {
			t.Fatalf("read: %v, next %d", err, next)
		}
		got, err := contents(r.Log.broker("b"))
		if !errors.As(err, &gap) || len(got) != len(all)-1 {
			t.Fatalf("%d of %d events, error %v", len(got), len(all), err)
		}
		r.stop()
	})
}

// flakyFS fails reads of one segment for a while.
type flakyFS struct {
	quickFS
	bad atomic.Bool
}

func (f *flakyFS) Open(name string) (File, error) {
	file, err := f.quickFS.Open(name)
	if err != nil || filepath.Base(name) != "0000000000000001.log" {
		return file, err
	}
	return flakyFile{file, f}, nil
}

type flakyFile struct {
	File
	fs *flakyFS
}

func (f flakyFile) ReadAt(b []byte, off int64) (int, error) {
	if f.fs.bad.Load() && off < 20<<10 && off+int64(len(b)) > 16<<10 {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(b, off)
}

// glitchFS gives wrong bytes once in a while.
type glitchFS struct {
	quickFS
	next atomic.Int64 // read that goes wrong
}

func (f *glitchFS) Open(name string) (File, error) {
	file, err := f.quickFS.Open(name)
	return glitchFile{file, f}, err
}

type glitchFile struct {
	File
	fs *glitchFS
}

func (f glitchFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	if f.fs.next.Add(-1) == 0 && n > 0 {
		b[n/2] ^= 1
	}
	return n, err
}

func TestABitThatFlipsOnTheWayIsNoDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := new(glitchFS)
		o := tiny
		o.FS = fs
		dir := t.TempDir()
		r := start(t, dir, o)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 200, 1, 1000)
		r.stop()
		r = start(t, dir, o)
		b := r.Log.broker("b")
		for i := range int64(40) {
			fs.next.Store(1 + i%7)
			if got, err := contents(b); err != nil || len(got) != len(all) {
				t.Fatalf("%d of %d events, error %v", len(got), len(all), err)
			}
			fs.next.Store(1 + i%3)
			r.suspect(1, errors.New("the scrubber says so"))
			time.Sleep(11 * time.Second)
		}
		if gaps, names := b.Gaps(), damagedFiles(t, dir); len(gaps) > 0 || len(names) > 0 {
			t.Errorf("gaps %v, set aside %v", gaps, names)
		}
		r.stop()
	})
}

// A segment whose index is damaged is read by its frames: if some of them
// cannot be read just now the start waits for its operator, and gives up nothing.
func TestErrorOfReadingAtTheStartGivesNothingUp(t *testing.T) {
	fs := new(flakyFS)
	o := tiny
	o.FS = fs
	dir := t.TempDir()
	r := start(t, dir, o)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	all := fill(r, 200, 1, 1000)
	size := r.segments[0].size
	r.stop()
	spoilFile(t, segmentName(dir, 1), size-trailerSize-1)
	fs.bad.Store(true)
	if l, err := Open(dir, o); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "start again") {
		t.Fatalf("open: %v, error %v", l, err)
	}
	fs.bad.Store(false)
	r = start(t, dir, o)
	b := r.Log.broker("b")
	if got, err := contents(b); err != nil || len(got) != len(all) || len(b.Gaps()) > 0 {
		t.Errorf("%d of %d events, gaps %v, error %v", len(got), len(all), b.Gaps(), err)
	}
}

func TestErrorOfReadingIsDamageOnlyWhenItPersists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := new(flakyFS)
		o := tiny
		o.FS = fs
		dir := t.TempDir()
		r := start(t, dir, o)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 200, 1, 1000)
		r.stop() // the file that was written is not the one that is read
		r = start(t, dir, o)
		b := r.Log.broker("b")
		fs.bad.Store(true)
		buf := make([]channel.Record, 0, 100)
		records, next, err := b.Read(t.Context(), 0, 1, buf)
		var gap *channel.GapError
		for err == nil && next < 100 {
			records, next, err = b.Read(t.Context(), 0, next, buf)
		}
		if errors.As(err, &gap) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("%d records, next %d, error %v", len(records), next, err)
		}
		time.Sleep(30 * time.Second)
		fs.bad.Store(false)
		if records, _, err := b.Read(t.Context(), 0, next, buf); err != nil || records[0].Position != next {
			t.Fatalf("after it has healed: %v", err)
		}
		time.Sleep(time.Minute)
		if gaps, names := b.Gaps(), damagedFiles(t, dir); len(gaps) > 0 || len(names) > 0 {
			t.Fatalf("healed, and yet gaps %v, set aside %v", gaps, names)
		}
		fs.bad.Store(true)
		if _, _, err := b.Read(t.Context(), 0, next, buf); !errors.Is(err, syscall.EIO) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if gaps, names := b.Gaps(), damagedFiles(t, dir); len(gaps) == 0 || len(names) != 1 {
			t.Fatalf("for two minutes, and yet gaps %v, set aside %v", gaps, names)
		}
		got, err := contents(b)
		if lost := len(all) - len(got); lost < 3 || lost > 8 || !errors.As(err, &gap) {
			t.Fatalf("%d events are lost, error %v", lost, err)
		}
		r.stop()
	})
}

// F23: whatever a crash leaves of a quarantine, the next owner ends it.
func TestACrashDuringAQuarantineLosesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := &watchFS{}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 300, 1000, 2)
		bad := channel.ID{Position: 11}
		spoil(t, r, b, bad)
		delete(waiting, bad)
		images := fs.images(r, func() {
			r.suspect(1, errors.New("the scrubber says so"))
			time.Sleep(5 * time.Second)
		})
		r.stop()
		if len(images) < 5 {
			t.Fatalf("%d crashes", len(images))
		}
		for i, im := range images {
			r := start(t, im.write(t), tiny)
			b := r.Log.broker("b")
			_, err := b.Get(context.Background(), 0, []channel.Position{bad.Position}, nil)
			var gap *channel.GapError
			if !errors.As(err, &gap) {
				t.Fatalf("crash %d: get of a damaged event: %v", i, err)
			}
			time.Sleep(10 * time.Second)
			if gaps, names := b.Gaps(), damagedFiles(t, r.dir); len(gaps) != 1 || gaps[0].Lost != 1 || len(names) != 1 {
				t.Fatalf("crash %d: gaps %+v, set aside %v", i, gaps, names)
			}
			got, err := contents(b)
			if err != nil {
				t.Fatalf("crash %d: %v", i, err)
			}
			for id := range waiting {
				if _, ok := got[id]; !ok {
					t.Fatalf("crash %d: %s is lost", i, id)
				}
			}
			r.stop()
		}
	})
}

func TestOnlyTheNewestTornTailsAreKept(t *testing.T) {
	im, all := crashed(t, 5, 2, 40)
	name := im.names(segmentSuffix)[0]
	dir := im.with(name, func(b []byte) []byte {
		b[used(b)] = 1
		return b
	}).write(t)
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016d-%d.torn", 0, 100+i*7)), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if loud, silent := verify(t, dir, tiny, all, 40); loud != nil || silent != nil {
		t.Fatalf("loud %v, silent %v", loud, silent)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.torn"))
	if err != nil || len(left) != tornKept {
		t.Fatalf("%d torn tails are left, error %v", len(left), err)
	}
	if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%016d-%d.torn", 1, used(im[name])))); err != nil {
		t.Errorf("the newest is gone: %v", err)
	}
}

func TestTheListOfGapsIsBounded(t *testing.T) {
	var gaps []channel.Gap
	for i := range 3000 {
		gaps = addGap(gaps, channel.Gap{Shard: channel.ShardID(i % 3), From: channel.Position(i*10 + 1), To: channel.Position(i*10 + 2), Lost: 1})
		if i%100 == 0 {
			gaps = foldGaps(gaps)
		}
	}
	gaps = foldGaps(gaps)
	lost := uint64(0)
	for _, g := range gaps {
		lost += g.Lost
	}
	if len(gaps) != channel.MaxGaps || lost != 3000 {
		t.Errorf("%d gaps of %d events", len(gaps), lost)
	}
	gaps = addGap(nil, channel.Gap{From: 5, To: 7, Lost: 2})
	for range 2 {
		gaps = addGap(gaps, channel.Gap{From: 6, To: 9, Lost: 3})
	}
	if len(gaps) != 1 || gaps[0].From != 5 || gaps[0].To != 9 || gaps[0].Lost != 4 {
		t.Errorf("%+v", gaps)
	}
}

// A move of some mebibytes is many commits, and rolls on its way.
func TestALargeMoveLetsAppendsPassAndGoesOverSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 1000
		r := start(t, t.TempDir(), Options{FS: quickFS{}, SegmentSize: 4 << 20, TailBytes: 1})
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 100, 70, size) // not scanned: all of it is kept
		bad := channel.ID{Position: 500}
		spoil(t, r, b, bad)
		r.suspect(1, errors.New("the scrubber says so"))
		for i := range 40 {
			time.Sleep(100 * time.Millisecond)
			name := fmt.Sprint("beside-", i)
			all[r.append("b", size, name)[0]] = name
		}
		delete(all, bad)
		s := b.(*broker).shards[0]
		if segments := len(s.runs); segments < 2 || len(damagedFiles(t, r.dir)) != 1 {
			t.Fatalf("%d runs, %v set aside", segments, damagedFiles(t, r.dir))
		}
		for range 2 {
			got, err := contents(r.Log.broker("b"))
			var gap *channel.GapError
			if !errors.As(err, &gap) || gap.From != bad.Position || len(got) != len(all) {
				t.Fatalf("%d of %d events, error %v", len(got), len(all), err)
			}
			for id, e := range got {
				if all[id] != e.ID() || string(e.Raw()) != string(made(t, e.ID(), size).Raw()) {
					t.Fatalf("%s is not as it was appended", id)
				}
			}
			dir := r.crash()
			r.stop()
			r = start(t, dir, Options{FS: quickFS{}, SegmentSize: 4 << 20, TailBytes: 1})
		}
		r.stop()
	})
}

// Each gap that is added is held against those that are listed: there must
// never be more of these than the bound, or all appends wait.
func TestManyGapsAreDeclaredInTimeThatGrowsWithThem(t *testing.T) {
	takes := func(gaps uint64) time.Duration {
		least := time.Hour
		for range 3 {
			s := &stream{kind: kindEvent, broker: new(broker)}
			s.broker.shards = []*stream{s}
			d := declaration{stream: s, lost: roaring64.New()}
			for p := range gaps {
				d.lost.Add(2*p + 1)
			}
			began := time.Now()
			d.apply()
			least = min(least, time.Since(began))
		}
		return least
	}
	// Sixteen times as many: 16 times as long, or 256 times if each looked at all
	// the others. A machine that is busy with something else gets more chances.
	var few, many time.Duration
	for range 5 {
		if few, many = takes(10_000), takes(160_000); many <= 64*few {
			return
		}
	}
	t.Errorf("10,000 gaps take %v, 160,000 take %v", few, many)
}

func TestWhatAReaderWasToldOfTheActiveSegmentIsDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		fill(r, 10, 1, 1000)
		off := int64(b.(*broker).shards[0].offsets[4]) * frameAlign
		spoilFile(t, segmentName(r.dir, 1), off+frameHeader+40)
		if _, err := contents(b); err == nil {
			t.Fatal("no gap")
		}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: 11}}); err != nil {
			t.Fatal(err)
		}
		fill(r, 100, 1, 1000)
		time.Sleep(20 * time.Second)
		if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].From != 5 {
			t.Errorf("gaps %+v", gaps)
		}
		r.stop()
	})
}

// draggingFS takes its time for each read.

// draggingFS takes its time for each read.
type draggingFS struct {
	quickFS
	takes *atomic.Int64
}

type draggingFile struct {
	File
	fs draggingFS
}

func (f draggingFile) ReadAt(b []byte, off int64) (int, error) {
	time.Sleep(time.Duration(f.fs.takes.Load()))
	return f.File.ReadAt(b, off)
}

func (fs draggingFS) Open(name string) (File, error) {
	f, err := fs.quickFS.Open(name)
	if err != nil {
		return nil, err
	}
	return draggingFile{f, fs}, nil
}

// Housekeeping that reads a whole segment must not keep progress from being
// written within its 100 ms.
func TestProgressIsDurableInTimeWhileASegmentIsExamined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := draggingFS{takes: new(atomic.Int64)}
		o := Options{FS: fs, SegmentSize: 4 << 20, TailBytes: 1, ScrubRate: -1}
		dir := t.TempDir()
		r := start(t, dir, o)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		fill(r, 100, 1, 100_000)
		r.stop()
		r = start(t, dir, o)
		b := r.Log.broker("b")
		fs.takes.Store(int64(10 * time.Millisecond)) // per 128 KiB: 80 ms a mebibyte
		r.suspect(1, errors.New("the scrubber says so"))
		late := 0
		for i := range 60 {
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: channel.Position(i + 2)}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(95 * time.Millisecond)
			fs.takes.Store(0)
			r := start(t, r.crash(), tiny)
			if got := r.Log.broker("b").Progress(0).Scanned; got != channel.Position(i+2) {
				late++
			}
			r.stop()
			fs.takes.Store(int64(10 * time.Millisecond))
		}
		if late > 3 { // what falls due in the same instant may go either way
			t.Errorf("progress was late %d times of 60", late)
		}
	})
}
