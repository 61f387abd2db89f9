package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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
	"github.com/penstock-events/penstock/test/proof"
)

// unpack writes a backup's files into a new directory, each through wrap.
func unpack(t *testing.T, b *Backup, wrap func(io.Writer) io.Writer) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for i, f := range b.Files {
		var file bytes.Buffer
		if err := b.Write(t.Context(), wrap(&file), i); err != nil {
			return dir, err
		}
		if int64(file.Len()) != f.Size {
			t.Errorf("%s has %d bytes, %d were announced", f.Name, file.Len(), f.Size)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), file.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, nil
}

func direct(w io.Writer) io.Writer { return w }

func begin(t *testing.T, l *Log) *Backup {
	t.Helper()
	b, err := l.Backup(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// slowly lets time go by with each write, and the log live on meanwhile.
type slowly struct{ w io.Writer }

func (s slowly) Write(p []byte) (int, error) {
	time.Sleep(time.Second) // virtual
	return s.w.Write(p)
}

// life is a broker of one shard that appends an event each 20 ms and settles
// it at once. Of the first 200 one in ten stays, and one in 40 dies. What a
// life says was done had been acknowledged.
type life struct {
	mu      sync.Mutex
	sent    int
	settled roaring64.Bitmap
	dead    []channel.Position
}

func (l *life) live(ctx context.Context, r *running, b channel.BrokerLog) {
	for i := 0; ctx.Err() == nil; i++ {
		pos := r.append("b", 4000, fmt.Sprint(i))[0].Position
		l.note(func() { l.sent = i + 1 })
		lane := channel.LaneProgress{Trigger: "t", Added: roaring64.BitmapOf(uint64(pos))}
		if pos < 200 && pos%40 == 0 {
			letter := channel.DeadLetter{ID: channel.ID{Position: pos}, Trigger: "t", Event: made(r.t, fmt.Sprint(i), 4000)}
			if err := b.AppendDead(ctx, []channel.DeadLetter{letter}); err != nil {
				r.t.Error(err)
			}
			l.note(func() { l.dead = append(l.dead, pos) })
		}
		if pos >= 200 || pos%10 != 0 {
			lane.Settled = lane.Added
		}
		if err := b.SaveProgress(ctx, []channel.ShardProgress{{Scanned: pos + 1, Lanes: []channel.LaneProgress{lane}}}); err != nil {
			r.t.Error(err)
		}
		if lane.Settled != nil {
			l.note(func() { l.settled.Add(uint64(pos)) })
		}
		time.Sleep(20 * time.Millisecond) // virtual
	}
}

func (l *life) note(what func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what()
}

// copied is what was acknowledged when a backup was asked for.
func (l *life) copied() life {
	l.mu.Lock()
	defer l.mu.Unlock()
	return life{sent: l.sent, settled: *l.settled.Clone(), dead: slices.Clone(l.dead)}
}

// check compares a restored log with what it must hold.
func (l *life) check(t *testing.T, dir string, cut Cut) {
	t.Helper()
	restored := start(t, dir, tiny)
	defer restored.stop()
	if got := restored.Summary(); !slices.EqualFunc(got, cut.Brokers, func(a, b CutBroker) bool {
		return a.UID == b.UID && a.Name == b.Name && slices.Equal(a.Next, b.Next) && a.Dead == b.Dead
	}) {
		t.Errorf("restored %+v, the cut was at %+v", got, cut.Brokers)
	}
	b := restored.Log.broker("b")
	next := b.shards[0].next
	if int(next) <= l.sent {
		t.Errorf("the log ends at %d, %d events were acknowledged before the backup", next, l.sent)
	}
	progress := b.Progress(0)
	if len(progress.Lanes) != 1 {
		t.Fatalf("progress of %d lanes", len(progress.Lanes))
	}
	pending := progress.Lanes[0].Added
	if again := roaring64.And(pending, &l.settled); !again.IsEmpty() {
		t.Errorf("%d events that were settled before the backup are pending", again.GetCardinality())
	}
	for pos := channel.Position(1); pos < next; pos++ {
		if pos < progress.Scanned && !pending.Contains(uint64(pos)) {
			continue // settled: it may be gone
		}
		records, err := b.Get(t.Context(), 0, []channel.Position{pos}, nil)
		want := made(t, fmt.Sprint(pos-1), 4000)
		if err != nil || len(records) != 1 || !bytes.Equal(records[0].Event.Raw(), want.Raw()) {
			t.Fatalf("event %d is not what was sent: %d records, %v", pos, len(records), err)
		}
	}
	letters, _, err := b.Dead(t.Context(), "t", "", deadPage)
	if err != nil {
		t.Error(err)
	}
	for i, pos := range l.dead {
		if i >= len(letters) || letters[i].ID.Position != pos {
			t.Fatalf("dead letter %d is not that of event %d", i, pos)
		}
	}
}

// I15, and the trap that other stores fell into: files that are removed while
// they are copied.
func TestABackupBesideALifeOfAppendsAndRemovalsHoldsAllThatWasAcknowledgedBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		b := r.broker(channel.BrokerInfo{UID: "b", Name: "default/b", Shards: 1})
		ctx, cancel := context.WithCancel(t.Context())
		var l life
		var living sync.WaitGroup
		living.Go(func() { l.live(ctx, r, b) })
		removed := 0
		for range 4 {
			time.Sleep(7 * time.Second) // virtual: long enough for removals
			before := l.copied()
			cut := begin(t, r.Log)
			dir, err := unpack(t, cut, func(w io.Writer) io.Writer { return slowly{w} })
			if err != nil {
				t.Fatal(err)
			}
			removed += dropped(t, r.Log, cut.last)
			before.check(t, dir, cut.Cut)
			cut.Close()
		}
		if removed == 0 {
			t.Error("no segment of a cut was dropped while it was copied: the test shows nothing")
		}
		last := begin(t, r.Log)
		for n := len(last.segments); n < 4 || last.segments[n-4].number+3 != last.last; n = len(last.segments) {
			// Nothing new in it that could be dropped.
			last.Close()
			time.Sleep(time.Second)
			last = begin(t, r.Log)
		}
		cancel()
		living.Wait()
		time.Sleep(10 * time.Second)
		if dropped(t, r.Log, last.last) == 0 {
			t.Error("nothing is kept for the last backup: the test shows nothing")
		}
		last.Close()
		time.Sleep(2 * tickEvery) // and nothing else happens in the log
		if left := dropped(t, r.Log, 1<<62); left > 0 {
			t.Errorf("%d files are left after the backups", left)
		}
	})
}

