package disk

import (
	"errors"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/windows"
)

// Lock uses LockFileEx on a byte far behind the contents, so that others can
// still read who holds it.
func (osFS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	at := &windows.Overlapped{OffsetHigh: 1}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, at)
	if err != nil {
		defer f.Close()
		if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
			holder, _ := io.ReadAll(io.LimitReader(f, 32))
			return nil, &LockedError{Name: name, Holder: string(holder)}
		}
		return nil, err
	}
	pid := []byte(strconv.Itoa(os.Getpid()))
	if _, err := f.WriteAt(pid, 0); err != nil {
		f.Close()
		return nil, err
	}
	if err := f.Truncate(int64(len(pid))); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// SyncDir has nothing to do: NTFS journals directory entries itself.
func (osFS) SyncDir(string) error { return nil }
