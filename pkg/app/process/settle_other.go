//go:build !linux

package process

import "runtime/debug"

// Settle gives back memory that only the start has needed.
func Settle() { debug.FreeOSMemory() }
