package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// FS is the file layer under a Log. The real one is used where Options.FS is
// nil; tests put one in between that fails, tears and forgets. Names are full
// paths. Its methods may be called concurrently.
type FS interface {
	// MkdirAll makes a directory that only its owner may enter.
	MkdirAll(dir string) error
	// List names the files in a directory, in any order.
	List(dir string) ([]string, error)
	// Create makes a file that was not there, readable by its owner alone.
	Create(name string) (File, error)
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Rename replaces the target if there is one.
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes creations, renames and removals in a directory durable.
	SyncDir(dir string) error
	// Lock takes the exclusive lock that the named file stands for, until the
	// result is closed or the process ends. Where somebody else holds it the
	// error is a *LockedError.
	Lock(name string) (io.Closer, error)
	// Space is the size of the volume and what is free on it for us, in bytes.
	// A total of 0 means that it is not known.
	Space(dir string) (total, free int64, err error)
}

// File is one open file. Reads and writes may run concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size is the length in bytes.
	Size() (int64, error)
	// Allocate makes the file size bytes long and reserves the space for them.
	Allocate(size int64) error
	// Truncate cuts the file.
	Truncate(size int64) error
	// Datasync makes what was written durable, but perhaps not times.
	Datasync() error
	// Sync makes everything about the file durable.
	Sync() error
	// Uncache asks that later reads come from the medium and not from memory.
	Uncache() error
}

// LockedError says that a data directory has an owner already.
type LockedError struct {
	Name   string // of the lock file
	Holder string // what the owner wrote into it: its process id
}

func (e *LockedError) Error() string {
	holder := e.Holder
	if holder == "" {
		holder = "unknown"
	}
	return "data directory " + filepath.Dir(e.Name) + " is in use by process " + holder +
		": stop that process or choose another directory"
}

// osFS is the operating system's file system. owned may be nil.
type osFS struct{ owned *ownedDir }

// ownedDir is the directory of the lock that is held, open as long as that:
// a name in it is made durable when bytes are written already, and must not
// fail then because a flood of connections has taken every file descriptor.
type ownedDir struct {
	path string
	file *os.File
}

func (fs osFS) MkdirAll(dir string) error {
	made, err := mkdirs(dir)
	if err != nil {
		return err
	}
	// Or a power cut takes the whole store. All at once: they wait for the same disk.
	errs := make([]error, len(made))
	var synced sync.WaitGroup
	for i, dir := range made {
		synced.Go(func() { errs[i] = fs.SyncDir(filepath.Dir(dir)) })
	}
	synced.Wait()
	for _, err := range errs {
		if err != nil && !errors.Is(err, os.ErrPermission) { // we may write there, but not open it
			return err
		}
	}
	return nil
}

// mkdirs makes a directory with all above it, and returns those it has made.
func mkdirs(dir string) (made []string, err error) {
	if _, err := os.Stat(dir); err == nil {
		return nil, nil
	}
	if parent := filepath.Dir(dir); parent != dir {
		if made, err = mkdirs(parent); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	return append(made, dir), nil
}

func (osFS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string) (File, error) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Rename(from, to string) error { return os.Rename(from, to) }
func (osFS) Remove(name string) error     { return os.Remove(name) }

// osFile adds to os.File what the platforms do differently.
type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) Sync() error {
	if !syncing {
		return nil
	}
	return f.File.Sync()
}

// isFull reports whether an error says that there is no space.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// isExhausted reports whether an error says that this process, or all of
// them, have too many files open: nothing is wrong with the medium.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
