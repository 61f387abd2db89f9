package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// crashed is a store that was copied while its owner ran, with the last batch
// witnessed if time went by.
func crashed(t *testing.T, batches, events, size int) (image, acked) {
	t.Helper()
	var im image
	var all acked
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 2})
		all = fill(r, batches, events, size)
		time.Sleep(time.Second) // virtual: the watermark is written
		im = read(t, r.dir)
		r.stop()
	})
	return im, all
}

func TestCrashKeepsWhatWasAcknowledged(t *testing.T) {
	im, all := crashed(t, 300, 2, 400)
	if n := len(im.names(segmentSuffix)); n < 4 {
		t.Fatalf("%d segments, want several", n)
	}
	if loud, silent := verify(t, im.write(t), tiny, all, 400); loud != nil || silent != nil {
		t.Errorf("loud %v, silent %v", loud, silent)
	}
}

func TestTornLastBatchIsDroppedWholeAtEveryByte(t *testing.T) {
	var before, after image
	var all acked
	synctest.Test(t, func(t *testing.T) {
		r := start(t, t.TempDir(), tiny)
		r.broker(channel.BrokerInfo{UID: "b", Shards: 2})
		all = fill(r, 5, 2, 40)
		time.Sleep(time.Second)
		before = read(t, r.dir)
		r.append("b", 40, "torn-1", "torn-2", "torn-3")
		after = read(t, r.dir)
		r.stop()
	})
	name := before.names(segmentSuffix)[0]
	from, to := used(before[name]), used(after[name])
	for cut := from; cut <= to; cut++ {
		im := after.with(name, func(b []byte) []byte {
			clear(b[cut:to])
			return b
		})
		dir := im.write(t)
		loud, silent := verify(t, dir, tiny, all, 40)
		if loud != nil || silent != nil {
			t.Fatalf("cut at %d of %d to %d: loud %v, silent %v", cut, from, to, loud, silent)
		}
		torn, err := filepath.Glob(filepath.Join(dir, "*.torn"))
		begun := used(im[name]) > from
		whole := len(bytes.TrimRight(im[name], "\x00")) == len(bytes.TrimRight(after[name], "\x00"))
		if err != nil || (len(torn) == 1) != (begun && !whole) {
			t.Fatalf("cut at %d of %d to %d: %d torn files, error %v", cut, from, to, len(torn), err)
		}
	}
}

// used is where the zeros at the end of a segment begin, aligned as frames are.
func used(b []byte) int {
	n := len(strings.TrimRight(string(b), "\x00"))
	return min(len(b), (n+frameAlign-1)&^(frameAlign-1))
}

func TestDamagedEventIsAGapAndItsNeighboursAreRead(t *testing.T) {
	im, all := crashed(t, 120, 2, 400)
	name := im.names(segmentSuffix)[0]
	dir := im.with(name, func(b []byte) []byte { b[len(b)/2] ^= 1; return b }).write(t)
	r := start(t, dir, tiny)
	got, err := contents(r.Log.broker("b"))
	var gap *channel.GapError
	if !errors.As(err, &gap) || gap.To != gap.From+1 {
		t.Fatalf("error %v, want a gap of one position", err)
	}
	if len(got) != len(all)-1 {
		t.Errorf("%d events, want all of %d but one", len(got), len(all))
	}
	records, err := r.Log.broker("b").Get(t.Context(), gap.Shard, []channel.Position{gap.From - 1, gap.From, gap.From + 1}, nil)
	if !errors.As(err, &gap) || len(records) != 2 {
		t.Errorf("get: %d records and %v, want 2 and a gap", len(records), err)
	}
}

func TestLostNewestCheckpointIsReplacedByTheOneBefore(t *testing.T) {
	im, all := crashed(t, 300, 2, 400)
	checkpoints := im.names(checkpointSuffix)
	if len(checkpoints) != 2 {
		t.Fatalf("%d checkpoints are kept, want 2", len(checkpoints))
	}
	for what, changed := range map[string]image{
		"removed":  im.without(checkpoints[1]),
		"damaged":  im.with(checkpoints[1], func(b []byte) []byte { b[len(b)/2] ^= 1; return b }),
		"cut":      im.with(checkpoints[1], func(b []byte) []byte { return b[:len(b)/2] }),
		"emptied":  im.with(checkpoints[1], func(b []byte) []byte { return nil }),
		"old gone": im.without(checkpoints[0]),
	} {
		if loud, silent := verify(t, changed.write(t), tiny, all, 400); loud != nil || silent != nil {
			t.Errorf("%s: loud %v, silent %v", what, loud, silent)
		}
	}
}

func TestMissingFilesAreLoudAndNothingIsTouched(t *testing.T) {
	im, all := crashed(t, 300, 2, 400)
	for name := range im {
		if strings.HasSuffix(name, checkpointSuffix) {
			continue
		}
		var corrupt *CorruptError
		if loud, silent := verify(t, im.without(name).write(t), tiny, all, 400); !errors.As(loud, &corrupt) || silent != nil {
			t.Errorf("without %s: loud %v, silent %v", name, loud, silent)
		}
	}
	bare := im
	for _, name := range im.names(checkpointSuffix) {
		bare = bare.without(name)
	}
	dir := bare.write(t)
	if loud, silent := verify(t, dir, tiny, all, 400); loud == nil || silent != nil {
		t.Errorf("without checkpoints: loud %v, silent %v", loud, silent)
	}
	if after := read(t, dir); fmt.Sprint(after) != fmt.Sprint(bare) {
		t.Error("a store that was refused has changed")
	}
}

