//go:build !linux

package flush

import "os"

func reserve(f *os.File, size int64) error { return f.Truncate(size) }

// Sync makes what was written durable.
func Sync(f *os.File) error { return f.Sync() }
