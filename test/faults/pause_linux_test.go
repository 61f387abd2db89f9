package faults

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
)

// A process that stands still keeps its directory: no other may have it
// meanwhile, and when it goes on it is the owner still.
func TestPausedBrokerKeepsItsDirectoryAndLosesNothing(t *testing.T) {
	needs(t, root)
	beside(t)
	seed := proof.Seed(t)
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(t.TempDir(), "data")})
	s.sender.Timeout = 300 * time.Millisecond // senders give up long before it goes on
	s.load(16)
	var paused time.Duration
	pauses := 0
	for n := range proof.Rounds(t, 4) {
		rng := proof.Rand(seed, n)
		s.more(100)
		length := time.Second + time.Duration(rng.Int64N(int64(4*time.Second)))
		if !proof.Full() {
			length /= 4
		}
		goesOn := s.Fault(history.Pause, "")
		stop(t, s.b)
		began := time.Now()
		code, _, text := broker.Run(t, exec.Command(penstock, "serve", "--data", s.b.Data,
			"--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"))
		if code != 1 || !strings.Contains(text, "is in use by process") {
			t.Errorf("a second broker ended with %d\n%s", code, text)
		}
		pause(t.Context(), length-time.Since(began))
		s.b.Signal(unix.SIGCONT)
		s.answered(http.StatusAccepted)
		goesOn()
		s.release()
		paused += time.Since(began)
		pauses++
	}
	verdict := s.finish()
	figure(t, "%d pauses, %v in all, %d acknowledged, %d without an answer, lost %d",
		pauses, paused.Round(time.Millisecond), s.accepted(), s.answers[0].Load(), verdict.Figures.Lost)
}
