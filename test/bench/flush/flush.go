// Package flush opens and syncs a file as the log of package channel/disk does:
// blocks and length reserved at once, so that a sync writes data and no length. It
// is for the yardsticks of the disk rows, and no log: nothing is read back.
package flush

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock-events/penstock/test/bench/tally"
)

// FileSize is what a file reserves, the size of a segment.
const FileSize = 64 << 20

// Create makes a new file with FileSize reserved and its name durable.
func Create(name string) (f *os.File, err error) {
	if f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if err = reserve(f, FileSize); err != nil {
		return nil, fmt.Errorf("reserve %s: %w", name, err)
	}
	if err = f.Sync(); err != nil {
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return f, dir.Sync()
}

// Measure writes n times size bytes, one after the other, each with a sync, and
// counts how long each took.
func Measure(name string, n, size int, took *tally.Histogram) (err error) {
	f, err := Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	record := make([]byte, size)
	for i := range record {
		record[i] = byte(i) // no file system may take it for a hole
	}
	for at := int64(0); n > 0; n-- {
		if at+int64(size) > FileSize {
			at = 0
		}
		start := time.Now()
		if _, err := f.WriteAt(record, at); err != nil {
			return err
		}
		if err := Sync(f); err != nil {
			return err
		}
		took.Add(time.Since(start))
		at += int64(size)
	}
	return nil
}
