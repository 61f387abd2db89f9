package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/test/proof"
)

// repaired opens a store with Options.Repair, as doctor does, and closes it.
func repaired(t testing.TB, dir string) []string {
	t.Helper()
	o := tiny
	o.Repair = true
	r := start(t, dir, o)
	done := r.Repaired()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	return done
}

// told are the positions of shard 0 that are listed as lost.
func told(b channel.BrokerLog) *roaring64.Bitmap {
	lost := roaring64.New()
	for _, g := range b.Gaps() {
		if !g.Dead {
			lost.AddRange(uint64(g.From), uint64(g.To))
		}
	}
	return lost
}

// wantRestButTold reads everything: what is not there must be listed as lost
// or be reported by the read. What is cut off the end of the log leaves no
// trace but in the checkpoint, and none here.
func wantRestButTold(t testing.TB, b channel.BrokerLog, all acked, size int) (missing int) {
	t.Helper()
	got, err := contents(b)
	_, next := b.Range(0)
	lost := told(b)
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range several.Unwrap() {
			if gap, ok := errors.AsType[*channel.GapError](one); ok {
				lost.AddRange(uint64(gap.From), uint64(gap.To))
			}
		}
	}
	for id, e := range got {
		if string(e.Raw()) != string(made(t, all[id], size).Raw()) {
			t.Fatalf("%s is altered", id)
		}
	}
	for id := range all {
		if _, ok := got[id]; !ok && id.Position < next {
			if missing++; !lost.Contains(uint64(id.Position)) {
				t.Errorf("%s is not there, and not listed as lost: %v", id, err)
			}
		}
	}
	return missing
}

func TestMissingSegmentIsRefusedAndRepairDeclaresItsEventsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		waiting := slowTrigger(r, b, 200, 1000, 10)
		unscanned := make(acked)
		for i := range 100 {
			name := fmt.Sprint("unscanned-", i)
			unscanned[r.append("b", 1000, name)[0]] = name
		}
		owed := roaring64.New()
		for id := range waiting {
			owed.Add(uint64(id.Position))
		}
		for id := range unscanned {
			owed.Add(uint64(id.Position))
		}
		lost := roaring64.New()
		for _, g := range []*segment{r.segments[1], r.segments[len(r.segments)-1]} {
			in := roaring64.New()
			in.AddRange(uint64(g.entries[0].first), uint64(g.entries[0].last())+1)
			in.And(owed)
			lost.Or(in)
			defer os.Remove(segmentName(r.dir, g.number))
		}
		gone := []string{segmentName(r.dir, r.segments[1].number), segmentName(r.dir, r.segments[len(r.segments)-1].number)}
		r.stop()
		for _, name := range gone {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(r.dir, tiny)
		if err == nil || !strings.Contains(err.Error(), "penstock doctor --repair") {
			t.Fatalf("open: %v", err)
		}
		done := repaired(t, r.dir)
		if len(done) < 3 {
			t.Errorf("repaired: %q", done)
		}
		r = start(t, r.dir, tiny)
		b = r.Log.broker("b")
		if got := told(b); !got.Equals(lost) {
			t.Errorf("lost are %v, want %v", got, lost)
		}
		for it := owed.Iterator(); it.HasNext(); {
			pos := channel.Position(it.Next())
			records, err := b.Get(t.Context(), 0, []channel.Position{pos}, nil)
			var gap *channel.GapError
			if isLost := errors.As(err, &gap) && gap.Lost; isLost != lost.Contains(uint64(pos)) || isLost == (len(records) == 1) {
				t.Fatalf("position %d: %d records, error %v", pos, len(records), err)
			}
		}
		r.stop()
		if done := repaired(t, r.dir); len(done) > 0 {
			t.Errorf("a good store was repaired: %q", done)
		}
	})
}

