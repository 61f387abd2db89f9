package telemetry

import (
	"sync/atomic"
	"time"
)

// counter is the series of a counter: there is one once something was added.
type counter struct {
	n    atomic.Uint64
	born moment
}

func (c *counter) add(n uint64) {
	if c.n.Add(n) == n { // the first, or nothing was added
		c.born.now()
	}
}

// moment is when a series was counted for the first time, in Unix nanoseconds;
// it is 0 while there is no such series.
type moment struct{ atomic.Int64 }

func (m *moment) now() { m.CompareAndSwap(0, time.Now().UnixNano()) }
