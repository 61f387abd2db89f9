package disk

import (
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
)

var small = Options{FS: quickFS{}, SegmentSize: 256 << 10, TailBytes: 64 << 10}

func openSmall(t *testing.T, dir string) channel.Log {
	t.Helper()
	l, err := Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestDiskKeepsTheContract(t *testing.T) {
	channeltest.Run(t, func(t *testing.T) channel.Log { return openSmall(t, t.TempDir()) })
}

func TestDiskSurvivesCrashes(t *testing.T) {
	channeltest.RunDurable(t, func(t *testing.T) func(*testing.T, bool) channel.Log {
		dir := t.TempDir()
		return func(t *testing.T, crash bool) channel.Log {
			if crash {
				dir = copyStore(t, dir)
			}
			return openSmall(t, dir)
		}
	})
}

// copyStore copies a store whose owner may be writing: what a crash leaves.
// Checkpoints come first, for each speaks of segments as they were before it.
func copyStore(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	sort.SliceStable(entries, func(i, j int) bool {
		return strings.HasSuffix(entries[i].Name(), ".ckpt") && !strings.HasSuffix(entries[j].Name(), ".ckpt")
	})
	for _, e := range entries {
		if e.Name() == "LOCK" || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		copyFile(t, filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
	}
	return to
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if os.IsNotExist(err) {
		return // removed between the listing and now
	}
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
