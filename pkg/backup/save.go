package backup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Unsaved is what the name of a file ends with while Save writes it.
const Unsaved = ".tmp"

// Save writes an archive to the file target, which gets its name when all of
// it is verified and on the medium; until then it is target with Unsaved
// behind it, and after an error it is gone. Without replace a target that is
// there is left alone: the error is fs.ErrExist.
func Save(target string, replace bool, archive io.Reader) (_ *Manifest, err error) {
	temp := target + Unsaved
	// What an earlier backup left behind, which was killed.
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
	}()
	m, err := Copy(f, archive)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if !replace { // it may have come meanwhile
		if _, err := os.Lstat(target); err == nil {
			return nil, &fs.PathError{Op: "save", Path: target, Err: fs.ErrExist}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.Rename(temp, target); err != nil {
		return nil, err
	}
	return m, syncFolder(filepath.Dir(target))
}

// Copy passes an archive on to w and verifies it on its way: what w has is an
// archive only if the error is nil.
func Copy(w io.Writer, archive io.Reader) (*Manifest, error) {
	return Verify(io.TeeReader(archive, w))
}
