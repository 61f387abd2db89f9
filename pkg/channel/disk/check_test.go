package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/proof"
)

// checked is a check that must come to its end.
func checked(t testing.TB, dir string) Report {
	t.Helper()
	r, err := Check(context.Background(), dir, CheckOptions{FS: quickFS{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Subject == "" || f.What == "" || strings.Contains(f.What+f.Means+f.Cure, "\n") {
			t.Errorf("a finding of one line each is %+v", f)
		}
		if f.Severity == channel.Problem && (f.Means == "" || f.Cure == "") {
			t.Errorf("a problem without meaning or cure: %+v", f)
		}
	}
	return r
}

// says finds what a report says so severely with all these words.
func says(r Report, s channel.Severity, words ...string) bool {
	for _, f := range r.Findings {
		text := strings.Join([]string{f.Subject, f.What, f.Means, f.Cure}, "\n")
		all := f.Severity == s
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			return true
		}
	}
	return false
}

// lived is a store with some life behind it, closed in order: sealed
// segments, routes, events pending, settled, dead, and dead and discarded.
func lived(t testing.TB) (image, acked) {
	t.Helper()
	r := start(t, t.TempDir(), tiny)
	b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 2})
	for i := range 3 {
		if _, err := b.SetRoutes(context.Background(), channel.Routes{Set: []channel.Route{{Trigger: "t", Name: "n/t", Filter: fmt.Appendf(nil, `{"n":%d}`, i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	all := fill(r, 120, 2, 400)
	var dead channel.ID
	for dead = range all {
		break
	}
	if err := b.AppendDead(context.Background(), []channel.DeadLetter{{ID: dead, Trigger: "t", TriggerName: "n/t", Reason: "status 404", Attempts: 1, Event: made(t, all[dead], 400)}}); err != nil {
		t.Fatal(err)
	}
	bury(t, b, "t", 3)
	if n, err := b.DiscardDead(context.Background(), []uint64{2, 3, 4}); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	pending := roaring64.New()
	pending.AddRange(1, 61)
	if err := b.SaveProgress(context.Background(), []channel.ShardProgress{{Shard: 0, Scanned: 61, Lanes: []channel.LaneProgress{{Trigger: "t", Added: pending}}}}); err != nil {
		t.Fatal(err)
	}
	for id, name := range fill(r, 60, 2, 400) {
		all[id] = name
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	return read(t, r.dir), all
}

func TestCheckOfAGoodStoreFindsNothingAndWritesNothing(t *testing.T) {
	im, all := lived(t)
	dir := im.write(t)
	if err := os.WriteFile(filepath.Join(dir, "LOCK"), []byte("4711\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var done, total int64
	r, err := Check(t.Context(), dir, CheckOptions{Progress: func(d, all int64) {
		if d < done {
			t.Errorf("progress goes back from %d to %d", done, d)
		}
		done, total = d, all
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity != channel.OK {
			t.Errorf("a good store has %+v", f)
		}
	}
	if r.Events != uint64(len(all)) || r.Dead != 1 || r.Pending == 0 || len(r.Brokers) != 1 || r.Brokers[0].Name != "n/b" {
		t.Errorf("report %+v, want %d events", r, len(all))
	}
	if total == 0 || done < total*9/10 {
		t.Errorf("progress ends at %d of %d", done, total)
	}
	if after := read(t, dir); !maps.EqualFunc(after, im, bytes.Equal) {
		t.Error("the store has changed")
	}
	if lock, err := os.ReadFile(filepath.Join(dir, "LOCK")); err != nil || string(lock) != "4711\n" {
		t.Errorf("LOCK is %q now: %v", lock, err)
	}
}

func TestCheckSaysWhichEventADamagedByteCosts(t *testing.T) {
	im, _ := lived(t)
	name := im.names(segmentSuffix)[0]
	pos, shard, off := eventAt(t, im[name], 30)
	dir := im.with(name, func(b []byte) []byte { b[off+frameHeader+20] ^= 1; return b }).write(t)
	r := checked(t, dir)
	id := channel.ID{Shard: shard, Position: pos}.String()
	if !says(r, channel.Problem, "segment 1", filepath.Join(dir, name), fmt.Sprintf("at offset %d", off), "checksum", "1 event of broker n/b", "("+id+")", "not delivered yet: lost") {
		t.Errorf("event %s at %d: %+v", id, off, r.Findings)
	}
}

// eventAt is the first event frame of a segment after a fraction (percent) of it.
func eventAt(t *testing.T, b []byte, percent int) (pos channel.Position, shard channel.ShardID, off int64) {
	t.Helper()
	for off := int64(len(b)*percent/100) &^ 7; off < int64(len(b))-frameHeader; off += 8 {
		if binary.LittleEndian.Uint32(b[off:]) == frameMagic && kind(b[off+4]) == kindEvent {
			return channel.Position(binary.LittleEndian.Uint64(b[off+16:])), channel.ShardID(binary.LittleEndian.Uint32(b[off+12:]) - 1), off
		}
	}
	t.Fatal("no event there")
	return
}

func TestCheckTellsDeliveredFromLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 1, Retention: time.Hour, RetentionBytes: 1 << 30})
		all := fill(r, 200, 2, 400)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: channel.Position(len(all) + 1)}}); err != nil {
			t.Fatal(err)
		}
		r.stop()
		im := read(t, r.dir)
		name := im.names(segmentSuffix)[0]
		_, _, off := eventAt(t, im[name], 30)
		found := checked(t, im.with(name, func(b []byte) []byte { b[off+frameHeader+20] ^= 1; return b }).write(t))
		if !says(found, channel.Problem, "1 event of broker n/b", "all of them delivered before") {
			t.Errorf("%+v", found.Findings)
		}
	})
}

func TestCheckNamesWhatIsWrongWithTheFiles(t *testing.T) {
	im, _ := lived(t)
	checkpoints, segments := im.names(checkpointSuffix), im.names(segmentSuffix)
	last := segments[len(segments)-1]
	flipped := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	newer := func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[8:], formatVersion+7)
		binary.LittleEndian.PutUint32(b[12:], sumOf(b))
		return b
	}
	extra := func(name, text string) image { return im.with(name, func([]byte) []byte { return []byte(text) }) }
	for what, c := range map[string]struct {
		im       image
		severity channel.Severity
		words    []string
	}{
		"newest checkpoint damaged": {im.with(checkpoints[1], flipped), channel.Warning, []string{checkpoints[1], "checksum", "nothing is missing"}},
		"older checkpoint damaged":  {im.with(checkpoints[0], flipped), channel.Warning, []string{checkpoints[0], "nothing is missing"}},
		"both damaged":              {im.with(checkpoints[0], flipped).with(checkpoints[1], flipped), channel.Problem, []string{"none can be read", "backup"}},
		"none there":                {im.without(checkpoints[0]).without(checkpoints[1]), channel.Problem, []string{"no checkpoint", "backup"}},
		"newer format":              {im.with(checkpoints[1], newer), channel.Problem, []string{fmt.Sprintf("format version %d", formatVersion+7), "newer Penstock"}},
		"segment missing":           {im.without(segments[0]), channel.Problem, []string{segments[0], "missing", "put the file back"}},
		"last segment missing":      {im.without(last), channel.Problem, []string{last, "missing"}},
		"tail damaged": {im.with(last, func(b []byte) []byte { b[segmentHeader+8] ^= 1; return b }), channel.Problem,
			[]string{last, fmt.Sprintf("at offset %d", segmentHeader), "behind the damage can still be read", "--repair"}},
		"foreign file":         {extra("notes.txt", "x"), channel.Note, []string{"notes.txt"}},
		"short number":         {extra("17.log", "x"), channel.Note, []string{"17.log"}},
		"torn file":            {extra("0000000000000001-64.torn", "x"), channel.Note, []string{"1-64.torn", "never acknowledged"}},
		"quarantined file":     {extra("0000000000000001.damaged", "x"), channel.Warning, []string{"1.damaged", "taken over"}},
		"a segment cut":        {im.with(segments[0], func(b []byte) []byte { return b[:len(b)/2] }), channel.Problem, []string{"broker n/b", "pending", "in no segment"}},
		"bytes after a footer": {im.with(segments[0], func(b []byte) []byte { return append(b, 7) }), channel.Warning, []string{segments[0], "no event is lost"}},
		"a segment emptied":    {im.with(segments[0], func([]byte) []byte { return nil }), channel.Problem, []string{segments[0]}},
		"a segment replaced":   {im.with(segments[0], func([]byte) []byte { return im[segments[1]] }), channel.Problem, []string{segments[0]}},
	} {
		r := checked(t, c.im.write(t))
		if !says(r, c.severity, c.words...) {
			t.Errorf("%s: %+v", what, r.Findings)
		}
		if worst := channel.Worst(r.Findings); worst != c.severity {
			t.Errorf("%s: the worst is %v, want %v: %+v", what, worst, c.severity, r.Findings)
		}
	}
}

