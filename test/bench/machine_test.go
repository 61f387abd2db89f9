package main

import (
	"testing"
)

func TestTheFileSystemIsThatOfTheNearestMount(t *testing.T) {
	const mounts = `22 1 254:0 / / rw - ext4 /dev/a rw
23 22 0:5 / /dev rw - devtmpfs udev rw
24 22 0:6 / /home rw shared:1 - tmpfs tmpfs rw
25 24 254:1 / /home rw - xfs /dev/b rw
26 22 254:2 / /my\040disk rw - btrfs /dev/c rw
broken
`
	for dir, want := range map[string]string{
		"/": "ext4", "/homes": "ext4", "/home": "xfs", "/home/me/penstock": "xfs", "/my disk/x": "btrfs", "/dev/shm": "devtmpfs",
	} {
		if got := fileSystem(mounts, dir); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
}
