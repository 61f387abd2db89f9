package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// loops wants mounts of our own and a free loop device.
func loops() error {
	if err := root(); err != nil {
		return err
	}
	if scratch == "" {
		return errors.New("needs to mount file systems")
	}
	if err := tool("mkfs.ext4")(); err != nil {
		return err
	}
	image := filepath.Join(scratch, "probe")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o600); err != nil {
		return err
	}
	defer os.Remove(image)
	d, err := attachLoop(image)
	if err != nil {
		return fmt.Errorf("needs loop devices: %w", err)
	}
	return d.Close()
}

// attachLoop makes a block device of a file. It goes when the result is closed
// and nothing on it is mounted: also when this process is killed.
func attachLoop(image string) (*os.File, error) {
	file, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("free loop device: %w", err)
		}
		name := "/dev/loop" + strconv.Itoa(n)
		device, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		copy(config.Info.File_name[:len(config.Info.File_name)-1], namePrefix+filepath.Base(image))
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &config); err == nil {
			return device, nil
		}
		err = errors.Join(err, device.Close())
		if !errors.Is(err, unix.EBUSY) { // somebody else was quicker
			return nil, fmt.Errorf("make %s of %s: %w", name, image, err)
		}
	}
	return nil, errors.New("no loop device is free")
}

// leftovers names what runs that are over have left behind. It is told, not
// removed: it may be wanted.
func leftovers() (left []string) {
	for _, pattern := range []string{
		filepath.Join(os.TempDir(), namePrefix+"[0-9]*"),
		"/sys/fs/cgroup/*/" + namePrefix + "*",
	} {
		names, _ := filepath.Glob(pattern) // the pattern is good
		for _, name := range names {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), namePrefix), "-")
			if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
				left = append(left, name)
			}
		}
	}
	return left
}

// set writes one value to a file of the kernel's.
func set(t testing.TB, file, value string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
}
