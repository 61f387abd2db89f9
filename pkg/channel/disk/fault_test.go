package disk_test

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/proof"
)

// fault makes operations of a life fail, from the n-th on.
type fault struct {
	name  string
	err   error
	times int64 // how many fail
	only  func(memfs.Op) bool
}

func faults() []fault {
	const always = 1 << 40
	of := func(kinds ...memfs.Kind) func(memfs.Op) bool {
		return func(op memfs.Op) bool { return len(kinds) == 0 || slices.Contains(kinds, op.Kind) }
	}
	grows := of(memfs.Create, memfs.Allocate, memfs.Write, memfs.Rename)
	opens := of(memfs.Create, memfs.Open, memfs.List, memfs.SyncDir, memfs.Lock)
	return []fault{
		{"EIO", syscall.EIO, 1, of()},
		{"EIO from then on", syscall.EIO, always, of()},
		{"ENOSPC", syscall.ENOSPC, 1, grows},
		{"ENOSPC for a while", syscall.ENOSPC, 10, grows},
		{"ENOSPC from then on", syscall.ENOSPC, always, grows},
		{"EMFILE", syscall.EMFILE, 1, opens},
		{"EMFILE for a while", syscall.EMFILE, 10, opens},
		{"short write", io.ErrShortWrite, 1, of(memfs.Write)},
		{"failed sync", syscall.EIO, 1, of(memfs.Datasync, memfs.Sync, memfs.SyncDir)},
		{"failed reads", syscall.EIO, 3, of(memfs.Read)},
	}
}

// TestNoFailureOfTheMediumLosesWhatWasAcknowledged fails each operation of a
// life in turn, once or from then on, until a life has none left that could
// fail. What the failure leaves must hold what was acknowledged, both for the
// next process and after a power cut; and after a failed write or sync of a
// segment nothing is acknowledged until the log is opened again.
func TestNoFailureOfTheMediumLosesWhatWasAcknowledged(t *testing.T) {
	seed := proof.Seed(t)
	step := int64(29)
	if proof.Full() {
		step = 1
	}
	for _, f := range faults() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			lives, late, sites := 0, 0, make(map[string]bool)
			for round := range proof.Rounds(t, 1) {
				for n, hit := 1+int64(seed%uint64(step)), true; hit && !t.Failed(); n += step {
					synctest.Test(t, func(t *testing.T) {
						var h *life
						h, hit = faultyLife(t, f, n, seed, round, sites)
						lives++
						late += h.lateAcks
						if h.broken != nil {
							t.Errorf("round %d, operation %d: %v", round, n, h.broken)
						}
					})
				}
			}
			if late > 0 {
				t.Errorf("%d acknowledgements after a failed write or sync", late)
			}
			t.Logf("%d lives, %d places of failure; acknowledged after the first failed write or sync: %d", lives, len(sites), late)
		})
	}
}

// faultyLife plays a life whose n-th operation fails and says whether there was one.
func faultyLife(t *testing.T, f fault, n int64, seed uint64, round int, sites map[string]bool) (h *life, hit bool) {
	var matching int64
	var well atomic.Bool
	h = newLife(t, proof.Rand(seed, round), memfs.Options{Fail: func(op memfs.Op) error {
		if well.Load() || !f.only(op) {
			return nil
		}
		if matching++; matching < n || matching >= n+f.times {
			return nil
		}
		hit = true
		sites[string(op.Kind)+" "+filepath.Ext(op.Name)] = true
		return f.err
	}})
	defer func() {
		if h.stop != nil {
			_ = h.stop()
		}
	}()
	h.large, h.stuck, h.left = true, true, h.shoot(memfs.Op{})
	h.opensAgain()
	for i := range 30 {
		for again := 0; again < 3 && h.broken == nil && (h.down || latched(h.log)); again++ { // as whoever restarts the process does
			if !h.down {
				h.ends(1)
			}
			h.opensAgain()
		}
		if h.broken != nil || h.down || latched(h.log) {
			break
		}
		if h.step(); h.broken != nil || h.down || latched(h.log) {
			continue
		}
		switch i % 10 {
		case 4:
			for _, uid := range sortedKeys(h.handles) {
				_, _ = readAll(h.handles[uid]) // may fail, must not harm
			}
		case 7:
			h.restarts(i / 10 % 3)
		case 9:
			h.tidies()
		}
	}
	well.Store(true)
	s := h.left // where it could not be opened again nothing was promised since
	s.fs = h.fs
	if !h.down {
		if n%2 == 0 {
			_ = h.stop()
		}
		s = h.shoot(memfs.Op{})
	}
	for what, fs := range map[string]*memfs.FS{"a power cut": s.fs.Crash(h.rng), "the end of the process": s.fs.Snapshot()} {
		if h.broken != nil {
			break
		}
		if _, err := h.check(fs, s); err != nil {
			h.breaks(fmt.Errorf("after %s: %w", what, err))
		}
	}
	return h, hit
}

