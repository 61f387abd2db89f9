package dispatch_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// Each worker is a goroutine with its stack. They go home when nobody has
// needed them for a while, and are there again for what comes then.
func TestWorkersThatNobodyNeedsGoHome(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", hang(time.Second))
		w.trigger("sub", "", "sub", annotate("penstock.dev/concurrency", "50"))
		w.run()
		count := func() int { synctest.Wait(); return runtime.NumGoroutine() }
		for round := range 3 {
			w.send("order", 50)
			time.Sleep(2 * time.Second) // all are parked
			parked := count()
			time.Sleep(30 * time.Second)
			if gone := parked - count(); gone < 49 {
				t.Errorf("round %d: %d of 50 workers have gone home", round, gone)
			}
			time.Sleep(time.Duration(round) * time.Hour)
		}
		if sub.count() != 150 {
			t.Errorf("%d events delivered, want 150", sub.count())
		}
	})
}