func TestCheckNotesATornTail(t *testing.T) {
	im, all := crashed(t, 5, 2, 40)
	name := im.names(segmentSuffix)[0]
	end := used(im[name])
	dir := im.with(name, func(b []byte) []byte { copy(b[end:], "half a frame"); return b }).write(t)
	r := checked(t, dir)
	if !says(r, channel.Note, "cut short", name, fmt.Sprint(end), "never acknowledged") || channel.Worst(r.Findings) != channel.Note || r.Events != uint64(len(all)) {
		t.Errorf("%+v", r)
	}
	if torn, _ := filepath.Glob(filepath.Join(dir, "*.torn")); len(torn) > 0 {
		t.Errorf("the check has set aside %v", torn)
	}
}

func TestCheckLeavesAStoreInUseAlone(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	_, err := Check(t.Context(), r.dir, CheckOptions{})
	if locked, ok := errors.AsType[*LockedError](err); !ok || locked.Holder != fmt.Sprint(os.Getpid()) {
		t.Errorf("check of a store in use: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	once := false
	if _, err := Check(t.Context(), r.dir, CheckOptions{Progress: func(int64, int64) {
		if once {
			return
		}
		once = true
		if _, err := Open(r.dir, tiny); err == nil {
			t.Error("the store was opened in the middle of a check")
		}
		if _, err := Check(t.Context(), r.dir, CheckOptions{}); err != nil {
			t.Errorf("two cannot look at once: %v", err)
		}
	}}); err != nil {
		t.Fatal(err)
	}
}

func TestCheckOfNoStoreIsAnErrorAndOfANewOneIsNot(t *testing.T) {
	if _, err := Check(t.Context(), filepath.Join(t.TempDir(), "none"), CheckOptions{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	r := checked(t, t.TempDir())
	if channel.Worst(r.Findings) != channel.OK || !says(r, channel.OK, "nothing has been stored") {
		t.Errorf("an empty folder: %+v", r.Findings)
	}
}

func TestCheckEndsWithItsContext(t *testing.T) {
	im, _ := lived(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Check(ctx, im.write(t), CheckOptions{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a check that was called off: %v", err)
	}
}

// agree holds a check of a damaged store to what opening and reading it
// gives: where Check finds no problem there is none.
func agree(t testing.TB, changed image, all acked, size int) (worst channel.Severity) {
	t.Helper()
	dir := changed.write(t)
	defer os.RemoveAll(dir)
	r := checked(t, dir)
	if after := read(t, dir); !maps.EqualFunc(after, changed, bytes.Equal) {
		t.Fatal("the check has changed the store")
	}
	worst = channel.Worst(r.Findings)
	loud, silent := verify(t, dir, tiny, all, size)
	if silent != nil {
		t.Fatalf("silent: %v", silent)
	}
	if loud != nil && worst < channel.Problem {
		t.Fatalf("opening or reading says %v, the check says %+v", loud, r.Findings)
	}
	return worst
}

func TestCheckTakesARemovedBrokersEventsForNoDamage(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "gone", Shards: 1})
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	r.append("gone", 100, "one", "two")
	if err := r.Remove(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	fill(r, 100, 1, 900)
	if len(r.segments) == 0 {
		t.Fatal("no segment was sealed")
	}
	r.stop()
	report, err := Check(t.Context(), r.dir, CheckOptions{FS: tiny.FS})
	if err != nil || channel.Worst(report.Findings) >= channel.Warning {
		t.Errorf("%+v, error %v", report.Findings, err)
	}
}

func TestCheckAndOpenAgreeOnAnyDamage(t *testing.T) {
	im, all := lived(t)
	names := append(im.names(segmentSuffix), im.names(checkpointSuffix)...)
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 500) {
		rng := proof.Rand(seed, n)
		name := names[rng.IntN(len(names))]
		at, long := rng.IntN(used(im[name])), 1
		what := rng.IntN(4)
		changed := im.with(name, func(b []byte) []byte {
			switch what {
			case 0: // a run of bytes
				long = min(1+rng.IntN(2000), len(b)-at)
				for i := range long {
					b[at+i] = byte(rng.Uint32())
				}
			case 1: // zeros
				long = min(1+rng.IntN(5000), len(b)-at)
				clear(b[at:][:long])
			case 2: // a cut
				return b[:at]
			default:
				b[at] ^= 1 << rng.IntN(8)
			}
			return b
		})
		same := string(changed[name]) == string(im[name])
		if worst := agree(t, changed, all, 400); !same && worst == channel.OK {
			t.Fatalf("round %d, damage %d of %d bytes at %d of %s: the check finds all well", n, what, long, at, name)
		}
	}
}

// FuzzCheck cuts one file of a store and flips bytes of it. Check never
// panics, misses nothing, and finds no fault where Open and Read find none.
func FuzzCheck(f *testing.F) {
	im, all := lived(f)
	names := append(im.names(segmentSuffix), im.names(checkpointSuffix)...)
	f.Add(uint8(0), uint32(1<<20), uint32(100), byte(1))
	f.Add(uint8(1), uint32(5000), uint32(0), byte(0))
	f.Add(uint8(9), uint32(1<<20), uint32(60), byte(255))
	f.Add(uint8(3), uint32(64), uint32(70), byte(8))
	f.Fuzz(func(t *testing.T, file uint8, length, at uint32, flip byte) {
		name := names[int(file)%len(names)]
		changed := im.with(name, func(b []byte) []byte {
			b = b[:min(len(b), int(length))]
			if len(b) > 0 {
				b[int(at)%len(b)] ^= flip
			}
			return b
		})
		worst := agree(t, changed, all, 400)
		same := string(changed[name]) == string(im[name])
		if active := names[len(im.names(segmentSuffix))-1]; name == active && len(changed[name]) >= used(im[name]) {
			// What was reserved and not written yet may be missing.
			same = string(changed[name]) == string(im[name][:len(changed[name])])
		}
		if same != (worst == channel.OK) {
			t.Fatalf("the file is the same: %v, the check says %v", same, worst)
		}
	})
}

// Events that were moved, into sealed segments and into the active one.
func TestCheckFollowsMovedEvents(t *testing.T) {
	var im image
	var waiting acked
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 1})
		waiting = slowTrigger(r, b, 2000, 1000, 25)
		time.Sleep(time.Minute)
		for id, name := range slowTrigger(r, b, 300, 1000, 25) {
			waiting[id] = name
		}
		time.Sleep(time.Minute)
		im = read(t, r.dir)
		r.stop()
	})
	r := checked(t, im.write(t))
	if worst := channel.Worst(r.Findings); worst != channel.OK || r.Pending != uint64(len(waiting)) || r.Events < r.Pending || r.Events > 300 {
		t.Fatalf("%d events wait: %+v", len(waiting), r)
	}
	moved := 0
	for _, name := range im.names(segmentSuffix) {
		for off := int64(segmentHeader); off < int64(len(im[name]))-frameHeader; off += frameAlign {
			if binary.LittleEndian.Uint32(im[name][off:]) == frameMagic && kind(im[name][off+4]) == kindMoved {
				moved++
			}
		}
	}
	if moved < len(waiting)/2 {
		t.Fatalf("only %d events were moved: this test shows nothing", moved)
	}
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 200) {
		rng := proof.Rand(seed, n)
		names := im.names(segmentSuffix)
		name := names[rng.IntN(len(names))]
		at, bit := rng.IntN(used(im[name])), byte(1)<<rng.IntN(8)
		changed := im.with(name, func(b []byte) []byte { b[at] ^= bit; return b })
		if worst := agree(t, changed, waiting, 1000); worst == channel.OK {
			t.Fatalf("round %d, bit %d at %d of %s: the check finds all well", n, bit, at, name)
		}
	}
}

