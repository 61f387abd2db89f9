//go:build unix

package process

import "syscall"

// descriptorLimit is how many file descriptors this process may have, 0 where
// that is not known. The runtime has raised it as far as it goes.
func descriptorLimit() uint64 {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return uint64(limit.Cur) // signed on some systems
}