// dropped counts the segments up to a number that the log has no use for and
// whose files are there.
func dropped(t *testing.T, l *Log, last uint64) int {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		var number uint64
		if _, err := fmt.Sscanf(e.Name(), "%d.log", &number); err != nil || number > last || number == l.active.number {
			continue
		}
		if !slices.ContainsFunc(l.segments, func(g *segment) bool { return g.number == number }) {
			n++
		}
	}
	return n
}

func TestOneBackupAtATime(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	first := begin(t, r.Log)
	if _, err := r.Backup(t.Context()); !errors.Is(err, ErrBackupRuns) {
		t.Errorf("the second backup: %v", err)
	}
	first.Close()
	second := begin(t, r.Log)
	first.Close() // is no longer its own
	if _, err := r.Backup(t.Context()); !errors.Is(err, ErrBackupRuns) {
		t.Errorf("the third backup: %v", err)
	}
	second.Close()
}

func TestABackupOfALogThatHasStoppedIsRefused(t *testing.T) {
	latched := start(t, t.TempDir(), tiny)
	latched.latch(syscall.EIO)
	closed := start(t, t.TempDir(), tiny)
	if err := closed.stop(); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*Log{latched.Log, closed.Log} {
		if _, err := l.Backup(t.Context()); !errors.Is(err, channel.ErrUnavailable) {
			t.Errorf("backup: %v", err)
		}
	}
}