func TestDamagedTailIsRefusedAndRepairTakesWhatIsBehindIt(t *testing.T) {
	im, all := crashed(t, 30, 1, 900)
	name := im.names(segmentSuffix)[0]
	second := channel.ID{Shard: 0, Position: 2}
	raw := made(t, all[second], 900).Raw()
	at := bytes.Index(im[name], raw)
	if at < 0 {
		t.Fatal("the event is not in the tail")
	}
	dir := im.with(name, func(b []byte) []byte { b[at+20] ^= 1; return b }).write(t)
	if _, err := Open(dir, tiny); !errors.As(err, new(*CorruptError)) {
		t.Fatalf("open: %v", err)
	}
	if done := repaired(t, dir); len(done) == 0 {
		t.Error("nothing was repaired")
	}
	for range 2 {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, dir, tiny)
			b := r.Log.broker("b")
			if gaps := b.Gaps(); len(gaps) != 1 || gaps[0].Shard != second.Shard || gaps[0].From != second.Position || gaps[0].Lost != 1 {
				t.Fatalf("gaps %+v", gaps)
			}
			got, _ := contents(b)
			if len(got) != len(all)-1 {
				t.Fatalf("%d of %d events", len(got), len(all))
			}
			more := r.append("b", 900, "on")[0]
			all[more] = "on"
			time.Sleep(10 * time.Second)
			if n := len(damagedFiles(t, dir)); n != 1 {
				t.Fatalf("%d files are set aside: the damaged bytes are evidence", n)
			}
			r.stop()
		})
	}
}

// The process died between the footer of a segment and the next segment, and the
// last event before the footer is damaged. Its position is taken all the same: an
// event that got it again would be acknowledged and never read.
func TestRepairOfARollCutShortGivesNoPositionTwice(t *testing.T) {
	im, all := crashed(t, 90, 1, 900)
	segments, checkpoints := im.names(segmentSuffix), im.names(checkpointSuffix)
	if len(segments) != 2 || len(checkpoints) != 2 {
		t.Fatalf("%d segments and %d checkpoints", len(segments), len(checkpoints))
	}
	im = im.without(segments[1]).without(checkpoints[1])
	var last channel.ID
	for id, name := range all {
		if !bytes.Contains(im[segments[0]], made(t, name, 900).Raw()) {
			delete(all, id)
		} else if id.Shard == last.Shard && id.Position > last.Position {
			last = id
		}
	}
	at := bytes.Index(im[segments[0]], made(t, all[last], 900).Raw())
	dir := im.with(segments[0], func(b []byte) []byte { b[at+20] ^= 1; return b }).write(t)
	if _, err := Open(dir, tiny); !errors.As(err, new(*CorruptError)) {
		t.Fatalf("open: %v", err)
	}
	if done := repaired(t, dir); len(done) == 0 {
		t.Error("nothing was repaired")
	}
	for n := range 2 {
		r := start(t, dir, tiny)
		for i := range 4 { // some of them to each shard
			name := fmt.Sprint("on", n, i)
			id := r.append("b", 900, name)[0]
			if all[id] != "" {
				t.Errorf("%s is given to %s and to %s", id, all[id], name)
			}
			all[id] = name
		}
		got, err := contents(r.Log.broker("b"))
		for id, name := range all {
			if e, ok := got[id]; id != last && (!ok || e.ID() != name) {
				t.Errorf("%s, acknowledged as %s, cannot be read", name, id)
			}
		}
		var gap *channel.GapError
		if lost := told(r.Log.broker("b")).Contains(uint64(last.Position)); !lost && (!errors.As(err, &gap) || gap.Shard != last.Shard || gap.From != last.Position) {
			t.Errorf("%s is damaged, and reading says %v", last, err)
		}
		r.stop()
	}
}

