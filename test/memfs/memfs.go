// Package memfs is a disk.FS in memory that knows what a power cut leaves. It
// keeps, for each file and directory, what has reached the medium beside what
// this machine believes, and Crash makes a file system out of the first and
// any part of the difference.
//
// What it assumes is the failure model of docs/reliability.md. A block of 512
// bytes is old or new, never a mixture, and a write does not harm bytes of its
// block that were there before (powersafe overwrite). Until a file is synced
// each of its blocks may stay as it is or take any state it had since, and of
// its lengths any; until a directory is synced any subset of its changes may
// be missing, though a rename is never half. File systems in use keep more
// order than that. Space that was never written reads as zeros.
//
// A sync that fails is a sync as Linux fails it: some blocks have reached the
// medium, the others are clean and lost. No later sync writes them, reads
// still see them until Uncache, and then what was there before.
//
// The same calls in the same order have the same outcome. It does not
// simulate times, permissions or links, and a directory is durable when it is
// made. All methods may be called by any number of goroutines.
package memfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/pkg/channel/disk"
)

// Options change an FS. The zero Options are a volume without end that never
// fails and takes no time.
type Options struct {
	// Size of the volume in bytes; what goes beyond it fails with ENOSPC. 0 is
	// without end.
	Size int64
	// Fail is called before each operation; its error is the operation's, which
	// then does nothing. A write that fails with io.ErrShortWrite, wrapped or
	// not, writes half; a failed sync is described above; and one that fails
	// with ErrLie succeeds and does nothing. nil never fails.
	Fail func(op Op) error
	// Delay is called before each operation, which waits so long: only inside a
	// synctest bubble. nil takes no time.
	Delay func(op Op) time.Duration
	// NoSync makes each sync an ErrLie.
	NoSync bool
}

// Op is one call of the file layer. Closing is none: it cannot fail here.
type Op struct {
	N     int64 // 1, 2, 3, ... over all calls of this FS
	Kind  Kind
	Name  string // of the file, as it is named now, or directory; of a rename, the new name
	Bytes int    // of a read or write
}

// Kind says what an Op does.
type Kind string

// The kinds of operations.
const (
	Mkdir    Kind = "mkdir"
	List     Kind = "list"
	Create   Kind = "create"
	Open     Kind = "open"
	Rename   Kind = "rename"
	Remove   Kind = "remove"
	SyncDir  Kind = "syncdir"
	Lock     Kind = "lock"
	Space    Kind = "space"
	Read     Kind = "read"
	Write    Kind = "write"
	Size     Kind = "size"
	Allocate Kind = "allocate"
	Truncate Kind = "truncate"
	Datasync Kind = "datasync"
	Sync     Kind = "sync"
	Uncache  Kind = "uncache"
)

// Changes reports whether operations of the kind change what Crash leaves.
func (k Kind) Changes() bool {
	switch k {
	case List, Open, Lock, Space, Read, Size, Uncache:
		return false
	}
	return true
}

// Syncs reports whether operations of the kind make changes durable.
func (k Kind) Syncs() bool { return k == Datasync || k == Sync || k == SyncDir }

// ErrLie is what Fail returns for an operation that shall say it was done and is
// not: for tests that must notice.
var ErrLie = errors.New("say that it was done")

// ErrDead answers every call once the machine is off.
var ErrDead = errors.New("the machine is off")

// FS is a file system in memory. New makes one.
type FS struct {
	mu    sync.Mutex
	o     Options
	ops   int64
	off   int64 // the first operation that finds the machine off; 0 for none
	used  int64
	chips rand.PCG // decides what a failed sync has written
	files int64    // made so far
	dirs  map[string]*directory
	locks map[string]bool
}

var _ disk.FS = (*FS)(nil)

// New makes an empty file system.
func New(o Options) *FS {
	return &FS{o: o, dirs: make(map[string]*directory), locks: make(map[string]bool)}
}

