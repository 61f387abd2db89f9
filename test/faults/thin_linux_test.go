package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// thin is a volume that promises more than there is: a sparse image on a small
// tmpfs, as thin provisioning sells it. When the tmpfs is full, writing back a
// page fails in the kernel, the page is marked clean all the same, and the
// next sync has nothing left to complain about.
type thin struct {
	*volume
	under   string // the tmpfs
	ballast string
}

// newThin makes a thin volume that takes about room MiB more, and then fails
// until relieve.
func newThin(t testing.TB, room int, flags ...string) *thin {
	t.Helper()
	under, err := os.MkdirTemp(scratch, "thin-")
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 // MiB of the tmpfs
	if err := unix.Mount("tmpfs", under, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(under, 0); err != nil {
			t.Error(err)
		}
		_ = os.Remove(under)
	})
	v := &thin{volume: newVolumeOn(t, under, 512, flags...), under: under, ballast: filepath.Join(under, "ballast")}
	v.touchJournal()
	v.attach()
	// With larger requests the loop driver reports a write that was cut short
	// as done, and a record is lost that nobody was told of.
	set(t, "/sys/block/"+v.name()+"/queue/max_sectors_kb", "4")
	v.mount()

	var s unix.Statfs_t
	if err := unix.Statfs(under, &s); err != nil {
		t.Fatal(err)
	}
	heavy := int64(s.Bavail)*s.Bsize - int64(room)<<20
	if err := os.WriteFile(v.ballast, make([]byte, heavy), 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

// relieve gives the volume all the room that it promised.
func (v *thin) relieve() {
	v.t.Helper()
	if err := os.Remove(v.ballast); err != nil {
		v.t.Fatal(err)
	}
}

// touchJournal makes the journal's blocks real: it is the data that is to
// meet the lack of room.
func (v *thin) touchJournal() {
	v.t.Helper()
	out, err := exec.Command("debugfs", "-R", "blocks <8>", v.image).Output()
	if err != nil {
		v.t.Fatalf("debugfs: %v", err)
	}
	file, err := os.OpenFile(v.image, os.O_RDWR, 0)
	if err != nil {
		v.t.Fatal(err)
	}
	defer file.Close()
	const block = 4096
	page := make([]byte, block)
	for _, word := range regexp.MustCompile(`\d+`).FindAllString(strings.TrimSpace(string(out)), -1) {
		var n int64
		if _, err := fmt.Sscan(word, &n); err != nil {
			v.t.Fatal(err)
		}
		if _, err := file.ReadAt(page, n*block); err != nil {
			v.t.Fatal(err)
		}
		if _, err := file.WriteAt(page, n*block); err != nil {
			v.t.Fatal(err)
		}
	}
}
