package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// volume is an ext4 file system of its own on a loop device.
type volume struct {
	t       testing.TB
	dir     string   // where it is mounted
	image   string   // the file under it
	device  *os.File // the loop device
	options string   // of mount
	mounted bool
}

// newVolume makes a volume of so many MiB on the scratch, with further flags
// of mkfs.ext4.
func newVolume(t testing.TB, mib int, flags ...string) *volume {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "volume-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // after unmount
	return newVolumeOn(t, dir, mib, flags...)
}

// newVolumeOn makes its volume of a file in a folder.
func newVolumeOn(t testing.TB, folder string, mib int, flags ...string) *volume {
	t.Helper()
	v := &volume{t: t, dir: t.TempDir(), image: filepath.Join(folder, "image")}
	file, err := os.Create(v.image)
	if err == nil {
		err = errors.Join(file.Truncate(int64(mib)<<20), file.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	flags = append(append([]string{"-q", "-F", "-m", "0"}, flags...), v.image)
	if out, err := exec.Command("mkfs.ext4", flags...).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v\n%s", err, out)
	}
	return v
}

// attach makes the block device.
func (v *volume) attach() *volume {
	v.t.Helper()
	var err error
	if v.device, err = attachLoop(v.image); err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() {
		v.unmount()
		_ = v.device.Close()
	})
	return v
}

// name is the kernel's for the device: loop3.
func (v *volume) name() string { return filepath.Base(v.device.Name()) }

func (v *volume) mount() *volume {
	v.t.Helper()
	if v.device == nil {
		v.attach()
	}
	if err := unix.Mount(v.device.Name(), v.dir, "ext4", 0, v.options); err != nil {
		v.t.Fatalf("mount %s: %v", v.device.Name(), err)
	}
	v.mounted = true
	return v
}

// unmount waits for what the end of a process still holds.
func (v *volume) unmount() {
	v.t.Helper()
	if !v.mounted {
		return
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		err := unix.Unmount(v.dir, 0)
		if err == nil {
			v.mounted = false
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			v.t.Fatalf("unmount %s: %v", v.dir, err)
		}
	}
}

// cut takes the volume's power from a running broker and gives it back: what
// the file system has not been made to write is gone.
//
// The process is stopped before. While it runs the kernel itself may answer an
// fdatasync that races the shutdown with success (2 of 60 rounds with a
// program that did nothing else), and the broker would be blamed for that.
func (v *volume) cut(b *broker.Broker) {
	v.t.Helper()
	stop(v.t, b)
	v.shutdown()
	b.Kill()
	v.unmount()
	v.mount()
}

// shutdown makes the file system drop what it has in memory.
func (v *volume) shutdown() {
	v.t.Helper()
	const (
		fsIocShutdown = 0x8004587d // _IOR('X', 125, __u32)
		noLogFlush    = 2
	)
	dir, err := os.Open(v.dir)
	if err != nil {
		v.t.Fatal(err)
	}
	defer dir.Close()
	if err := unix.IoctlSetPointerInt(int(dir.Fd()), fsIocShutdown, noLogFlush); err != nil {
		v.t.Fatalf("shut %s down: %v", v.dir, err)
	}
}

// stop stops a broker and returns when every thread of it stands still.
func stop(t testing.TB, b *broker.Broker) {
	t.Helper()
	b.Signal(unix.SIGSTOP)
	broker.Await(t, "all threads of the broker are stopped", func() bool {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", b.PID()))
		if err != nil || len(files) == 0 {
			t.Fatalf("threads of process %d: %v", b.PID(), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				continue // a thread that has ended meanwhile
			}
			// pid (name) STATE: the name may hold anything.
			_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')')+1:]), " ")
			if !strings.HasPrefix(rest, "T") && !strings.HasPrefix(rest, "t") {
				return false
			}
		}
		return true
	})
}

// sync makes the file system write all it has.
func (v *volume) sync() {
	v.t.Helper()
	dir, err := os.Open(v.dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(dir.Fd())), dir.Close())
	}
	if err != nil {
		v.t.Fatal(err)
	}
}