// Hook replaces Fail and Delay: a file system that Crash or Snapshot made has neither.
func (f *FS) Hook(fail func(op Op) error, delay func(op Op) time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.o.Fail, f.o.Delay = fail, delay
}

// Resize changes the size of the volume. One that is smaller than what it
// holds has no room left.
func (f *FS) Resize(size int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.o.Size = size
}

// Ops is how many operations there were.
func (f *FS) Ops() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// CrashAt turns the machine off before operation n, at once where it has been
// already: from then on nothing changes and every call fails with ErrDead.
func (f *FS) CrashAt(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = max(n, 1)
}

// do performs one operation: change, or, where it is made to fail, failed.
// Either may be nil. Both are called with the lock held.
func (f *FS) do(op Op, change func(op Op) error, failed func(op Op, err error)) error {
	f.mu.Lock()
	f.ops++
	op.N = f.ops
	fail, delay := f.o.Fail, f.o.Delay
	f.mu.Unlock()
	if delay != nil {
		if d := delay(op); d > 0 {
			time.Sleep(d)
		}
	}
	var err error
	if fail != nil {
		err = fail(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.off > 0 && op.N >= f.off:
		err = ErrDead
	case errors.Is(err, ErrLie):
		return nil
	case err != nil:
		if failed != nil {
			failed(op, err)
		}
	case change != nil:
		err = change(op)
	}
	if err == nil {
		return nil
	}
	var locked *disk.LockedError
	if errors.Is(err, io.EOF) || errors.As(err, &locked) {
		return err // as package os has them
	}
	return &fs.PathError{Op: string(op.Kind), Path: op.Name, Err: err}
}

// MkdirAll implements disk.FS.
func (f *FS) MkdirAll(dir string) error {
	dir = filepath.Clean(dir)
	return f.do(Op{Kind: Mkdir, Name: dir}, func(Op) error {
		for ; f.dirs[dir] == nil; dir = filepath.Dir(dir) {
			f.dirs[dir] = newDirectory(dir)
		}
		return nil
	}, nil)
}

// List implements disk.FS. Names are in order.
func (f *FS) List(dir string) (names []string, err error) {
	dir = filepath.Clean(dir)
	err = f.do(Op{Kind: List, Name: dir}, func(Op) error {
		d := f.dirs[dir]
		if d == nil {
			return fs.ErrNotExist
		}
		names = slices.Sorted(maps.Keys(d.cached))
		return nil
	}, nil)
	return names, err
}

// Create implements disk.FS.
func (f *FS) Create(name string) (file disk.File, err error) {
	name = filepath.Clean(name)
	err = f.do(Op{Kind: Create, Name: name}, func(op Op) error {
		d, base, err := f.find(name)
		if err != nil {
			return err
		}
		if d.cached[base] != nil {
			return fs.ErrExist
		}
		file = f.open(d.make(f, op.N, base))
		return nil
	}, nil)
	return file, err
}

// Open implements disk.FS.
func (f *FS) Open(name string) (file disk.File, err error) {
	name = filepath.Clean(name)
	err = f.do(Op{Kind: Open, Name: name}, func(Op) error {
		d, base, err := f.find(name)
		if err != nil {
			return err
		}
		if d.cached[base] == nil {
			return fs.ErrNotExist
		}
		file = f.open(d.cached[base])
		return nil
	}, nil)
	return file, err
}

// Rename implements disk.FS. Both names must be in one directory.
func (f *FS) Rename(from, to string) error {
	from, to = filepath.Clean(from), filepath.Clean(to)
	return f.do(Op{Kind: Rename, Name: to}, func(op Op) error {
		d, base, err := f.find(from)
		if err != nil {
			return err
		}
		if filepath.Dir(from) != filepath.Dir(to) {
			return syscall.EXDEV
		}
		node := d.cached[base]
		if node == nil {
			return fs.ErrNotExist
		}
		if from != to {
			d.change(f, entry{op: op.N, from: base, to: filepath.Base(to), file: node})
		}
		return nil
	}, nil)
}

// Remove implements disk.FS.
func (f *FS) Remove(name string) error {
	name = filepath.Clean(name)
	return f.do(Op{Kind: Remove, Name: name}, func(op Op) error {
		d, base, err := f.find(name)
		if err != nil {
			return err
		}
		if d.cached[base] == nil {
			return fs.ErrNotExist
		}
		d.change(f, entry{op: op.N, from: base})
		return nil
	}, nil)
}

// SyncDir implements disk.FS.
func (f *FS) SyncDir(dir string) error {
	dir = filepath.Clean(dir)
	return f.do(Op{Kind: SyncDir, Name: dir}, func(Op) error {
		d := f.dirs[dir]
		if d == nil {
			return fs.ErrNotExist
		}
		if !f.o.NoSync {
			d.medium, d.pending = maps.Clone(d.cached), nil
		}
		return nil
	}, nil)
}

// Lock implements disk.FS.
func (f *FS) Lock(name string) (lock io.Closer, err error) {
	name = filepath.Clean(name)
	err = f.do(Op{Kind: Lock, Name: name}, func(op Op) error {
		d, base, err := f.find(name)
		if err != nil {
			return err
		}
		if f.locks[name] {
			return &disk.LockedError{Name: name, Holder: "1"}
		}
		if d.cached[base] == nil {
			d.make(f, op.N, base)
		}
		f.locks[name] = true
		lock = closer(func() error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if !f.locks[name] {
				return fs.ErrClosed
			}
			delete(f.locks, name)
			return nil
		})
		return nil
	}, nil)
	return lock, err
}