func TestAFullVolumeTakesItsFilesBackFromASlowBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &fullFS{}
		o := tiny
		o.FS = fs
		r := start(t, t.TempDir(), o)
		b := r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		fill(r, 100, 1, 4000)
		cut := begin(t, r.Log)
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Scanned: 101}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if dropped(t, r.Log, cut.last) == 0 {
			t.Fatal("nothing is kept for the backup: the test shows nothing")
		}
		fs.full.Store(true)
		for i := 0; r.Ready() == nil; i++ {
			_, _ = r.Append(t.Context(), "b", []event.Event{made(t, fmt.Sprint("more-", i), 4000)})
		}
		if n := dropped(t, r.Log, cut.last); n > 0 {
			t.Errorf("the volume is full and %d files are kept for a backup", n)
		}
		if _, err := unpack(t, cut, direct); !errors.Is(err, errPinGivenUp) {
			t.Errorf("the backup: %v", err)
		}
	})
}

// fullFS has no room for another segment once it is full.
type fullFS struct {
	quickFS
	full atomic.Bool
}

func (f *fullFS) Create(name string) (File, error) {
	if f.full.Load() && strings.HasSuffix(name, spareName) {
		return nil, syscall.ENOSPC
	}
	return f.quickFS.Create(name)
}

// A backup of a file with a flipped bit fails and names the file.
func TestNoFlipGetsIntoABackup(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 2})
	fill(r, 60, 2, 1000)
	b := begin(t, r.Log)
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 2000) {
		rng := proof.Rand(seed, n)
		i := 1 + rng.IntN(len(b.Files)-1) // the first is in memory
		at, bit := rng.Int64N(b.Files[i].Size), byte(1)<<rng.IntN(8)
		name := filepath.Join(r.dir, b.Files[i].Name)
		flip(t, name, at, bit)
		if err := b.Write(t.Context(), io.Discard, i); err == nil {
			t.Fatalf("a flip in byte %d of %s got into the backup in silence", at, name)
		} else if !strings.Contains(err.Error(), name) {
			t.Fatalf("the error does not name the file: %v", err)
		}
		flip(t, name, at, bit)
	}
	if _, err := unpack(t, b, direct); err != nil {
		t.Errorf("with all flips undone: %v", err)
	}
}

// What a backup finds damaged goes into quarantine, and the next backup holds
// all that is good.
func TestAfterDamageWasSetAsideABackupWorksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
		all := fill(r, 100, 1, 1000)
		b := begin(t, r.Log)
		flip(t, filepath.Join(r.dir, b.Files[1].Name), 30_000, 1)
		if _, err := unpack(t, b, direct); err == nil {
			t.Fatal("damage got into a backup")
		}
		b.Close()
		time.Sleep(time.Minute)
		b = begin(t, r.Log)
		dir, err := unpack(t, b, direct)
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		restored := start(t, dir, tiny)
		defer restored.stop()
		got, _ := contents(restored.Log.broker("b"))
		if len(got) != len(all)-1 || len(restored.Log.broker("b").Gaps()) != 1 {
			t.Errorf("%d of %d events are there, %d gaps", len(got), len(all), len(restored.Log.broker("b").Gaps()))
		}
	})
}

func flip(t *testing.T, name string, at int64, bit byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= bit
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestABackupThatBeginsAsTheLogEndsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		synctest.Wait()
		r.committing <- struct{}{}
		ended := make(chan error)
		go func() { ended <- r.stop() }()
		synctest.Wait()
		begun := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		go func() {
			_, err := r.Backup(ctx)
			begun <- err
		}()
		synctest.Wait()
		r.yield()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if err := <-begun; !errors.Is(err, channel.ErrClosed) {
			t.Errorf("backup: %v", err)
		}
	})
}
