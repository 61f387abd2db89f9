//go:build unix

package disk

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Lock uses flock: the kernel frees it with the process, however that ends.
func (o osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder, _ := io.ReadAll(io.LimitReader(f, 32))
			return nil, &LockedError{Name: name, Holder: strings.TrimSpace(string(holder))}
		}
		return nil, err
	}
	if err := errors.Join(f.Truncate(0), writePID(f)); err != nil {
		f.Close()
		return nil, err
	}
	if o.owned == nil {
		return f, nil
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		f.Close()
		return nil, err
	}
	o.owned.path, o.owned.file = filepath.Dir(name), dir
	return lock{f, dir}, nil
}

// lock is a lock with the directory it is in.
type lock struct{ file, dir *os.File }

func (l lock) Close() error { return errors.Join(l.file.Close(), l.dir.Close()) }

// Probe keeps owners out as Lock does, leaves the file as it is, and lets
// others look at the same time.
func (osFS) Probe(name string) (io.Closer, error) {
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			holder, _ := io.ReadAll(io.LimitReader(f, 32))
			return nil, &LockedError{Name: name, Holder: strings.TrimSpace(string(holder))}
		}
		return nil, err
	}
	return f, nil
}

func writePID(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (o osFS) SyncDir(dir string) error {
	if !syncing {
		return nil
	}
	if o.owned != nil && o.owned.path == filepath.Clean(dir) {
		return o.owned.file.Sync()
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
