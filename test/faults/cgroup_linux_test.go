package faults

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// controller wants a cgroup v1 controller to be mounted.
func controller(name string) func() error {
	return func() error {
		if err := root(); err != nil {
			return err
		}
		if _, err := os.Stat(filepath.Join("/sys/fs/cgroup", name, "cgroup.procs")); err != nil {
			return fmt.Errorf("needs the cgroup v1 controller %s", name)
		}
		return nil
	}
}

// newCgroup makes a group of a controller and returns its folder. Processes of
// the test must have ended when the test does.
func newCgroup(t *testing.T, controller string) string {
	t.Helper()
	name := strings.NewReplacer("/", "-", "#", "-").Replace(t.Name())
	dir := filepath.Join("/sys/fs/cgroup", controller, fmt.Sprintf("%s%d-%s", namePrefix, os.Getpid(), name))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// inside is the command that starts another in a cgroup.
func inside(cgroup string) []string {
	return []string{"sh", "-c", `echo $$ > "$0/cgroup.procs" && exec "$@"`, cgroup}
}

// kernelFile reads a file of /proc or /sys; "" where it has gone.
func kernelFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		t.Fatal(err)
	}
	return string(text)
}
