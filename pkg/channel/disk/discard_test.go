package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// bury stores n dead letters of a trigger, one for each position from 1 on.
func bury(t testing.TB, b channel.BrokerLog, trigger channel.UID, n int) {
	t.Helper()
	for at := range slices.Chunk(slices.Collect(upTo(n)), 50) {
		var letters []channel.DeadLetter
		for _, i := range at {
			letters = append(letters, channel.DeadLetter{
				ID: channel.ID{Position: channel.Position(i)}, Trigger: trigger, TriggerName: "n/" + string(trigger),
				Reason: fmt.Sprintf("status %d", 500+i%3), Died: time.Unix(int64(i), 5), Event: made(t, fmt.Sprint(i), 1000),
			})
		}
		if err := b.AppendDead(context.Background(), letters); err != nil {
			t.Fatal(err)
		}
	}
}

func upTo(n int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 1; i <= n && yield(i); i++ {
		}
	}
}

// settleDead has all that has died in shard 0 be settled: the letters alone
// keep their segments.
func settleDead(t testing.TB, b channel.BrokerLog, trigger channel.UID, n int) {
	t.Helper()
	settled := roaring64.New()
	settled.AddRange(1, uint64(n)+1)
	_, next := b.Range(0)
	change := channel.ShardProgress{Scanned: next, Lanes: []channel.LaneProgress{{Trigger: trigger, Settled: settled}}}
	if err := b.SaveProgress(context.Background(), []channel.ShardProgress{change}); err != nil {
		t.Fatal(err)
	}
}

// wantLetters lists all letters and compares their numbers.
func wantLetters(t testing.TB, b channel.BrokerLog, want []uint64) {
	t.Helper()
	var got []uint64
	for cursor := ""; ; {
		letters, next, err := b.Dead(context.Background(), "", cursor, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range letters {
			if got = append(got, d.Number); uint64(d.ID.Position) != d.Number {
				t.Errorf("letter %d is of %s", d.Number, d.ID)
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d letters are there, want %d", len(got), len(want))
	}
}

func TestDiscardedLettersNoLongerKeepTheirSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "n/b", Shards: 1})
		const n = 2500 // of which a discard needs several frames
		bury(t, b, "t", n)
		settleDead(t, b, "t", n)
		before := b.Stats()
		var discarded []uint64
		for i := range upTo(n) {
			if i != 77 {
				discarded = append(discarded, uint64(i))
			}
		}
		if got, err := b.DiscardDead(t.Context(), discarded); got != n-1 || err != nil {
			t.Fatal(got, err)
		}
		time.Sleep(time.Minute)
		if got := onDisk(t, r.dir); got > 4*minSegmentSize {
			t.Errorf("%d bytes are on the disk for one dead letter", got)
		}
		if after := b.Stats(); after.DeadBytes <= 0 || after.DeadBytes > before.DeadBytes/20 || after.Bytes > before.Bytes/20 {
			t.Errorf("before %+v, after %+v", before, after)
		}
		for range 2 {
			wantLetters(t, r.Log.broker("b"), []uint64{77})
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			report, err := Check(t.Context(), r.dir, CheckOptions{FS: tiny.FS})
			if err != nil || report.Dead != 1 || channel.Worst(report.Findings) > channel.Note {
				t.Errorf("the check says %+v, error %v", report, err)
			}
			r = start(t, r.dir, tiny)
		}
		bury(t, r.Log.broker("b"), "t", 1)
		if letters, _, err := r.Log.broker("b").Dead(t.Context(), "", "", 9); err != nil || len(letters) != 2 || letters[1].Number != n+1 {
			t.Errorf("a new letter after number %d: %+v, error %v", n, letters, err)
		}
		r.stop()
	})
}

