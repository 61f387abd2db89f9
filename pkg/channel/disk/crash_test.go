package disk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/proof"
)

const (
	imagesOfALife = 1000
	stepsOfALife  = 140
)

// TestNoCrashLosesWhatWasAcknowledged plays random lives, cuts the power at
// each operation that changes the medium, several times with other parts of
// the unsynced lost, and opens what is left.
func TestNoCrashLosesWhatWasAcknowledged(t *testing.T) {
	seed := proof.Seed(t)
	var images, again atomic.Int64
	for n := range proof.Rounds(t, 20_000/imagesOfALife) {
		synctest.Test(t, func(t *testing.T) {
			h := lived(t, proof.Rand(seed, n), memfs.Options{})
			if err := h.everyCrash(seed, n, imagesOfALife, &images, &again); err != nil {
				t.Errorf("life %d: %v", n, err)
			}
		})
	}
	t.Logf("%d crash images, of these %d with a second crash while the log was opened: 0 lost", images.Load(), again.Load())
}

// TestNoCrashWhileOpeningLosesAnything cuts the power a second time, at each
// operation of the opening after the first.
func TestNoCrashWhileOpeningLosesAnything(t *testing.T) {
	seed := proof.Seed(t)
	images := 0
	for n := range proof.Rounds(t, 40) {
		synctest.Test(t, func(t *testing.T) {
			rng := proof.Rand(seed, n)
			h := lived(t, rng, memfs.Options{})
			if h.broken != nil {
				t.Fatal(h.broken)
			}
			s := h.shots[rng.IntN(len(h.shots))]
			first := s.fs.Crash(rng)
			for at, ended := int64(1), false; !ended; at++ {
				second := first.Snapshot()
				second.CrashAt(first.Ops() + at)
				o := h.o
				o.FS = second
				_, err := disk.Open(lifeDir, o)
				ended = err == nil
				if _, err := h.check(second.Crash(rng), s); err != nil {
					t.Fatalf("life %d, before %s of %s, cut again at operation %d of the opening: %v", n, s.op.Kind, s.op.Name, at, err)
				}
				images++
			}
		})
	}
	t.Logf("%d second crashes: 0 lost", images)
}

// TestNamesThatADeadOwnerHadNotSyncedAreSyncedByTheNext kills an owner at each
// moment of a roll. The next one finds names that only this machine knows, and
// what it acknowledges must survive a power cut all the same.
func TestNamesThatADeadOwnerHadNotSyncedAreSyncedByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := oneBroker(t, memfs.Options{})
		h.watch.Store(true)
		for range 80 {
			h.append(h.prepare("b", 5))
		}
		_ = h.stop()
		rng, names := proof.Rand(proof.Seed(t), 0), 0
		for _, s := range h.shots {
			if s.op.Kind != memfs.SyncDir {
				continue
			}
			names++
			next := newLife(t, rng, memfs.Options{})
			next.states, next.since, next.sure = h.states[:s.issued+1], h.since[:s.issued+1], s.sure
			next.fs, next.acks, next.lives, next.named = s.fs, s.acks, h.lives, h.named
			for _, p := range h.puts[:s.puts] {
				if p.acked > s.acks { // under way: it was never answered
					unanswered := *p
					unanswered.acked, unanswered.ids = 0, nil
					p = &unanswered
				}
				next.puts = append(next.puts, p)
			}
			if err := next.begin(); err != nil {
				t.Fatal(err)
			}
			next.append(next.prepare("b", 1))
			now := next.shoot(memfs.Op{})
			for range 50 {
				if _, err := next.check(now.fs.Crash(rng), now); err != nil {
					t.Errorf("killed before %s of %s: %v", s.op.Kind, s.op.Name, err)
					break
				}
			}
			_ = next.stop()
		}
		if names < 4 {
			t.Errorf("only %d names were synced", names)
		}
	})
}

// TestARollCutShortOpensOnAFullVolume crashes between the footer of a segment
// and the next one's name, and then the volume has no room for that one, or for
// nothing at all. The log opens all the same, as often as it is asked, and goes
// on by itself when there is room, with another crash at any moment of that.
func TestARollCutShortOpensOnAFullVolume(t *testing.T) {
	seed := proof.Seed(t)
	images := 0
	for n := range proof.Rounds(t, 10) {
		synctest.Test(t, func(t *testing.T) {
			rng := proof.Rand(seed, n)
			h := newLife(t, rng, memfs.Options{})
			h.large = n%4 == 3 // these leave segments half empty
			if h.plays(); h.broken != nil {
				t.Fatal(h.broken)
			}
			for _, s := range h.shots {
				if s.op.Kind != memfs.Rename || !strings.HasSuffix(s.op.Name, ".log") || s.issued == 0 {
					continue
				}
				if err := h.opensWithoutRoom(s.fs.Crash(rng), s, &images); err != nil {
					t.Fatalf("life %d, before %s of %s: %v", n, s.op.Kind, s.op.Name, err)
				}
			}
		})
	}
	if images == 0 {
		t.Error("no roll was cut short")
	}
	t.Logf("%d crash images", images)
}

