package main

import (
	"strings"
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

func TestAGaugeIsFoundByItsWholeName(t *testing.T) {
	const metrics = "# TYPE b gauge\nb{t=\"ab\"} 7\nb{t=\"a\"} 1.000001e+06\n"
	if got, err := gauge(strings.NewReader(metrics), `b{t="a"}`); err != nil || got != 1_000_001 {
		t.Errorf("%d, %v, want 1000001", got, err)
	}
	if _, err := gauge(strings.NewReader(metrics), "b"); err == nil {
		t.Error("a gauge that is not there was found")
	}
}
