package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
)

// latches checks what a broker does after its first failed write or sync, which
// the caller provokes while events are being sent: not one acknowledgement more,
// both probes red with the reason, and what can be read is delivered still.
func (s *stage) latches(provoke func(), reason string) {
	s.t.Helper()
	// Progress of the moments before the error is not saved either.
	healed := s.Fault(history.SlowDisk, "about to fail")
	defer healed()
	s.load(8)
	s.more(20)
	s.broken.Store(&reason)
	provoke()
	s.answered(http.StatusServiceUnavailable)
	broker.Await(s.t, "many refusals", func() bool { return s.answers[http.StatusServiceUnavailable].Load() > 200 })
	for _, probe := range []string{"/readyz", "/healthz"} {
		if code, text := s.b.Probe(probe, broker.Patience); code != http.StatusServiceUnavailable || !strings.Contains(text, reason) {
			s.t.Errorf("%s is %d %q, want 503 with %q", probe, code, text, reason)
		}
	}
	s.release()
	broker.Await(s.t, "what was stored is delivered by the latched broker", func() bool { return s.b.Trigger("late").Backlog == 0 })
	s.quiet()
}

// The kernel's own failed sync: there is no room under the file system, the
// page is dropped, and when there is room again the next sync succeeds.
func TestSyncThatFailsOnceIsTheLastOfThisLog(t *testing.T) {
	needs(t, loops, tool("debugfs"))
	for name, flags := range map[string][]string{"WithJournal": nil, "WithoutJournal": {"-O", "^has_journal"}} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			v := newThin(t, 8, flags...)
			s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
			s.pad.Store(8 << 10) // the room is soon used up
			s.latches(func() {
				s.answered(http.StatusInternalServerError)
				v.relieve()
			}, "no space left on device")
			// All that memory has kept is gone: what is left is the medium.
			s.Fault(history.PowerCut, "")
			v.cut(s.b)
			s.restart()
			s.load(8)
			s.more(50)
			verdict := s.finish()
			figure(t, "%d acknowledged, %d of them after the error, lost %d", s.accepted(), verdict.Figures.AcksAfterSyncError, verdict.Figures.Lost)
		})
	}
}

// What the test above stands on: a program that tries again after a failed
// sync is told that all is well, and is left without its data.
func TestSyncAfterAFailedOneLies(t *testing.T) {
	needs(t, loops, tool("debugfs"))
	beside(t)
	v := newThin(t, 2, "-O", "^has_journal")
	name := filepath.Join(v.dir, "file")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	const size = 16 << 10
	page := make([]byte, size)
	failed := -1
	var at int64
	for n := 0; n < 1000 && failed < 0; n++ {
		for i := range page {
			page[i] = byte(n) | 1
		}
		if _, err := file.WriteAt(page, at); err != nil {
			t.Fatal(err)
		}
		if err := unix.Fdatasync(int(file.Fd())); err != nil {
			failed = n
		}
		at += size
	}
	if failed < 0 {
		t.Fatal("no sync has failed")
	}
	v.relieve()
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		t.Fatalf("the second sync failed too (%v): this kernel does not lie", err)
	}
	v.shutdown()
	_ = file.Close()
	v.unmount()
	v.mount()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lost := 0
	for i := range at {
		if i >= int64(len(text)) || text[i] == 0 {
			lost++
		}
	}
	figure(t, "after the second sync had succeeded %d bytes were gone", lost)
	if lost == 0 {
		t.Error("nothing is gone: this is no failed sync that heals")
	}
}

// Errors at every call that a commit or a roll makes. The fault is there for
// a moment only, so that a broker that tried again would get away with it.
func TestErrorOfAnySystemCallIsNotRetriedAway(t *testing.T) {
	needs(t, loops, tracing)
	for name, c := range map[string]struct{ fault, reason string }{
		"fdatasync": {"fdatasync:error=EIO:when=3", "input/output error"},
		"fsync":     {"fsync:error=EIO:when=1", "input/output error"}, // a segment is sealed, or a checkpoint written
		"pwrite64":  {"pwrite64:error=ENOSPC:when=3", "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			v := newVolume(t, 48).mount()
			s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
			s.pad.Store(16 << 10)
			end := func() {}
			s.latches(func() { end = inject(t, s.b, c.fault) }, c.reason)
			end()
			s.Fault(history.PowerCut, "")
			v.cut(s.b)
			s.restart()
			verdict := s.finish()
			figure(t, "%d acknowledged, %d of them after the error, lost %d", s.accepted(), verdict.Figures.AcksAfterSyncError, verdict.Figures.Lost)
		})
	}
}

// No room for the next segment is known before anything is written: it is
// refused cleanly, and goes on when there is.
func TestSegmentThatCannotBeAllocatedLatchesNothing(t *testing.T) {
	needs(t, loops, tracing)
	beside(t)
	v := newVolume(t, 48).mount()
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
	s.pad.Store(16 << 10)
	s.load(8)
	s.more(20)
	end := inject(t, s.b, "fallocate:error=ENOSPC")
	s.answered(http.StatusInsufficientStorage)
	end()
	began := time.Now()
	s.release()
	s.answered(http.StatusAccepted)
	figure(t, "acknowledges again %v after fallocate works again", time.Since(began).Round(time.Millisecond))
	if n := s.answers[http.StatusInternalServerError].Load(); n != 0 {
		t.Errorf("%d answers 500", n)
	}
	s.finish()
}

// The file system itself gives up: it goes read-only at an error.
func TestVolumeThatTurnsReadOnlyStopsTheLog(t *testing.T) {
	needs(t, loops)
	beside(t)
	v := newVolume(t, 48)
	v.options = "errors=remount-ro"
	v.mount()
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
	s.latches(func() { set(t, "/sys/fs/ext4/"+v.name()+"/trigger_fs_error", "1") }, "")
	s.Fault(history.PowerCut, "")
	v.cut(s.b)
	s.restart()
	s.load(8)
	s.more(50)
	verdict := s.finish()
	figure(t, "%d acknowledged, %d of them after the error, lost %d", s.accepted(), verdict.Figures.AcksAfterSyncError, verdict.Figures.Lost)
}
