package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Allocate reserves blocks, so that writing into the file cannot run out of
// space, and sets the length, so that fdatasync need not.
func (f osFile) Allocate(size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) {
		// A file system without fallocate: the length alone. Running out of
		// space then shows as a write error, which latches the log.
		return f.Truncate(size)
	}
	return err
}

func (f osFile) Datasync() error {
	if !syncing {
		return nil
	}
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Uncache drops the clean pages. After a failed sync Linux marks pages clean
// that never reached the medium: reading them from memory would verify
// nothing (Rebello et al., "Can Applications Recover from fsync Failures?").
func (f osFile) Uncache() error {
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

func (osFS) Space(dir string) (total, free int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Blocks) * s.Bsize, int64(s.Bavail) * s.Bsize, nil
}
