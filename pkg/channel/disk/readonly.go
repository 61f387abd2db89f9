package disk

import (
	"errors"
	"io"
	"os"
)

// readOnly is a file layer through which nothing can be changed.
type readOnly struct{ FS }

// errReadOnly is what Check would get if it tried to write.
var errReadOnly = errors.New("the store is only read")

// opener is a file layer that can open files it may not write.
type opener interface {
	OpenRead(name string) (File, error)
}

// prober is a file layer that can take a lock without writing. Where the
// file is absent nobody holds the lock, and the result is nil.
type prober interface {
	Probe(name string) (io.Closer, error)
}

func (osFS) OpenRead(name string) (File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (r readOnly) Open(name string) (File, error) {
	open := r.FS.Open
	if o, ok := r.FS.(opener); ok {
		open = o.OpenRead
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return readOnlyFile{f}, nil
}

// Lock keeps owners out for as long as the check takes.
func (r readOnly) Lock(name string) (io.Closer, error) {
	p, ok := r.FS.(prober)
	if !ok {
		return r.FS.Lock(name)
	}
	c, err := p.Probe(name)
	if c == nil && err == nil {
		c = io.NopCloser(nil)
	}
	return c, err
}

func (readOnly) MkdirAll(string) error       { return errReadOnly }
func (readOnly) Create(string) (File, error) { return nil, errReadOnly }
func (readOnly) Rename(string, string) error { return errReadOnly }
func (readOnly) Remove(string) error         { return errReadOnly }
func (readOnly) SyncDir(string) error        { return errReadOnly }

// readOnlyFile is one of its files. There is nothing to sync: recovery does
// so before it believes what it reads, Check promises nothing to anybody.
type readOnlyFile struct{ File }

func (readOnlyFile) WriteAt([]byte, int64) (int, error) { return 0, errReadOnly }
func (readOnlyFile) Allocate(int64) error               { return errReadOnly }
func (readOnlyFile) Truncate(int64) error               { return errReadOnly }
func (readOnlyFile) Datasync() error                    { return nil }
func (readOnlyFile) Sync() error                        { return nil }
