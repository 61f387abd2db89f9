//go:build unix

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// Root may read everything, so the broker runs as nobody where the test runs
// as root.
func TestUnreadableFileIsToldWithItsCure(t *testing.T) {
	const nobody = 65534
	dir, err := os.MkdirTemp("", "penstock-unreadable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for path, mode := range map[string]os.FileMode{dir: 0o777, filepath.Dir(penstock): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	file := write(t, filepath.Join(dir, "triggers.yaml"), "")
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, closed} {
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(penstock, slices.Concat([]string{"serve", "--data", filepath.Join(dir, "data"), "-f", path}, anywhere)...)
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		got := refused(t, 1, cmd)
		if want := "Error: read " + path + ": permission denied: make it readable for the user who runs penstock"; got != want {
			t.Errorf("says\n%s\nwant\n%s", got, want)
		}
	}
}
