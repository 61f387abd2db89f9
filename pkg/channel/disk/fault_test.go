package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// faultFS fails its n-th operation, once. A short write writes half first.
type faultFS struct {
	quickFS
	err   error
	short bool
	left  *atomic.Int64
	hit   *atomic.Bool
}

func newFault(n int64, err error, short bool) faultFS {
	f := faultFS{err: err, short: short, left: new(atomic.Int64), hit: new(atomic.Bool)}
	f.left.Store(n)
	return f
}

func (f faultFS) fail() error {
	if f.left.Add(-1) == 0 {
		f.hit.Store(true)
		return f.err
	}
	return nil
}

func (f faultFS) MkdirAll(dir string) error {
	return errors.Join(f.fail(), f.quickFS.MkdirAll(dir))
}

func (f faultFS) List(dir string) ([]string, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	return f.quickFS.List(dir)
}

func (f faultFS) Rename(from, to string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.quickFS.Rename(from, to)
}

func (f faultFS) Remove(name string) error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.quickFS.Remove(name)
}

func (f faultFS) SyncDir(dir string) error { return f.fail() }

func (f faultFS) Space(dir string) (int64, int64, error) {
	if err := f.fail(); err != nil {
		return 0, 0, err
	}
	return f.quickFS.Space(dir)
}

func (f faultFS) Create(name string) (File, error) { return f.file(name, f.quickFS.Create) }
func (f faultFS) Open(name string) (File, error)   { return f.file(name, f.quickFS.Open) }

func (f faultFS) file(name string, open func(string) (File, error)) (File, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	inner, err := open(name)
	if err != nil {
		return nil, err
	}
	return faultFile{inner, f}, nil
}

type faultFile struct {
	File
	fs faultFS
}

func (f faultFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.fail(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, off)
}

func (f faultFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.fs.fail(); err != nil {
		if f.fs.short {
			n, werr := f.File.WriteAt(b[:len(b)/2], off)
			return n, errors.Join(err, werr)
		}
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f faultFile) Allocate(size int64) error {
	if err := f.fs.fail(); err != nil {
		return err
	}
	return f.File.Allocate(size)
}

func (f faultFile) Truncate(size int64) error {
	if err := f.fs.fail(); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f faultFile) Size() (int64, error) {
	if err := f.fs.fail(); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f faultFile) Datasync() error { return f.fs.fail() }
func (f faultFile) Sync() error     { return f.fs.fail() }

// TestNoFailureOfTheMediumLosesWhatWasAcknowledged fails each operation of a
// short life in turn, until one life has none left that could fail.
func TestNoFailureOfTheMediumLosesWhatWasAcknowledged(t *testing.T) {
	for _, fault := range []struct {
		name  string
		err   error
		short bool
	}{
		{"EIO", syscall.EIO, false}, {"ENOSPC", syscall.ENOSPC, false},
		{"EMFILE", syscall.EMFILE, false}, {"short write", io.ErrShortWrite, true},
	} {
		t.Run(fault.name, func(t *testing.T) {
			step := int64(1)
			if testing.Short() {
				step = 7
			}
			for n := int64(1); ; n += step {
				fs := newFault(n, fault.err, fault.short)
				dir := t.TempDir()
				all, err := shortLife(t, dir, fs)
				if err != nil {
					t.Fatalf("operation %d: %v", n, err)
				}
				if loud, silent := verify(t, dir, tiny, all, 4000); loud != nil || silent != nil {
					t.Fatalf("operation %d: loud %v, silent %v", n, loud, silent)
				}
				if !fs.hit.Load() {
					return
				}
			}
		})
	}
}

// shortLife opens a log and appends over three segments. It returns what was
// acknowledged, and an error where the log broke its word.
func shortLife(t *testing.T, dir string, fs faultFS) (acked, error) {
	all := make(acked)
	o := tiny
	o.FS = fs
	l, err := Open(dir, o)
	if err != nil {
		return all, nil // refused to begin: nothing is promised
	}
	r := serve(t, l)
	defer r.stop()
	if _, err := l.Broker(context.Background(), channel.BrokerInfo{UID: "b", Shards: 1}); err != nil {
		return all, nil
	}
	latched := false
	for i := range 40 {
		name := fmt.Sprint(i)
		ids, err := l.Append(context.Background(), "b", []event.Event{made(t, name, 4000)})
		var refused *channel.Refused
		switch {
		case err == nil && latched:
			return all, fmt.Errorf("event %d was acknowledged after the latch", i)
		case err == nil:
			all[ids[0]] = name
		case errors.Is(err, channel.ErrUnknown):
			latched = true
		case !errors.As(err, &refused):
			return all, fmt.Errorf("event %d: neither stored, refused nor unknown: %w", i, err)
		}
		if latched && l.Ready() == nil {
			return all, errors.New("a latched log is ready")
		}
	}
	return all, nil
}

func TestFailedSyncLatchesAndTheCauseIsTold(t *testing.T) {
	fs := newFault(0, syscall.EIO, false)
	o := tiny
	o.FS = fs
	r := start(t, t.TempDir(), o)
	r.broker(channel.BrokerInfo{UID: "b"})
	kept := r.append("b", 10, "kept")
	fs.left.Store(2) // the write succeeds, its sync does not
	_, err := r.Append(context.Background(), "b", []event.Event{made(t, "lost", 10)})
	if !errors.Is(err, channel.ErrUnknown) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("append: %v", err)
	}
	for range 3 { // the medium has healed, the log has not
		var refused *channel.Refused
		_, err = r.Append(context.Background(), "b", []event.Event{made(t, "later", 10)})
		if !errors.As(err, &refused) || !errors.Is(err, channel.ErrUnavailable) || refused.RetryAfter <= 0 {
			t.Fatalf("append after it: %v", err)
		}
	}
	if err := r.Ready(); !errors.Is(err, syscall.EIO) {
		t.Errorf("ready: %v", err)
	}
	b := r.Log.broker("b")
	if got, err := contents(b); err != nil || len(got) != 1 {
		t.Errorf("%d events can be read, error %v", len(got), err)
	}
	if records, err := b.Get(t.Context(), kept[0].Shard, []channel.Position{kept[0].Position}, nil); err != nil || len(records) != 1 {
		t.Errorf("get: %d records, error %v", len(records), err)
	}
	if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: kept[0], Trigger: "t", Event: made(t, "kept", 10)}}); !errors.Is(err, channel.ErrUnavailable) {
		t.Errorf("append a dead letter: %v", err)
	}
}

// renameFS has no room for a checkpoint's name, once.
type renameFS struct {
	quickFS
	left *atomic.Int64
}

func (f renameFS) Rename(from, to string) error {
	if strings.HasSuffix(to, checkpointSuffix) && f.left.Add(-1) == 0 {
		return syscall.ENOSPC
	}
	return f.quickFS.Rename(from, to)
}

func TestCheckpointPutOffForWantOfRoomIsWrittenLater(t *testing.T) {
	o := tiny
	fs := renameFS{left: new(atomic.Int64)}
	o.FS = fs
	r := start(t, t.TempDir(), o)
	r.broker(channel.BrokerInfo{UID: "b", Shards: 1})
	fs.left.Store(1)
	all := fill(r, 60, 1, 4000)
	if fs.left.Load() > 0 {
		t.Fatal("no checkpoint was written")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if loud, silent := verify(t, r.dir, tiny, all, 4000); loud != nil || silent != nil {
		t.Errorf("loud %v, silent %v", loud, silent)
	}
}