// A damaged segment is moved a mebibyte at a time. Half of its letters are
// discarded meanwhile, of which some have been copied.
func TestLetterDiscardedWhileItIsMovedDoesNotComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := tiny
		o.SegmentSize = 3 << 20
		fs := &watchFS{}
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		id := r.append("b", 1000, "of no use")[0]
		const n = 2400
		bury(t, b, "t", n)
		settleDead(t, b, "t", n)
		for i := 0; r.active.number == 1; i++ {
			r.append("b", 1000, fmt.Sprint("rest-", i))
		}
		var odd, even, all []uint64
		for i := range upTo(n) {
			if all = append(all, uint64(i)); i%2 == 1 {
				odd = append(odd, uint64(i))
			} else {
				even = append(even, uint64(i))
			}
		}
		spoil(t, r, b, id)
		r.suspect(1, errors.New("the scrubber says so"))
		var asked, done atomic.Bool
		type moment struct {
			image image
			done  bool
		}
		var moments []moment
		hook := func() {
			m := r.Log.moving // the hook runs where the log commits
			if m == nil && !asked.Load() {
				return
			}
			if m != nil && m.copied > 0 && asked.CompareAndSwap(false, true) {
				go func() {
					if got, err := b.DiscardDead(context.Background(), odd); got != len(odd) || err != nil {
						t.Errorf("%d are discarded, error %v", got, err)
					}
					done.Store(true)
				}()
			}
			was := done.Load() // before the image is made
			moments = append(moments, moment{read(t, r.dir), was})
		}
		fs.hook.Store(&hook)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		fs.hook.Store(nil)
		if !done.Load() || len(damagedFiles(t, r.dir)) != 1 {
			t.Fatalf("discarded %v, set aside %v", done.Load(), damagedFiles(t, r.dir))
		}
		wantLetters(t, b, even)
		if gaps := b.Gaps(); len(gaps) != 0 {
			t.Errorf("gaps %+v", gaps)
		}
		r.stop()
		r = start(t, r.dir, o)
		wantLetters(t, r.Log.broker("b"), even)
		r.stop()
		within := 0
		for i, m := range moments {
			dir := m.image.write(t)
			l, err := Open(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			again := serve(t, l)
			// What was under way may be there in part, each frame of it whole.
			left := l.broker("b").DeadCount("")
			if m.done && left != uint64(len(even)) || left < uint64(len(even)) || left > n {
				t.Fatalf("image %d: %d letters, discarded: %v", i, left, m.done)
			}
			switch left {
			case n:
				wantLetters(t, l.broker("b"), all)
			case uint64(len(even)):
				wantLetters(t, l.broker("b"), even)
			default:
				within++
			}
			again.stop()
			os.RemoveAll(dir)
		}
		if len(moments) < 10 {
			t.Errorf("only %d moments were looked at", len(moments))
		}
		t.Logf("%d moments, %d between two frames of the discard", len(moments), within)
	})
}

func TestLetterThatIsDiscardedAndDamagedIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		bury(t, b, "t", 200)
		segment := spoilLetter(t, r, b, 7)
		if n, err := b.DiscardDead(t.Context(), []uint64{7}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		r.suspect(segment, errors.New("the scrubber says so"))
		time.Sleep(5 * time.Second)
		if gaps := b.Gaps(); len(gaps) != 0 || len(damagedFiles(t, r.dir)) != 1 {
			t.Errorf("gaps %+v, set aside %v", gaps, damagedFiles(t, r.dir))
		}
		if n := b.DeadCount("t"); n != 199 {
			t.Errorf("%d letters", n)
		}
		r.stop()
	})
}

// spoilLetter flips a byte of a dead letter where it lies in a sealed segment.
func spoilLetter(t testing.TB, r *running, b channel.BrokerLog, number channel.Position) (segment uint64) {
	t.Helper()
	p, _, err := r.plan(b.(*broker).dead, number, 1, nil)
	if err != nil || p.segment == r.active {
		t.Fatalf("letter %d is not in a sealed segment: %v", number, err)
	}
	defer p.close()
	spoilFile(t, segmentName(r.dir, p.segment.number), int64(p.offsets[0])*frameAlign+frameHeader+3)
	return p.segment.number
}

// Nobody is told that there is no dead letter where one cannot be read.
func TestLetterThatCannotBeReadIsNotSaidToBeNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		bury(t, b, "t", 200)
		bury(t, b, "other", 3)
		spoilLetter(t, r, b, 7)
		if _, found, err := b.FindDead(t.Context(), "t", channel.ID{Position: 7}); err == nil || found || !strings.Contains(err.Error(), "1 cannot be read") {
			t.Errorf("the damaged letter: found %v, error %v", found, err)
		}
		if letter, found, err := b.FindDead(t.Context(), "t", channel.ID{Position: 8}); err != nil || !found || letter.Number != 8 {
			t.Errorf("its neighbour: found %v, error %v", found, err)
		}
		if _, found, err := b.FindDead(t.Context(), "other", channel.ID{Position: 7}); err != nil || found {
			t.Errorf("of another trigger: found %v, error %v", found, err)
		}
		groups, err := b.DeadGroups(t.Context(), "t")
		if err != nil || len(groups) != 4 || groups[3].Reason != channel.Unreadable || groups[3].Count != 1 || groups[3].TriggerName != "n/t" {
			t.Errorf("groups %+v, error %v", groups, err)
		}
		time.Sleep(time.Minute) // it is declared lost
		if _, found, err := b.FindDead(t.Context(), "t", channel.ID{Position: 7}); err != nil || found {
			t.Errorf("the lost letter: found %v, error %v", found, err)
		}
		if groups, err := b.DeadGroups(t.Context(), "t"); err != nil || len(groups) != 3 || groups[0].Count+groups[1].Count+groups[2].Count != 199 {
			t.Errorf("groups %+v, error %v", groups, err)
		}
		r.stop()
	})
}

