package journal

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// store is where the files are. Names have no directory. Its methods may be
// called concurrently.
type store interface {
	list() ([]string, error)
	// create makes an empty file, also where there was one.
	create(name string) (file, error)
	// open opens a file for reading, and for writing where asked.
	open(name string, write bool) (file, error)
	rename(from, to string) error
	// remove succeeds where there is no such file.
	remove(name string) error
}

// file is one open file.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
}

// directory is a store on disk.
type directory string

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

func (d directory) list() ([]string, error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (d directory) create(name string) (file, error) {
	const flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	f, err := os.OpenFile(d.path(name), flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(string(d), 0o700) == nil {
		// Somebody removed the directory.
		f, err = os.OpenFile(d.path(name), flags, 0o600)
	}
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d directory) open(name string, write bool) (file, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR
	}
	f, err := os.OpenFile(d.path(name), flags, 0)
	if err != nil {
		return nil, err
	}
	return diskFile{f}, nil
}

func (d directory) rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }

func (d directory) remove(name string) error {
	if err := os.Remove(d.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

type diskFile struct{ *os.File }

func (f diskFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// memory is a store in memory.
type memory struct {
	mu    sync.Mutex
	files map[string]*memoryFile
}

func newMemory() *memory { return &memory{files: make(map[string]*memoryFile)} }

func (m *memory) list() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.files {
		names = append(names, name)
	}
	return names, nil
}

func (m *memory) create(name string) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &memoryFile{}
	m.files[name] = f
	return f, nil
}

func (m *memory) open(name string, _ bool) (file, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

func (m *memory) rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[to] = m.files[from]
	delete(m.files, from)
	return nil
}

func (m *memory) remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// memoryFile grows by chunks, so that what was written is never copied.
type memoryFile struct {
	mu     sync.RWMutex
	chunks [][]byte
	size   int64
}

const chunk = 16 << 10

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	n := 0
	for n < len(p) && off < f.size {
		from := f.chunks[off/chunk][off%chunk:]
		from = from[:min(int64(len(from)), f.size-off)]
		k := copy(p[n:], from)
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n := 0; n < len(p); {
		at := off + int64(n)
		for at/chunk >= int64(len(f.chunks)) {
			f.chunks = append(f.chunks, make([]byte, chunk))
		}
		n += copy(f.chunks[at/chunk][at%chunk:], p[n:])
	}
	f.size = max(f.size, off+int64(len(p)))
	return len(p), nil
}

func (f *memoryFile) Size() (int64, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.size, nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.size = min(f.size, size)
	f.chunks = f.chunks[:(f.size+chunk-1)/chunk]
	return nil
}

func (f *memoryFile) Close() error { return nil }
