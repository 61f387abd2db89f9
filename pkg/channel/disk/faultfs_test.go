package disk

import (
	"errors"
	"sync/atomic"
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
