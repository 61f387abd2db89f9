//go:build !linux

package disk

// Where there is no fallocate only the length is set: running out of space
// then shows as a write error, which latches the log.
func (f osFile) Allocate(size int64) error { return f.Truncate(size) }

func (f osFile) Datasync() error { return f.Sync() }

func (f osFile) Uncache() error { return nil }

func (osFS) Space(string) (total, free int64, err error) { return 0, 0, nil }