// cutFS refuses to give some files their name while it is told to.
type cutFS struct {
	quickFS
	suffix string
	err    error
	cut    *atomic.Bool
}

func (f cutFS) Rename(from, to string) error {
	if f.cut.Load() && strings.HasSuffix(to, f.suffix) {
		return f.err
	}
	return f.quickFS.Rename(from, to)
}

// The copies of a move that no checkpoint has recorded are nobody's: what they
// were copied from is there still.
func TestCheckDoesNotMindWhatAMoveThatWasCutShortHasLeftBehind(t *testing.T) {
	var im image
	var waiting acked
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := cutFS{suffix: checkpointSuffix, err: syscall.ENOSPC, cut: new(atomic.Bool)}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 1})
		waiting = slowTrigger(r, b, 500, 1000, 25)
		fs.cut.Store(true)
		time.Sleep(time.Minute)
		for id, name := range slowTrigger(r, b, 100, 1000, 25) {
			waiting[id] = name
		}
		crash := read(t, r.dir).write(t)
		fs.cut.Store(false)
		r.stop()
		again := start(t, crash, tiny) // what was copied is in the tail no longer
		for i := range 150 {
			name := fmt.Sprint("later-", i)
			waiting[again.append("b", 1000, name)[0]] = name
		}
		im = read(t, crash)
		again.stop()
	})
	if r := checked(t, im.write(t)); channel.Worst(r.Findings) > channel.Note {
		t.Fatalf("%d events wait: %+v", len(waiting), r)
	}
	flipped := 0
	for _, name := range im.names(segmentSuffix) {
		b := im[name]
		for off := int64(segmentHeader); off < int64(len(b))-frameHeader; off += frameAlign {
			if binary.LittleEndian.Uint32(b[off:]) != frameMagic || kind(b[off+4]) != kindMoved || name == im.names(segmentSuffix)[len(im.names(segmentSuffix))-1] {
				continue
			}
			flipped++
			changed := im.with(name, func(b []byte) []byte { b[off+frameHeader+9] ^= 1; return b })
			if worst := agree(t, changed, waiting, 1000); worst != channel.Warning {
				t.Fatalf("a copy that does not count, at %d of %s, is damaged: %v", off, name, worst)
			}
		}
	}
	if flipped < 10 {
		t.Errorf("only %d copies of a move that was cut short: this test shows nothing", flipped)
	}
}

