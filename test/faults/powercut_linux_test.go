package faults

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
)

// cutsOfOneStore is how many cuts a store lives through before there is a new
// one, and a new history.
const cutsOfOneStore = 30

// The volume is small, so that segments are: the log is rolled and
// checkpointed several times between two cuts. Late takes the events of a
// round only after its cut.
func TestPowerCutsLoseNothing(t *testing.T) {
	needs(t, loops)
	beside(t)
	seed := proof.Seed(t)
	var s *stage
	var v *volume
	var cuts, lost int
	var acked int64
	finish := func() {
		lost += s.finish().Figures.Lost
		acked += s.accepted()
		if code := s.b.Stop(); code != 0 {
			t.Errorf("exit code is %d", code)
		}
		v.unmount()
	}
	for n := range proof.Rounds(t, 30) {
		if n%cutsOfOneStore == 0 {
			if s != nil {
				finish()
			}
			v = newVolume(t, 48).mount()
			s = newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
			s.dying.Store(true)
			s.load(8)
		}
		rng := proof.Rand(seed, n)
		s.pad.Store([]int64{0, 0, 4 << 10, 32 << 10}[rng.IntN(4)])
		s.more(1 + rng.Int64N(300))
		pause(t.Context(), time.Duration(rng.Int64N(int64(20*time.Millisecond))))
		s.Fault(history.PowerCut, "")
		v.cut(s.b)
		s.restart()
		s.release()
		cuts++
	}
	finish()
	figure(t, "%d power cuts, %d events acknowledged, lost %d", cuts, acked, lost)
}

// The same with a build that leaves the syncs out must lose, and the checker
// must say so: otherwise neither proves anything.
func TestPowerCutsOfABuildWithoutSyncsLose(t *testing.T) {
	needs(t, loops)
	beside(t)
	const rounds = 3
	lost, found := 0, 0
	for range rounds {
		v := newVolume(t, 48).mount()
		s := newStage(t, history.Rules{}, broker.Options{Binary: careless, Data: filepath.Join(v.dir, "data")})
		v.sync() // an empty store is there for good: only events are at stake
		s.load(8)
		s.more(300)
		s.Fault(history.PowerCut, "")
		v.cut(s.b)
		s.quiet()
		if err := s.tryRestart(); err == nil {
			s.release()
			s.dying.Store(true)
			s.b.AwaitSettled("everything", "late", "refused")
			if err := s.Collect(t.Context(), s.b.API); err != nil {
				t.Fatal(err)
			}
		}
		if verdict := s.judge(); verdict.Figures.Lost > 0 {
			lost++
			found += verdict.Figures.Lost
		}
		s.b.Kill()
		v.unmount()
	}
	figure(t, "without syncs: %d of %d cuts lost events, %d in all", lost, rounds, found)
	if lost == 0 {
		t.Error("nothing was lost: the cuts are none, or the checker is blind")
	}
}
