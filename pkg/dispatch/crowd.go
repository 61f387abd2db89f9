package dispatch

import (
	"sync/atomic"
	"time"
)

const (
	// crowdSize is how many workers all lanes have together before any goes without.
	// Each has a stack and a connection, 16 KiB or more, and where a hundred lanes
	// have 64 that wait for the same two processors nothing is had for it.
	//
	// Beyond it a lane whose subscriber answers before slowAnswer gets no more than
	// its part of the crowd, or fewWorkers. So all lanes together have as many
	// attempts under way as this process can make; and where answers take longer the
	// workers double with each that comes, up to the lane's concurrency. A lane
	// whose Trigger says how many it wants has those.
	crowdSize  = 512
	fewWorkers = 8
	slowAnswer = time.Second
)

// crowd counts the workers of all lanes, and the lanes that have any.
type crowd struct{ workers, lanes atomic.Int64 }

func (c *crowd) enter(l *lane) {
	c.workers.Add(1)
	if l.present.Add(1) == 1 {
		c.lanes.Add(1)
	}
}

func (c *crowd) leave(l *lane) {
	c.workers.Add(-1)
	if l.present.Add(-1) == 0 {
		c.lanes.Add(-1)
	}
}

// crowded reports whether one more worker would only be in the way of others.
// The caller holds the mutex.
func (l *lane) crowded() bool {
	c := &l.broker.d.crowd
	return !l.conf.asked && l.workers >= fewWorkers && c.workers.Load() >= crowdSize && time.Duration(l.took.Load()) < slowAnswer &&
		int64(l.workers) >= crowdSize/max(1, c.lanes.Load())
}