// opensWithoutRoom opens an image in which a roll was cut short.
func (h *life) opensWithoutRoom(image *memfs.FS, s shot, images *int) error {
	noFiles := h.rng.IntN(2) == 0
	var shots []*memfs.FS
	var full atomic.Bool
	full.Store(true)
	image.Hook(func(op memfs.Op) error {
		switch {
		case !full.Load():
			if op.Kind.Changes() {
				shots = append(shots, image.Snapshot())
			}
		case op.Kind == memfs.Allocate || noFiles && op.Kind == memfs.Create:
			return syscall.ENOSPC
		}
		return nil
	}, nil)
	for range 3 {
		if _, err := h.check(image, s); err != nil {
			return fmt.Errorf("without room: %w", err)
		}
	}
	report, err := disk.Check(h.t.Context(), lifeDir, disk.CheckOptions{FS: image})
	if err != nil || slices.ContainsFunc(report.Findings, func(f channel.Finding) bool {
		return f.Severity > channel.Warning || f.Severity == channel.Warning && !strings.HasPrefix(f.Subject, "broker ") // it may be full
	}) {
		return fmt.Errorf("without room: %+v, error %w", report.Findings, err)
	}
	o := h.o
	o.FS = image
	l, err := disk.Open(lifeDir, o)
	if err != nil {
		return fmt.Errorf("without room: %w", err)
	}
	stop := running(l)
	time.Sleep(5 * time.Second)
	if err := l.Ready(); !errors.Is(err, channel.ErrQuota) {
		return errors.Join(fmt.Errorf("without room the log is ready: %v", err), stop())
	}
	full.Store(false)
	time.Sleep(5 * time.Second)
	if err := l.Ready(); err != nil {
		return errors.Join(fmt.Errorf("not ready 5s after there is room: %w", err), stop())
	}
	handles, err := handlesOf(l)
	for _, b := range handles { // a frame that changes nothing
		err = errors.Join(err, b.SaveProgress(h.t.Context(), []channel.ShardProgress{{Scanned: b.Progress(0).Scanned}}))
	}
	time.Sleep(time.Second)
	if err := errors.Join(err, stop()); err != nil {
		return fmt.Errorf("once there is room: %w", err)
	}
	for i := h.rng.IntN(5); i < len(shots); i += 1 + h.rng.IntN(5) {
		if _, err := h.check(shots[i].Crash(h.rng), s); err != nil {
			return fmt.Errorf("cut again at operation %d of %d since there is room: %w", i, len(shots), err)
		}
		*images++
	}
	_, err = h.check(image, s)
	return err
}

// lived is a life with its shots.
func lived(t testing.TB, rng *rand.Rand, o memfs.Options) *life {
	h := newLife(t, rng, o)
	h.plays()
	return h
}

// plays goes through the script of a life, and takes its shots.
func (h *life) plays() {
	h.watch.Store(true)
	if err := h.begin(); err != nil {
		h.t.Fatal(err)
	}
	for range stepsOfALife {
		if h.step(); h.broken != nil {
			break
		}
	}
	_ = h.stop()
}

// everyCrash makes images of a life's shots until there are so many, each
// shot at least once, and checks them. It returns what the first of them had
// broken.
func (h *life) everyCrash(seed uint64, n, images int, count, again *atomic.Int64) error {
	if h.broken != nil {
		return h.broken
	}
	var (
		wg    sync.WaitGroup
		next  atomic.Int64
		mu    sync.Mutex
		first error
	)
	images = max(images, len(h.shots))
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < images; i = int(next.Add(1) - 1) {
				s := h.shots[i%len(h.shots)]
				rng := proof.Rand(seed^uint64(n+1)<<32, i)
				twice, err := h.crash(s, rng)
				count.Add(1)
				if twice {
					again.Add(1)
				}
				if err != nil {
					mu.Lock()
					if first == nil {
						first = fmt.Errorf("image %d, before %s of %s: %w", i, s.op.Kind, s.op.Name, err)
					}
					mu.Unlock()
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// crash checks one image of a shot. One in eight is cut off a second time
// while it is being opened.
func (h *life) crash(s shot, rng *rand.Rand) (twice bool, err error) {
	image := s.fs.Crash(rng)
	if twice = rng.IntN(8) == 0; twice {
		image.CrashAt(image.Ops() + 1 + rng.Int64N(60))
		o := h.o
		o.FS = image
		_, _ = disk.Open(lifeDir, o)
		image = image.Crash(rng)
	}
	_, err = h.check(image, s)
	return twice, err
}

// TestLyingMediumIsCaught shows that the test above can fail: without any one
// of the syncs that a log makes, something is lost.
func TestLyingMediumIsCaught(t *testing.T) {
	of := func(suffix string, kinds ...memfs.Kind) func(memfs.Op) bool {
		return func(op memfs.Op) bool {
			return slices.Contains(kinds, op.Kind) && strings.HasSuffix(op.Name, suffix)
		}
	}
	for what, lies := range map[string]func(memfs.Op) bool{
		"about everything":            func(op memfs.Op) bool { return op.Kind.Syncs() },
		"about each commit":           of(".log", memfs.Datasync),
		"about a segment that begins": of("spare.tmp", memfs.Sync),
		"about a segment that ends":   of(".log", memfs.Sync),
		"about a checkpoint":          of("checkpoint.tmp", memfs.Sync),
		"about names":                 of("", memfs.SyncDir),
	} {
		t.Run(what, func(t *testing.T) {
			seed := proof.Seed(t)
			for n := range 20 {
				var count, again atomic.Int64
				var found error
				synctest.Test(t, func(t *testing.T) {
					h := lived(t, proof.Rand(seed, n), memfs.Options{Fail: func(op memfs.Op) error {
						if lies(op) {
							return memfs.ErrLie
						}
						return nil
					}})
					found = h.everyCrash(seed, n, 200, &count, &again)
				})
				if found != nil {
					t.Logf("caught in life %d: %v", n, found)
					return
				}
			}
			t.Error("20 lives on a medium that lies, and nothing is missed")
		})
	}
}