type closer func() error

func (c closer) Close() error { return c() }

// Space implements disk.FS.
func (f *FS) Space(dir string) (total, free int64, err error) {
	err = f.do(Op{Kind: Space, Name: dir}, func(Op) error {
		total, free = f.o.Size, max(0, f.o.Size-f.used)
		return nil
	}, nil)
	return total, free, err
}

// find splits a name into its directory, which must be there, and the rest.
func (f *FS) find(name string) (*directory, string, error) {
	d := f.dirs[filepath.Dir(name)]
	if d == nil {
		return nil, "", fs.ErrNotExist
	}
	return d, filepath.Base(name), nil
}

// directory is what a directory holds in this machine's memory and on the medium.
type directory struct {
	path           string
	cached, medium map[string]*file
	pending        []entry // what the medium does not know, in order
}

// entry is a change of a directory: a file has another name (from "" for a
// new file), or none any more (to "").
type entry struct {
	op       int64
	from, to string
	file     *file
}

func newDirectory(path string) *directory {
	return &directory{path: path, cached: make(map[string]*file), medium: make(map[string]*file)}
}

// make enters a new, empty file.
func (d *directory) make(f *FS, op int64, name string) *file {
	f.files++
	node := &file{number: f.files}
	d.change(f, entry{op: op, to: name, file: node})
	return node
}

// change makes a change in memory and notes it for the medium.
func (d *directory) change(f *FS, e entry) {
	for _, name := range []string{e.from, e.to} {
		if gone := d.cached[name]; gone != nil && gone != e.file {
			gone.linked = false
			f.free(gone)
		}
	}
	if e.file != nil {
		e.file.linked = true
		e.file.path = filepath.Join(d.path, e.to)
	}
	e.apply(d.cached)
	d.pending = append(d.pending, e)
}

// apply makes the change in a table of names. In one that has missed earlier
// changes it does its own part all the same.
func (e *entry) apply(names map[string]*file) {
	if e.from != "" && (e.file == nil || names[e.from] == e.file) {
		delete(names, e.from)
	}
	if e.to != "" {
		names[e.to] = e.file
	}
}