func TestCheckDoesNotMindARollThatWasCutShort(t *testing.T) {
	var im image
	var waiting acked
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		fs := cutFS{suffix: segmentSuffix, err: syscall.EIO, cut: new(atomic.Bool)}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 1})
		waiting = slowTrigger(r, b, 1000, 1000, 25)
		time.Sleep(time.Minute) // moved, into the active segment too
		fs.cut.Store(true)
		for i := range 100 {
			id, err := r.Append(t.Context(), "b", []event.Event{made(t, fmt.Sprint("more-", i), 1000)})
			if err != nil {
				break
			}
			waiting[id[0].ID] = fmt.Sprint("more-", i)
		}
		if r.Latched() == nil {
			t.Fatal("no roll was cut short")
		}
		im = read(t, r.dir)
		r.stop()
	})
	if worst := agree(t, im, waiting, 1000); worst > channel.Note {
		t.Errorf("%v: %+v", worst, checked(t, im.write(t)).Findings)
	}
}

// relaid changes a segment and makes its checksums fit again: a fault of the
// program and not of the disk.
func relaid(t *testing.T, store [16]byte, name string, b []byte, off int64, change func(payload []byte, h *frame)) {
	t.Helper()
	number, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	seed := frameSeed(store, number)
	h, ok := parseFrame(b[off:], seed, off)
	if !ok {
		t.Fatalf("no frame at %d", off)
	}
	payload := b[off+frameHeader:][:h.length]
	change(payload, &h)
	h.sum = checksum(payload)
	copy(b[off:], h.append(nil, seed, off))
}

