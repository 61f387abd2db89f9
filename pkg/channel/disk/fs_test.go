package disk_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/proof"
)

// twin is one file system that plays a script.
type twin struct {
	disk.FS
	dir   string
	files map[string]disk.File
}

// outcome is what one step of the script said, in words that do not depend on
// the file system.
type outcome struct {
	n     int64
	bytes []byte
	names []string
	err   string
}

func said(err error) string {
	for what, is := range map[string]error{
		"absent": fs.ErrNotExist, "there": fs.ErrExist, "closed": fs.ErrClosed, "end": io.EOF, "invalid": syscall.EINVAL,
	} {
		if errors.Is(err, is) {
			return what
		}
	}
	if _, ok := errors.AsType[*disk.LockedError](err); ok {
		return "locked"
	}
	if err != nil {
		return "other"
	}
	return ""
}

// TestMemoryFileSystemIsLikeTheRealOne plays random scripts on memfs and on
// the operating system's files and compares every answer.
func TestMemoryFileSystemIsLikeTheRealOne(t *testing.T) {
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 100) {
		rng := proof.Rand(seed, n)
		twins := []*twin{
			{memfs.New(memfs.Options{}), "/data", make(map[string]disk.File)},
			{disk.SystemFS(), filepath.Join(t.TempDir(), "data"), make(map[string]disk.File)},
		}
		for step := range 200 {
			kind, size, off := rng.IntN(20), rng.Int64N(9000), rng.Int64N(12000)
			name, to := string(rune('a'+rng.IntN(4))), string(rune('a'+rng.IntN(4)))
			content := make([]byte, size)
			for i := range content {
				content[i] = byte(rng.Uint32() | 1)
			}
			if step == 0 {
				kind = -1
			}
			var said [2]outcome
			for i, w := range twins {
				said[i] = w.play(kind, name, to, content, off)
			}
			if a, b := said[0], said[1]; a.n != b.n || a.err != b.err || !bytes.Equal(a.bytes, b.bytes) || !slices.Equal(a.names, b.names) {
				t.Fatalf("round %d, step %d, operation %d: memfs says %d %q %v (%d bytes), the system %d %q %v (%d bytes)",
					n, step, kind, a.n, a.err, a.names, len(a.bytes), b.n, b.err, b.names, len(b.bytes))
			}
		}
		for _, w := range twins {
			for _, f := range w.files {
				_ = f.Close()
			}
		}
	}
}

// play does one thing. A file stays open under the name it was opened by.
func (w *twin) play(kind int, name, to string, content []byte, off int64) (o outcome) {
	path := filepath.Join(w.dir, name)
	f := w.files[name]
	var err error
	switch {
	case kind == -1:
		err = w.MkdirAll(w.dir)
	case kind == 0:
		o.names, err = w.List(w.dir)
		slices.Sort(o.names)
	case kind == 1:
		err = w.Rename(path, filepath.Join(w.dir, to))
	case kind == 2:
		err = w.Remove(path)
	case kind == 3:
		err = w.SyncDir(w.dir)
	case kind == 4:
		lock, e := w.Lock(filepath.Join(w.dir, "LOCK"))
		if err = e; e == nil {
			_, again := w.Lock(filepath.Join(w.dir, "LOCK"))
			err = errors.Join(lock.Close(), again)
		}
	case f == nil && kind < 12:
		if f, err = w.Create(path); err == nil {
			w.files[name] = f
		}
	case f == nil:
		if f, err = w.Open(path); err == nil {
			w.files[name] = f
		}
	case kind == 5:
		if err = f.Close(); err == nil {
			_, err = f.Size()
			delete(w.files, name)
		}
	case kind == 6:
		err = f.Allocate(off + 1)
	case kind == 7:
		err = f.Truncate(off)
	case kind == 8:
		err = errors.Join(f.Sync(), f.Datasync(), f.Uncache())
	case kind == 9:
		o.n, err = f.Size()
	case kind < 15:
		var n int
		o.bytes = make([]byte, len(content))
		n, err = f.ReadAt(o.bytes, off)
		o.n = int64(n)
	default:
		var n int
		n, err = f.WriteAt(content, off)
		o.n = int64(n)
	}
	o.err = said(err)
	return o
}
