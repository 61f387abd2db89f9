package file

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

const aTrigger = `apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: %s}
spec: {broker: %s, subscriber: {uri: "http://localhost:3000"}}
---
`

func triggers(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, aTrigger, n, "default")
	}
	return b.String()
}

// running is a Source that watches, with the real file system's reports.
type running struct {
	t         *testing.T
	snapshots chan *config.Snapshot
}

func run(t *testing.T, s *Source) *running {
	t.Helper()
	r := &running{t: t, snapshots: make(chan *config.Snapshot, 100)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, func(n *config.Snapshot) { r.snapshots <- n }) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// until waits for a Snapshot that fits. The wait is long because machines are
// busy; that an edit counts within a second is a matter of virtual time below.
func (r *running) until(what string, fits func(*config.Snapshot) bool) *config.Snapshot {
	r.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case s := <-r.snapshots:
			if fits(s) {
				return s
			}
		case <-deadline:
			r.t.Fatalf("still not: %s", what)
		}
	}
}

func live(s *config.Snapshot, name string) bool {
	t, ok := s.Trigger("default", name)
	return ok && !t.Held
}

func isHeld(s *config.Snapshot, name string) bool {
	t, ok := s.Trigger("default", name)
	return ok && t.Held
}

func TestEditsAreInForceHoweverAnEditorMakesThem(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "triggers.yaml")
	write(t, path, triggers("a"))
	s, _ := start(t, Options{Paths: []string{path}})
	r := run(t, s)

	write(t, path, triggers("a", "b"))
	r.until("b written in place", func(s *config.Snapshot) bool { return live(s, "b") })

	// vim and many others: write beside, rename over.
	write(t, filepath.Join(dir, "4913"), triggers("a", "b", "c"))
	if err := os.Rename(filepath.Join(dir, "4913"), path); err != nil {
		t.Fatal(err)
	}
	r.until("c renamed over", func(s *config.Snapshot) bool { return live(s, "c") })

	write(t, path, triggers("a", "c"))
	now := r.until("b taken out", func(s *config.Snapshot) bool { return isHeld(s, "b") })
	if b := trigger(t, now, "default", "b"); b.Filter == nil || b.Ready || b.Reason != config.ReasonRemoved {
		t.Errorf("a Trigger in its grace matches and is not delivered to; it is %+v", b)
	}
	if !live(now, "a") || !live(now, "c") {
		t.Error("the others are as they were")
	}
}

func TestFilesComeAndGoInAFolder(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.yaml"), triggers("a"))
	write(t, filepath.Join(dir, ".hidden.yaml"), triggers("hidden"))
	write(t, filepath.Join(dir, "notes.txt"), triggers("notes"))
	if err := os.MkdirAll(filepath.Join(dir, "below.yaml"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "below.yaml", "deep.yaml"), triggers("deep"))
	s, first := start(t, Options{Paths: []string{dir}})
	if n := len(first.Triggers()); n != 1 || !live(first, "a") {
		t.Fatalf("%d Triggers, want a alone", n)
	}
	r := run(t, s)
	write(t, filepath.Join(dir, "b.yml"), triggers("b"))
	r.until("b in a new file", func(s *config.Snapshot) bool { return live(s, "b") })
	if err := os.Rename(filepath.Join(dir, "b.yml"), filepath.Join(dir, "c.json")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "d.yaml"), triggers("d"))
	now := r.until("d in a new file", func(s *config.Snapshot) bool { return live(s, "d") })
	if !live(now, "b") {
		t.Error("a file was renamed, which is no matter to what it declares")
	}
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	r.until("a gone with its file", func(s *config.Snapshot) bool { return isHeld(s, "a") })
}

// Kubernetes mounts a ConfigMap as files that are links through ..data, and
// swaps that.
func TestMountedConfigMapIsReadAfterItsSwap(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name, "all.yaml"), text)
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..1", triggers("a"))
	if err := os.Symlink("..data/all.yaml", filepath.Join(dir, "all.yaml")); err != nil {
		t.Fatal(err)
	}
	s, first := start(t, Options{Paths: []string{dir}})
	if !live(first, "a") || len(first.Triggers()) != 1 {
		t.Fatalf("triggers are %v", first.Triggers())
	}
	r := run(t, s)
	version("..2", triggers("a", "b"))
	r.until("b in the new version", func(s *config.Snapshot) bool { return live(s, "b") })
}

func TestFileThatDoesNotParseKeepsItsLastGoodVersion(t *testing.T) {
	dir := t.TempDir()
	bad, good := filepath.Join(dir, "bad.yaml"), filepath.Join(dir, "good.yaml")
	write(t, bad, triggers("a"))
	write(t, good, triggers("b"))
	s, _ := start(t, Options{Paths: []string{dir}})
	r := run(t, s)

	write(t, bad, "{ not yaml")
	now := r.until("problem told", func(s *config.Snapshot) bool { return len(s.Problems()) == 1 })
	if !live(now, "a") || !live(now, "b") {
		t.Error("both Triggers are in force as before")
	}
	if p := now.Problems()[0]; !strings.HasPrefix(p.Origin, bad+":") || !strings.Contains(p.Message, "last good version") {
		t.Errorf("problem is %v", p)
	}
	write(t, bad, triggers("a", "c"))
	now = r.until("mended", func(s *config.Snapshot) bool { return live(s, "c") })
	if len(now.Problems()) != 0 {
		t.Errorf("problems are %v", now.Problems())
	}
}

func TestNamedFileThatVanishesKeepsItsLastGoodVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a"))
	s, _ := start(t, Options{Paths: []string{path}})
	r := run(t, s)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	now := r.until("problem told", func(s *config.Snapshot) bool { return len(s.Problems()) == 1 })
	if !live(now, "a") || !strings.Contains(now.Problems()[0].String(), "no such file or folder") {
		t.Errorf("problems are %v", now.Problems())
	}
	write(t, path, triggers("b"))
	r.until("back with b", func(s *config.Snapshot) bool { return live(s, "b") })
}

func TestPathThatCannotBeReadIsAnErrorOfOneLineAtTheStart(t *testing.T) {
	dir := t.TempDir()
	for name, path := range map[string]string{
		"absent":     filepath.Join(dir, "absent.yaml"),
		"not a file": os.DevNull,
	} {
		_, err := New(Options{Paths: []string{path, filepath.Join(dir, "other")}}).Load()
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	path := filepath.Join(dir, "denied.yaml")
	write(t, path, "")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Paths: []string{path}}).Load()
	if err == nil || !strings.Contains(err.Error(), "permission denied: make it readable") {
		t.Errorf("error is %v", err)
	}
}

func TestProblemIsLoggedOnceForAsLongAsItLasts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, "{ not yaml")
	var log strings.Builder
	s, _ := start(t, Options{Paths: []string{path}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	told := func() int { return strings.Count(log.String(), "configuration needs a look") }
	look := func() { s.look(func(*config.Snapshot) {}) }
	look()
	write(t, path, "{ not yaml\n")
	look()
	if told() != 1 {
		t.Errorf("told %d times:\n%s", told(), log.String())
	}
	write(t, path, triggers("a"))
	look()
	write(t, path, "{ not yaml")
	look()
	if told() != 2 {
		t.Errorf("told %d times after it came back:\n%s", told(), log.String())
	}
}
