package dispatch

import "sync"

// gate lets many through at once, or nobody while it is shut. A sync.RWMutex
// would do, but for two things: the gate is shut for as long as the disk takes
// to record a change, and virtual time stands still while somebody waits for a
// mutex.
type gate struct {
	mu     sync.Mutex
	moved  *sync.Cond // inside or closed has changed; made at first use
	inside int
	closed bool
}

// cond is the gate's condition. The caller holds mu.
func (g *gate) cond() *sync.Cond {
	if g.moved == nil {
		g.moved = sync.NewCond(&g.mu)
	}
	return g.moved
}

// enter waits until the gate is open.
func (g *gate) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.closed {
		g.cond().Wait()
	}
	g.inside++
}

// tryEnter is enter for who must not wait: false where it is shut.
func (g *gate) tryEnter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.closed {
		g.cond().Broadcast()
	}
}

// shut lets nobody in any more and waits until all have left. One goroutine
// at a time may shut a gate.
func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for g.inside > 0 {
		g.cond().Wait()
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = false
	g.cond().Broadcast()
}
