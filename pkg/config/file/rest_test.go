package file

import (
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
)

// reporting skips a test where the file system of temporary files does not
// report every edit.
func reporting(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !reportedFolder(dir) {
		t.Skip("edits of temporary files are not reported here")
	}
	return dir
}

// The clock is asked for each file at each look, so who counts that counts looks.
func TestFilesOfWhichEveryEditIsReportedAreLeftInPeace(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	dir := reporting(t)
	path := filepath.Join(dir, "a.yaml")
	write(t, path, triggers("a"))
	var looks atomic.Int64
	s, _ := start(t, Options{Paths: []string{dir}, Now: func() time.Time { looks.Add(1); return time.Now() }})
	r := run(t, s)
	time.Sleep(2 * poll)
	before := looks.Load()
	time.Sleep(8 * poll)
	if n := looks.Load() - before; n > 3 {
		t.Errorf("%d looks in %v", n, 8*poll)
	}
	edited := time.Now()
	write(t, path, triggers("a", "b"))
	r.until("b", func(s *config.Snapshot) bool { return live(s, "b") })
	if took := time.Since(edited); took > slowPoll/2 {
		t.Errorf("an edit that is reported is in force after %v", took)
	}
}

// What is edited where nobody reports it must be polled, or the promise of a
// second is broken there. That the poll keeps it is a matter of virtual time.
func TestWhatMayBeEditedUnseenIsPolled(t *testing.T) {
	dir := reporting(t)
	text := triggers("a")
	folder := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to, path string) {
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	elsewhere := folder("elsewhere")
	write(t, filepath.Join(elsewhere, "x.yaml"), text)
	write(t, filepath.Join(elsewhere, "y.yaml"), text)

	plain := folder("plain")
	write(t, filepath.Join(plain, "a.yaml"), text)
	write(t, filepath.Join(plain, "b.yaml"), text)

	linked := folder("linked")
	link("../elsewhere/x.yaml", filepath.Join(linked, "a.yaml"))

	mounted := folder("mounted")
	if err := os.Mkdir(filepath.Join(mounted, "..1"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(mounted, "..1", "a.yaml"), text)
	link("..1", filepath.Join(mounted, "..data"))
	link("..data/a.yaml", filepath.Join(mounted, "a.yaml"))

	twice := folder("twice")
	if err := os.Link(filepath.Join(elsewhere, "y.yaml"), filepath.Join(twice, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	link("plain", filepath.Join(dir, "current"))

	broken := folder("broken")
	write(t, filepath.Join(broken, "a.yaml"), "a: [")

	for _, c := range []struct {
		what  string
		paths []string
		rests bool
	}{
		{"a folder", []string{plain}, true},
		{"a folder, by another spelling", []string{plain + "/../plain/"}, true},
		{"a file", []string{filepath.Join(plain, "a.yaml")}, true},
		{"an empty folder", []string{folder("empty")}, true},
		{"a mounted ConfigMap", []string{mounted}, true},
		{"a file that is a link", []string{linked}, false},
		{"a file that has two names", []string{twice}, false},
		{"a folder that is a link", []string{filepath.Join(dir, "current")}, false},
		{"a file in such a folder", []string{filepath.Join(dir, "current", "a.yaml")}, false},
		{"a file that does not parse", []string{broken}, false},
		{"one of each", []string{plain, linked}, false},
	} {
		s, _ := start(t, Options{Paths: c.paths})
		w := s.watch()
		if rest, some := s.rest(w); !some || rest != poll {
			t.Errorf("%s: the first look behind a new watch comes after %v", c.what, rest)
		}
		s.look(func(*config.Snapshot) {})
		w.add(s)
		want := poll
		if c.rests {
			want = slowPoll
		}
		if rest, some := s.rest(w); !some || rest != want {
			t.Errorf("%s: looked at after %v, want %v", c.what, rest, want)
		}
		w.close()
	}
}

// A folder that is replaced is another: its watch has gone with the old one.
func TestAFolderThatIsReplacedIsWatchedAgain(t *testing.T) {
	dir := reporting(t)
	for _, named := range []string{"conf", "conf/a.yaml"} {
		t.Run(named, func(t *testing.T) {
			conf, path := filepath.Join(dir, "conf"), filepath.Join(dir, "conf", "a.yaml")
			replace := func(names ...string) {
				t.Helper()
				next := filepath.Join(dir, "next")
				if err := os.Mkdir(next, 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(next, "a.yaml"), triggers(names...))
				_ = os.Rename(conf, filepath.Join(t.TempDir(), "old"))
				if err := os.Rename(next, conf); err != nil {
					t.Fatal(err)
				}
			}
			replace("a")
			s, _ := start(t, Options{Paths: []string{filepath.Join(dir, named)}})
			r := run(t, s)
			time.Sleep(2 * poll) // it rests
			names := []string{"a"}
			for _, name := range []string{"b", "c"} {
				begun := time.Now()
				names = append(names, name)
				replace(names...)
				r.until(name+" in another folder", func(s *config.Snapshot) bool { return live(s, name) })
				names = append(names, name+"2")
				write(t, path, triggers(names...))
				r.until(name+"2 in it", func(s *config.Snapshot) bool { return live(s, name+"2") })
				if took := time.Since(begun); took > slowPoll/2 {
					t.Errorf("both are in force after %v", took)
				}
			}
		})
	}
}

// Without files there is nothing to look at but the clock, for graces of what
// an earlier run had.
func TestAGraceEndsInTimeWhereThereAreNoFiles(t *testing.T) {
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "a.yaml")
	write(t, path, triggers("a"))
	start(t, Options{Paths: []string{path}, Dir: dir})
	var looks atomic.Int64
	story(t, Options{Dir: dir, Now: func() time.Time { looks.Add(1); return time.Now() }},
		func(t *testing.T, first *config.Snapshot, latest func() *config.Snapshot) {
			a := trigger(t, first, "default", "a")
			if !a.Held {
				t.Fatalf("a is %+v", a)
			}
			time.Sleep(time.Until(a.HeldUntil) - time.Millisecond)
			if !isHeld(latest(), "a") {
				t.Error("a is gone before its grace is over")
			}
			time.Sleep(time.Second)
			if _, ok := latest().Trigger("default", "a"); ok {
				t.Error("a is there a second after its grace")
			}
			before := looks.Load()
			time.Sleep(24 * time.Hour)
			if n := looks.Load() - before; n > 0 {
				t.Errorf("the clock was looked at %d times in a day without files", n)
			}
		})
}

func TestOnlyLocalFileSystemsOfLinuxAreRelied(t *testing.T) {
	if runtime.GOOS == "linux" {
		if reportedFolder("/proc") {
			t.Error("/proc reports nothing that changes in it")
		}
		return
	}
	if reportedFolder(t.TempDir()) {
		t.Error("nothing is known of this system")
	}
}