// latched reports whether the log has stopped for good.
func latched(l *disk.Log) bool {
	err := l.Ready()
	return err != nil && !errors.Is(err, channel.ErrQuota) && !errors.Is(err, channel.ErrClosed)
}

// oneBroker is a life with a broker "b" of one shard in it.
func oneBroker(t *testing.T, o memfs.Options) *life {
	h := newLife(t, proof.Rand(1, 1), o)
	if err := h.begin(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.stop() })
	h.opensFor(channel.BrokerInfo{UID: "b", Shards: 1})
	return h
}

// one appends one event.
func (h *life) one(size int) (channel.ID, event.Event, error) {
	h.named++
	e := eventOf(h.named, size, h.rng)
	ids, err := h.log.Append(h.t.Context(), "b", []event.Event{e})
	if err != nil {
		return channel.ID{}, e, err
	}
	return ids[0].ID, e, nil
}

func TestFailedSyncLatchesAndTheCauseIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ill atomic.Bool
		h := oneBroker(t, memfs.Options{Fail: func(op memfs.Op) error {
			if op.Kind == memfs.Datasync && ill.CompareAndSwap(true, false) { // once: the medium heals, the log must not
				return syscall.EIO
			}
			return nil
		}})
		id, e, err := h.one(10)
		if err != nil {
			t.Fatal(err)
		}
		ill.Store(true)
		if _, _, err := h.one(10); !errors.Is(err, channel.ErrUnknown) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("append: %v", err)
		}
		for range 3 {
			var refused *channel.Refused
			if _, _, err := h.one(10); !errors.As(err, &refused) || !errors.Is(err, channel.ErrUnavailable) || refused.RetryAfter <= 0 {
				t.Fatalf("append after it: %v", err)
			}
		}
		if err := h.log.Ready(); !errors.Is(err, syscall.EIO) {
			t.Errorf("ready: %v", err)
		}
		b := h.handles["b"]
		if all, err := readAll(b); err != nil || len(all.at) != 1 {
			t.Errorf("%d events can be read, error %v", len(all.at), err)
		}
		if err := b.AppendDead(t.Context(), []channel.DeadLetter{letterOf(id, "t", e, 1)}); !errors.Is(err, channel.ErrUnavailable) {
			t.Errorf("append a dead letter: %v", err)
		}
	})
}

func TestCheckpointPutOffForWantOfRoomIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		h := oneBroker(t, memfs.Options{Fail: func(op memfs.Op) error {
			if op.Kind == memfs.Rename && strings.HasSuffix(op.Name, ".ckpt") && full.CompareAndSwap(true, false) {
				return syscall.ENOSPC
			}
			return nil
		}})
		full.Store(true)
		for range 100 {
			h.append(h.prepare("b", 5))
		}
		if full.Load() {
			t.Fatal("no checkpoint was written")
		}
		for _, p := range h.puts {
			if p.acked == 0 {
				t.Fatalf("request %d is not acknowledged", p.number)
			}
		}
		h.ends(0)
		if h.broken != nil {
			t.Error(h.broken)
		}
	})
}

// TestFullVolumeGoesOnByItself fills a volume until events are refused. Dead
// letters and progress go on, and when there is room again, events do,
// without a restart.
func TestFullVolumeGoesOnByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := oneBroker(t, memfs.Options{Size: 1 << 20})
		b := h.handles["b"]
		var last channel.ID
		var e event.Event
		for n := 0; ; n++ {
			id, made, err := h.one(4000)
			if err != nil {
				var refused *channel.Refused
				if !errors.As(err, &refused) || !errors.Is(err, channel.ErrQuota) || refused.RetryAfter <= 0 {
					t.Fatalf("event %d: %v", n, err)
				}
				break
			}
			if last, e = id, made; n > 1000 {
				t.Fatal("never full")
			}
		}
		if err := b.AppendDead(t.Context(), []channel.DeadLetter{letterOf(last, "t", e, 1)}); err != nil {
			t.Errorf("dead letter: %v", err)
		}
		if n, err := b.DiscardDead(t.Context(), []uint64{1}); n != 1 || err != nil {
			t.Errorf("discard a dead letter: %d, error %v", n, err)
		}
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: 0, Scanned: last.Position + 1}}); err != nil {
			t.Errorf("progress: %v", err)
		}
		start := time.Now()
		for ; time.Since(start) < time.Minute; time.Sleep(100 * time.Millisecond) {
			if _, _, err := h.one(4000); err == nil {
				break
			}
		}
		took := time.Since(start)
		t.Logf("events again after %v", took)
		if took > 5*time.Second {
			t.Errorf("events again after %v, want within 5 s", took)
		}
	})
}

