//go:build unix

package cli

import (
	"io/fs"
	"syscall"
)

// Permission bits of the group and of all others.
const (
	read  fs.FileMode = 0o044
	enter fs.FileMode = 0o011
)

func othersMay(info fs.FileInfo, what fs.FileMode) bool { return info.Mode().Perm()&what != 0 }

// ownerOf is the user whose file it is.
func ownerOf(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return 0
}
