package journal

import (
	"sync/atomic"
	"testing"
	"time"
)

func TestAnEmptyJournalSleeps(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		var looks atomic.Int64
		d := start(t, s, Options{Retention: 8 * time.Hour, Now: func() time.Time { looks.Add(1); return time.Now() }})
		asleep := func(when string) {
			t.Helper()
			before := looks.Load()
			time.Sleep(24 * time.Hour)
			if n := looks.Load() - before; n > 0 {
				t.Errorf("%s it has looked at the clock %d times in a day", when, n)
			}
		}
		asleep("before the first event")
		d.accept(1, order(t, "x"))
		time.Sleep(24 * time.Hour) // in which it becomes too old
		if got := d.Stats(); got != (Stats{}) {
			t.Errorf("a day later: %+v", got)
		}
		asleep("after the last event")
	})
}