// TestFullVolumeOpensAgain fills a log to the last frame on a volume without
// room for another segment, stops it and opens it. It must open, for what it
// holds can go in no other way than by being read and settled; and once there is
// room events are accepted again.
func TestFullVolumeOpensAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var full atomic.Bool
		h := oneBroker(t, memfs.Options{Fail: func(op memfs.Op) error {
			if full.Load() && (op.Kind == memfs.Allocate || op.Kind == memfs.Create) {
				return syscall.ENOSPC
			}
			return nil
		}})
		id, e, err := h.one(10)
		stored := 0
		for full.Store(true); err == nil; stored++ {
			_, _, err = h.one(4000)
		}
		for err = nil; err == nil; {
			err = h.handles["b"].AppendDead(t.Context(), []channel.DeadLetter{letterOf(id, "t", e, 1)})
		}
		for size := 1000; err != nil && size > 0; size -= 8 { // and what is left, to the byte
			if !errors.Is(err, channel.ErrQuota) {
				t.Fatal(err)
			}
			_, err = h.handles["b"].SetRoutes(t.Context(), channel.Routes{Set: []channel.Route{{Trigger: "t", Filter: make([]byte, size)}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := h.stop(); err != nil {
				t.Fatal(err)
			}
			if err := h.begin(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := h.one(10); !errors.Is(err, channel.ErrQuota) {
				t.Fatalf("append to a full log: %v", err)
			}
		}
		epoch := h.log.Epoch()
		full.Store(false)
		start := time.Now()
		for err = channel.ErrQuota; err != nil && time.Since(start) < 10*time.Second; time.Sleep(100 * time.Millisecond) {
			_, _, err = h.one(4000)
		}
		if err != nil {
			t.Errorf("no events 10s after there is room: %v", err)
		}
		h.fs.CrashAt(0)
		_ = h.stop()
		h.fs = h.fs.Crash(h.rng)
		if err := h.begin(); err != nil || h.log.Epoch() <= epoch {
			t.Errorf("owner epoch %d after %d, error %v", h.log.Epoch(), epoch, err)
		}
		if all, err := readAll(h.handles["b"]); err != nil || len(all.at) != stored+1 {
			t.Errorf("%d of %d events can be read, error %v", len(all.at), stored+1, err)
		}
	})
}

// TestAFullLogSaysThatItClosesWithoutItsProgress closes a log that is full to the
// last frame and to which progress was told: where there is not even room for a
// checkpoint the close must say so, and the events are offered again.
func TestAFullLogSaysThatItClosesWithoutItsProgress(t *testing.T) {
	for _, kinds := range [][]memfs.Kind{{memfs.Allocate}, {memfs.Allocate, memfs.Create}} {
		synctest.Test(t, func(t *testing.T) {
			var full atomic.Bool
			h := oneBroker(t, memfs.Options{Fail: func(op memfs.Op) error {
				if full.Load() && slices.Contains(kinds, op.Kind) {
					return syscall.ENOSPC
				}
				return nil
			}})
			full.Store(true)
			var err error
			for size := 4000; size > 0; size /= 2 {
				for err = nil; err == nil; {
					_, err = h.handles["b"].SetRoutes(t.Context(), channel.Routes{Set: []channel.Route{{Trigger: "t", Filter: make([]byte, size)}}})
				}
			}
			if !errors.Is(err, channel.ErrQuota) {
				t.Fatal(err)
			}
			progress := channel.ShardProgress{Scanned: 1, Lanes: []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(1)}}}
			if err := h.handles["b"].SaveProgress(t.Context(), []channel.ShardProgress{progress}); err != nil {
				t.Fatal(err)
			}
			err = h.stop()
			full.Store(false)
			if err := h.begin(); err != nil {
				t.Fatal(err)
			}
			saved := len(h.handles["b"].Progress(0).Lanes) > 0
			if saved != (len(kinds) == 1) || saved != (err == nil) || err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("without %v: closed with error %v, and progress is saved: %v", kinds, err, saved)
			}
		})
	}
}

// TestVolumesOfAnySmallSizeLoseNothing plays lives on volumes that are soon full.
func TestVolumesOfAnySmallSizeLoseNothing(t *testing.T) {
	seed := proof.Seed(t)
	lives, refused := 0, 0
	for n := range proof.Rounds(t, 100) {
		lives++
		synctest.Test(t, func(t *testing.T) {
			rng := proof.Rand(seed, n)
			h := newLife(t, rng, memfs.Options{Size: 250_000 + rng.Int64N(250_000)})
			if err := h.begin(); err != nil {
				t.Fatal(err)
			}
			for range 150 {
				if h.step(); h.broken != nil {
					break
				}
			}
			if h.broken == nil {
				h.ends(n % 3)
			} else {
				_ = h.stop()
			}
			if refused += h.refusals; h.broken != nil {
				t.Errorf("life %d: %v", n, h.broken)
			}
		})
	}
	if refused == 0 && lives >= 10 { // of a few none may be small enough
		t.Error("no volume was ever full")
	}
	t.Logf("%d requests were refused", refused)
}