func TestRepairDoesNotMissLettersThatWereDiscarded(t *testing.T) {
	var im image
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		id := r.append("b", 100, "e")[0]
		for i := range 5 {
			letter := channel.DeadLetter{ID: id, Trigger: "t", Reason: fmt.Sprint("reason-", i), Event: made(t, fmt.Sprint(i), 100)}
			if err := b.AppendDead(t.Context(), []channel.DeadLetter{letter}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := b.DiscardDead(t.Context(), []uint64{3}); n != 1 || err != nil {
			t.Fatal(n, err)
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
	letters, err := b.DeadByNumber(t.Context(), []uint64{1, 2, 3, 4, 5})
	if err != nil || len(letters) != 4 || letters[2].Number != 4 || letters[2].Reason != "reason-3" {
		t.Errorf("letters %+v, error %v", letters, err)
	}
	if gaps := b.Gaps(); len(gaps) != 0 {
		t.Errorf("gaps %+v", gaps)
	}
}

// The ledger has 24 bytes for a letter, and lets go of those that are gone.
func TestLedgerIsSmallAndForgets(t *testing.T) {
	if size := unsafe.Sizeof(filed{}); size != 24 {
		t.Errorf("a letter takes %d bytes", size)
	}
	r := start(t, t.TempDir(), tiny)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	const n = 3000
	bury(t, b, "t", n)
	bury(t, b, "gone", 100)
	if groups, err := b.DeadGroups(t.Context(), ""); err != nil || len(groups) != 6 || groups[0].Count != n/3 {
		t.Fatalf("groups %+v, error %v", groups, err)
	}
	var numbers []uint64
	for i := range upTo(n + 100) {
		if i > 10 {
			numbers = append(numbers, uint64(i))
		}
	}
	if got, err := b.DiscardDead(t.Context(), numbers); got != n+90 || err != nil {
		t.Fatal(got, err)
	}
	bury(t, b, "t", 2) // events that died before
	letter, found, err := b.FindDead(t.Context(), "t", channel.ID{Position: 2})
	if err != nil || !found || letter.Number != n+102 {
		t.Errorf("the last letter of an event that died twice: %+v, found %v, error %v", letter.Number, found, err)
	}
	if pages := b.(*broker).ledger.pages; len(pages) != 1 || len(pages["t"].letters) != 12 || len(pages["t"].reasons) != 3 {
		t.Errorf("the ledger has %d pages, and %d letters of t for %d reasons", len(pages), len(pages["t"].letters), len(pages["t"].reasons))
	}
	groups, err := b.DeadGroups(t.Context(), "t")
	if err != nil || len(groups) != 3 || groups[0].Count != 5 || groups[0].Reason != "status 501" || groups[0].First.Unix() != 1 || groups[0].Last.Unix() != 10 {
		t.Errorf("groups %+v, error %v", groups, err)
	}
}

func TestQuestionAboutDeadLettersEndsWithItsContext(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	bury(t, b, "t", 10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.DeadGroups(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("groups: %v", err)
	}
	b.(*broker).ledger.turn <- struct{}{} // somebody else is at it
	if _, _, err := b.FindDead(ctx, "t", channel.ID{Position: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("find: %v", err)
	}
	<-b.(*broker).ledger.turn
	if _, found, err := b.FindDead(t.Context(), "t", channel.ID{Position: 1}); err != nil || !found {
		t.Errorf("and then: found %v, error %v", found, err)
	}
}

// BenchmarkDeadGroups is what a list of groups costs with 100,000 dead letters.
func BenchmarkDeadGroups(b *testing.B) {
	r := start(b, b.TempDir(), Options{FS: quickFS{}})
	log := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	bury(b, log, "t", 100_000)
	began := time.Now()
	if _, err := log.DeadGroups(b.Context(), ""); err != nil {
		b.Fatal(err)
	}
	first := time.Since(began)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := log.DeadGroups(b.Context(), ""); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(first.Milliseconds()), "ms-first")
}
