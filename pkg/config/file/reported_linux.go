package file

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// local are file systems of which the kernel sees, and so reports, every edit:
// nobody writes to them but through it. Of others, those of a network or of the
// host of a virtual machine, it reports what is done on this side and no more.
var local = map[uint32]bool{
	0xef53:     true, // ext2, ext3, ext4
	0x58465342: true, // XFS
	0x9123683e: true, // Btrfs
	0xf2f52010: true, // F2FS
	0x2fc12fc1: true, // ZFS
	0x01021994: true, // tmpfs: a mounted Secret
	0x794c7630: true, // overlayfs: in a container
}

// reportedFolder says whether the kernel reports what comes, goes and is edited
// in a folder that is watched. It does not where a link leads there: of another
// folder in its place nothing is said.
func reportedFolder(folder string) bool {
	abs, err := filepath.Abs(folder)
	if err != nil {
		return false
	}
	if straight, err := filepath.EvalSymlinks(abs); err != nil || straight != abs {
		return false
	}
	var fs syscall.Statfs_t
	return syscall.Statfs(abs, &fs) == nil && local[uint32(fs.Type)]
}

// reportedFile says the same of a file in such a folder: that it is edited by
// this name, and not where a link leads, by another name, or where a mount has it
// from. The links of a mounted ConfigMap are swapped in the folder itself.
func reportedFile(path string, folder os.FileInfo) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if info.Mode()&os.ModeSymlink != 0 {
		to, err := os.Readlink(path)
		return err == nil && strings.HasPrefix(to, "..data/")
	}
	file, ok1 := info.Sys().(*syscall.Stat_t)
	in, ok2 := folder.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && file.Nlink == 1 && file.Dev == in.Dev
}
