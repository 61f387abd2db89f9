package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
)

// One subscriber is away until its backlog fills the volume. The others get
// their events, dead letters are stored in the reserve, and not even a power
// cut in this state costs anything. When the subscriber is back there is room.
func TestVolumeFilledByABacklogRefusesAndResumes(t *testing.T) {
	needs(t, loops)
	beside(t)
	v := newVolume(t, 48).mount()
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
	s.pad.Store(16 << 10)
	s.load(8)
	s.answered(http.StatusInsufficientStorage)
	healed := s.Fault(history.DiskFull, "a backlog")
	stored := s.accepted()
	s.dying.Store(true)
	s.b.AwaitSettled("everything", "refused")
	if s.b.Trigger("refused").Dead == 0 {
		t.Error("no dead letter was stored while the volume was full")
	}
	s.Fault(history.PowerCut, "while the volume is full")
	v.cut(s.b)
	s.restart()
	s.answered(http.StatusInsufficientStorage)
	if code, _ := s.b.Probe("/healthz", broker.Patience); code != http.StatusOK {
		t.Errorf("/healthz is %d: a restart would not help", code)
	}
	began := time.Now()
	s.release()
	s.answered(http.StatusAccepted)
	resumed := time.Since(began)
	s.b.AwaitSettled("everything")
	healed()
	s.more(100)
	verdict := s.finish()
	refusals, hurried := s.refusals(http.StatusInsufficientStorage)
	figure(t, "%d stored before it was full; accepts again %v after the backlog may leave; %d refusals, %d of them without Retry-After; lost %d",
		stored, resumed.Round(time.Millisecond), refusals, hurried, verdict.Figures.Lost)
	if hurried > 0 {
		t.Errorf("%d of %d refusals have no Retry-After", hurried, refusals)
	}
}

// Somebody else fills the volume to the last block, and cleans up later. A
// power cut in between finds no room at all at its restart.
func TestVolumeFilledByOthersRefusesAndResumes(t *testing.T) {
	needs(t, loops)
	beside(t)
	v := newVolume(t, 96).mount()
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
	s.pad.Store(16 << 10)
	s.load(8)
	s.more(50)
	healed := s.Fault(history.DiskFull, "by others")
	ballast := v.fill()
	s.answered(http.StatusInsufficientStorage)
	s.Fault(history.PowerCut, "while the volume is full")
	v.cut(s.b)
	s.restart()
	s.answered(http.StatusInsufficientStorage)
	s.dying.Store(true)
	s.release()
	s.b.AwaitSettled("everything", "late", "refused")
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.answered(http.StatusAccepted)
	resumed := time.Since(began)
	healed()
	s.more(100)
	verdict := s.finish()
	refusals, hurried := s.refusals(http.StatusInsufficientStorage)
	figure(t, "accepts again %v after there is room; %d refusals, %d of them without Retry-After; lost %d",
		resumed.Round(time.Millisecond), refusals, hurried, verdict.Figures.Lost)
	if hurried > 0 {
		t.Errorf("%d of %d refusals have no Retry-After", hurried, refusals)
	}
}

// fill writes a file until there is no block left, and returns its name.
func (v *volume) fill() string {
	v.t.Helper()
	name := filepath.Join(v.dir, "ballast")
	file, err := os.Create(name)
	if err != nil {
		v.t.Fatal(err)
	}
	defer file.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := file.Write(chunk); errors.Is(err, unix.ENOSPC) {
			chunk = chunk[:len(chunk)/2]
		} else if err != nil {
			v.t.Fatal(err)
		}
	}
	return name
}

// refusals counts the answers of a status in the history, and those that name
// no time to come back.
func (s *stage) refusals(code int) (all, hurried int) {
	s.t.Helper()
	file, err := os.Open(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l history.Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			s.t.Fatal(err)
		}
		if l.Do == "answer" && l.Answer.Code == code {
			all++
			if l.Answer.RetryAfter <= 0 {
				hurried++
			}
		}
	}
	if err := lines.Err(); err != nil {
		s.t.Fatal(err)
	}
	return all, hurried
}