// A change of progress that is gone may have named events as pending; one
// behind it says that all below is either pending or settled.
func TestRepairOffersEventsAgainRatherThanToMissOne(t *testing.T) {
	var im image
	var owed []channel.Position
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		for i := range 10 {
			id := r.append("b", 500, fmt.Sprint(i))[0]
			change := channel.ShardProgress{Scanned: id.Position + 1, Lanes: []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(uint64(id.Position))}}}
			if err := b.SaveProgress(t.Context(), []channel.ShardProgress{change}); err != nil {
				t.Fatal(err)
			}
			owed = append(owed, id.Position)
			time.Sleep(time.Second)
		}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Lanes: []channel.LaneProgress{{Trigger: "t", Settled: roaring64.BitmapOf(1, 2)}}}}); err != nil {
			t.Fatal(err)
		}
		owed = owed[2:]
		time.Sleep(time.Second)
		im = read(t, r.dir)
		r.stop()
	})
	name := im.names(segmentSuffix)[0]
	frames := 0
	for at := segmentHeader; at < len(im[name]); at += frameAlign {
		if kind(im[name][at+4]) != kindProgress || !bytes.HasPrefix(im[name][at:], []byte{0xE3, 0xC1, 0xA7, 0xF5}) {
			continue
		}
		frames++
		dir := im.with(name, func(b []byte) []byte { b[at+frameHeader] ^= 1; return b }).write(t)
		done := repaired(t, dir)
		r := start(t, dir, tiny)
		p := r.Log.broker("b").Progress(0)
		pending := roaring64.New()
		for _, lane := range p.Lanes {
			pending.Or(lane.Added)
		}
		for _, pos := range owed {
			if pos < p.Scanned && !pending.Contains(uint64(pos)) {
				t.Errorf("without the progress at %d: %d is neither pending nor offered again; %q", at, pos, done)
			}
		}
		r.stop()
	}
	if frames < 10 {
		t.Errorf("%d changes of progress were found", frames)
	}
}

// Any damage at all but to the checkpoints: after a repair the log opens, and
// what was acknowledged is there or listed as lost.
func TestRepairIsNeverSilent(t *testing.T) {
	im, all := crashedUnscanned(t)
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 400) {
		rng := proof.Rand(seed, n)
		changed, what := im, ""
		for range 1 + rng.IntN(3) {
			changed, what = spoilt(changed, rng, what)
		}
		dir := changed.write(t)
		done := repaired(t, dir)
		for range 2 {
			r := start(t, dir, tiny)
			func() {
				defer func() {
					if t.Failed() {
						t.Logf("%s; repaired: %q", what, done)
					}
				}()
				wantRestButTold(t, r.Log.broker("b"), all, 900)
			}()
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		}
		os.RemoveAll(dir)
	}
}

func crashedUnscanned(t *testing.T) (image, acked) {
	var im image
	var all acked
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.MaxBytes = 1 << 30
		r := start(t, t.TempDir(), o)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all = fill(r, 150, 1, 900)
		old := read(t, r.dir)
		more := fill(r, 60, 1, 900)
		for id, name := range more {
			all[id] = name
		}
		time.Sleep(time.Second)
		im = read(t, r.dir)
		// Checkpoints of some time ago: a tail of several segments.
		for _, name := range im.names(checkpointSuffix) {
			im = im.without(name)
		}
		for _, name := range old.names(checkpointSuffix) {
			im[name] = old[name]
		}
		r.stop()
	})
	return im, all
}

// spoilt damages a segment in one way or another.
func spoilt(im image, rng *rand.Rand, what string) (image, string) {
	names := im.names(segmentSuffix)
	name := names[rng.IntN(len(names))]
	size := max(1, used(im[name]))
	at := rng.IntN(size)
	switch rng.IntN(5) {
	case 0, 1:
		return im.with(name, func(b []byte) []byte { b[at] ^= 1 << rng.IntN(8); return b }), fmt.Sprintf("%s flip %s:%d", what, name, at)
	case 2:
		return im.with(name, func(b []byte) []byte { clear(b[at:min(len(b), at+512)]); return b }), fmt.Sprintf("%s zero %s:%d", what, name, at)
	case 3:
		return im.with(name, func(b []byte) []byte { return b[:at] }), fmt.Sprintf("%s cut %s:%d", what, name, at)
	default:
		if len(names) == 1 {
			return im, what
		}
		return im.without(name), fmt.Sprintf("%s remove %s", what, name)
	}
}