func TestCheckFindsAFooterThatLies(t *testing.T) {
	im, all := lived(t)
	name := im.names(segmentSuffix)[0]
	var store [16]byte
	copy(store[:], im[name][32:48])
	footer := int64(binary.LittleEndian.Uint64(im[name][len(im[name])-trailerSize+8:]))
	swapped := im.with(name, func(b []byte) []byte {
		relaid(t, store, name, b, footer, func(p []byte, _ *frame) {
			entries, err := parseFooter(p, footer)
			if err != nil {
				t.Fatal(err)
			}
			at := entries[0].table - footer - frameHeader
			first := append([]byte(nil), p[at:at+4]...)
			copy(p[at:], p[at+4:at+8])
			copy(p[at+4:], first)
		})
		return b
	})
	if worst := agree(t, swapped, all, 400); worst != channel.Problem {
		t.Errorf("two offsets change places: %v", worst)
	}
	if r := checked(t, swapped.write(t)); !says(r, channel.Problem, "segment 1", "is said to stand here") {
		t.Errorf("%+v", r.Findings)
	}
	_, _, off := eventAt(t, im[name], 50)
	early := im.with(name, func(b []byte) []byte {
		relaid(t, store, name, b, off, func(_ []byte, h *frame) { h.witness = 1 << 40 })
		return b
	})
	if r := checked(t, early.write(t)); !says(r, channel.Problem, "segment 1", "witness lies in the future") {
		t.Errorf("%+v", r.Findings)
	}
}

func TestNothingIsWrittenThroughACheck(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	layer := readOnly{osFS{}}
	f, err := layer.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, wrote := f.WriteAt([]byte("lost"), 0)
	_, made := layer.Create(name + "2")
	for i, err := range []error{wrote, made, f.Truncate(0), f.Allocate(100), layer.Remove(name), layer.Rename(name, name+"2"), layer.MkdirAll(name + "3"), layer.SyncDir(dir)} {
		if !errors.Is(err, errReadOnly) {
			t.Errorf("operation %d: %v", i, err)
		}
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "kept" || f.Sync() != nil || f.Datasync() != nil {
		t.Errorf("%q, %v", b, err)
	}
}