func TestNewerFormatIsRefusedInOneLine(t *testing.T) {
	im, _ := crashed(t, 3, 1, 40)
	checkpoints := im.names(checkpointSuffix)
	newer := im.with(checkpoints[len(checkpoints)-1], func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[8:], formatVersion+1)
		binary.LittleEndian.PutUint32(b[12:], sumOf(b))
		return b
	})
	segment := im.with(im.names(segmentSuffix)[0], func(b []byte) []byte {
		binary.LittleEndian.PutUint32(b[8:], formatVersion+1)
		binary.LittleEndian.PutUint32(b[60:], checksum(b[:60]))
		return b
	})
	for what, changed := range map[string]image{"checkpoint": newer, "segment": segment} {
		dir := changed.write(t)
		_, err := Open(dir, tiny)
		var version *VersionError
		if !errors.As(err, &version) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", what, err)
		}
		if fmt.Sprint(read(t, dir)) != fmt.Sprint(changed) {
			t.Errorf("%s: the store has changed", what)
		}
	}
}

// A version that was damaged into one that there is would have the checkpoint
// read otherwise than it was written.
func TestADamagedVersionIsDamageAndNoOtherFormat(t *testing.T) {
	im, all := crashed(t, 3, 1, 40)
	for _, name := range im.names(checkpointSuffix) {
		for version := range uint32(formatVersion + 3) {
			if version == formatVersion {
				continue
			}
			dir := im.with(name, func(b []byte) []byte {
				binary.LittleEndian.PutUint32(b[8:], version)
				return b
			}).write(t)
			var newer *VersionError
			if loud, silent := verify(t, dir, tiny, all, 40); silent != nil || errors.As(loud, &newer) {
				t.Errorf("%s with version %d: loud %v, silent %v", name, version, loud, silent)
			}
		}
	}
}

func TestSecondOwnerIsToldWhoHoldsTheDirectory(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	_, err := Open(r.dir, tiny)
	var locked *LockedError
	if !errors.As(err, &locked) || !strings.Contains(err.Error(), r.dir) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Fatalf("second open: %v", err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	start(t, r.dir, tiny)
}

func TestFilesAreTheOwnersAloneAndNamedByNumber(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	r := start(t, dir, tiny)
	r.broker(channel.BrokerInfo{UID: "../../b", Name: "../c"})
	fillBroker := r.append("../../b", 10, "x")
	if len(fillBroker) != 1 {
		t.Fatal("not stored")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if strings.Trim(e.Name(), "0123456789") != segmentSuffix && strings.Trim(e.Name(), "0123456789") != checkpointSuffix && e.Name() != "LOCK" {
			t.Errorf("file %s", e.Name())
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v, error %v", info.Mode(), err)
	}
}

func TestEpochGrowsWithEveryOwner(t *testing.T) {
	dir := t.TempDir()
	var last uint32
	for range 4 {
		r := start(t, dir, tiny)
		if r.epoch <= last {
			t.Fatalf("epoch %d after %d", r.epoch, last)
		}
		last = r.epoch
		r.stop()
	}
}

// crampedFS has room for the bytes that are set aside only where the spare
// segment of the process that crashed is not.
type crampedFS struct{ quickFS }

func (f crampedFS) Create(name string) (File, error) {
	_, err := os.Stat(filepath.Join(filepath.Dir(name), spareName))
	if err == nil && strings.HasSuffix(name, ".torn") {
		return nil, syscall.ENOSPC
	}
	return f.quickFS.Create(name)
}

func TestTornTailOnAFullVolumeIsSetAsideInThePlaceOfTheSpare(t *testing.T) {
	im, all := crashed(t, 5, 2, 40)
	name := im.names(segmentSuffix)[0]
	dir := im.with(name, func(b []byte) []byte {
		b[used(b)] = 1
		return b
	}).write(t)
	if err := os.WriteFile(filepath.Join(dir, spareName), make([]byte, minSegmentSize), 0o600); err != nil {
		t.Fatal(err)
	}
	o := tiny
	o.FS = crampedFS{}
	if loud, silent := verify(t, dir, o, all, 40); loud != nil || silent != nil {
		t.Errorf("loud %v, silent %v", loud, silent)
	}
}

// A power cut on a full volume: what was torn cannot be kept, and that must
// not keep the log from opening.
func TestATornTailOnAFullVolumeDoesNotKeepTheLogFromOpening(t *testing.T) {
	r := start(t, t.TempDir(), tiny)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	all := fill(r, 20, 1, 1000)
	name, off := segmentName(r.dir, r.active.number), r.tailOff
	im := read(t, r.dir)
	r.stop()
	dir := im.with(filepath.Base(name), func(b []byte) []byte {
		copy(b[off:], "half a frame")
		return b
	}).write(t)
	fs := tightFS{full: new(atomic.Bool), spares: new(atomic.Bool)}
	fs.full.Store(true)
	o := tiny
	o.FS = fs
	if loud, silent := verify(t, dir, o, all, 1000); loud != nil || silent != nil {
		t.Error(loud, silent)
	}
}

// Several brokers may be opened at once before the log runs.
func TestBrokersAreOpenedAtOnceBeforeTheLogRuns(t *testing.T) {
	for range 20 {
		l, err := Open(t.TempDir(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				if _, err := l.Broker(t.Context(), channel.BrokerInfo{UID: channel.UID(fmt.Sprint(i))}); err != nil {
					t.Error(err)
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			t.Error("hangs")
		}
		serve(t, l).stop()
		<-done
		if t.Failed() {
			return
		}
	}
}