func TestRepairGoesOnWithoutTheLastSegmentOrItsHeader(t *testing.T) {
	for _, what := range []string{"missing", "header"} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, t.TempDir(), tiny)
				b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
				all := fill(r, 100, 1, 900)
				for i := range 3 {
					id := channel.ID{Position: channel.Position(i + 1)}
					if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: id, Trigger: "t", Event: made(t, fmt.Sprint(i), 900)}}); err != nil {
						t.Fatal(err)
					}
				}
				name := segmentName(r.dir, r.active.number)
				in := uint64(len(b.(*broker).shards[0].offsets))
				r.stop()
				if what == "missing" {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				} else {
					spoilFile(t, name, 20)
				}
				if _, err := Open(r.dir, tiny); !errors.As(err, new(*CorruptError)) {
					t.Fatalf("open: %v", err)
				}
				if done := repaired(t, r.dir); len(done) == 0 {
					t.Error("nothing was repaired")
				}
				r = start(t, r.dir, tiny)
				b = r.Log.broker("b")
				missing, dead := wantRestButTold(t, b, all, 900), b.DeadCount("t")
				if what == "missing" && (uint64(missing) != in || dead != 0 || told(b).GetCardinality() != in) {
					t.Errorf("%d events are missing and %d dead letters left, want %d and 0", missing, dead, in)
				}
				if what == "header" && (missing != 0 || dead != 3 || len(b.Gaps()) > 0) {
					t.Errorf("%d events are missing, %d dead letters left, gaps %+v", missing, dead, b.Gaps())
				}
				id := r.append("b", 900, "on")[0]
				if id.Position != 101 {
					t.Errorf("the next event is %s: positions are never given twice", id)
				}
				r.stop()
			})
		})
	}
}

func TestRepairListsDeadLettersThatAreGone(t *testing.T) {
	var im image
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		for i := range 5 {
			id := r.append("b", 100, fmt.Sprint(i))[0]
			if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: id, Trigger: "t", Reason: fmt.Sprint("reason-", i), Event: made(t, fmt.Sprint(i), 100)}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		im = read(t, r.dir)
		r.stop()
	})
	name := im.names(segmentSuffix)[0]
	at := bytes.Index(im[name], []byte("reason-2"))
	dir := im.with(name, func(b []byte) []byte { b[at] ^= 1; return b }).write(t)
	repaired(t, dir)
	r := start(t, dir, tiny)
	b := r.Log.broker("b")
	letters, _, err := b.Dead(t.Context(), "t", "", 10)
	if err != nil || len(letters) != 4 {
		t.Fatalf("%d letters, error %v", len(letters), err)
	}
	if gaps := b.Gaps(); len(gaps) != 1 || !gaps[0].Dead || gaps[0].From != 3 || gaps[0].Lost != 1 {
		t.Errorf("gaps %+v", gaps)
	}
}

// The footer of a segment is good, its last frames are not: their positions
// are never given again.
func TestRepairNeverGivesThePositionsOfLostFramesAgain(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	r.broker(channel.BrokerInfo{UID: "c", Shards: 1})
	fill(r, 20, 1, 1000)
	for i := range 4 {
		id := channel.ID{Position: channel.Position(i + 1)}
		if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: id, Trigger: "t", Event: made(t, fmt.Sprint(i), 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; r.active.number == 1; i++ {
		r.append("c", 1000, fmt.Sprint(i))
	}
	spoil(t, r, b, channel.ID{Position: 20})
	s := b.(*broker).dead
	p, _, err := r.plan(s, 4, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	spoilFile(t, segmentName(r.dir, 1), int64(p.offsets[0])*frameAlign+frameHeader+40)
	p.close()
	im := read(t, r.dir)
	names := im.names(checkpointSuffix)
	dir := im.without(names[len(names)-1]).write(t)
	r.stop()
	repaired(t, dir)
	r = start(t, dir, tiny)
	id := r.append("b", 1000, "new")[0]
	if id.Position != 21 {
		t.Errorf("a new event is %s", id)
	}
	if n := r.Log.broker("b").DeadCount("t"); n != 3 {
		t.Errorf("%d dead letters", n)
	}
	r.stop()
	r = start(t, dir, tiny)
	if got, err := r.Log.broker("b").Get(t.Context(), 0, []channel.Position{id.Position}, nil); err != nil || len(got) != 1 || got[0].Event.ID() != "new" {
		t.Errorf("the new event is gone: %v", err)
	}
	var gap *channel.GapError
	if _, err := contents(r.Log.broker("b")); !errors.As(err, &gap) || gap.From != 20 {
		t.Errorf("reading: %v", err)
	}
}
