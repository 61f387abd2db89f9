package telemetry

import (
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// Outcome is what became of a delivery.
type Outcome uint8

// Failed is an attempt that failed, to be tried again or not, and Spared one
// that is not counted; the others are final states of an event for a trigger.
const (
	Delivered Outcome = iota
	Failed
	Dead
	Cancelled
	Expired
	Lost     // its stored bytes were damaged
	Spared   // an attempt that a subscriber which scales from zero refused: not counted as one
	outcomes // their number
)

var outcomeLabels = [outcomes]string{"delivered", "failed", "dead", "cancelled", "expired", "lost", "spared"}

// String is the outcome's label.
func (o Outcome) String() string { return outcomeLabels[o] }

// Lane counts what concerns one trigger. Its series appear when something is
// counted for the first time: ten thousand idle triggers cost none.
type Lane struct {
	m   *Metrics
	key laneKey

	// An attempt is counted once, by its code and by the bounds of both
	// families that tell of it, one of which adds up the codes.
	attempts byCode[histogram]
	age      atomic.Pointer[histogram]

	outcomes            [outcomes]counter
	replies, sinkFailed counter

	users int // guarded by Metrics.mu
}

// Lane returns the handle of a trigger, both names as namespace/name. Calls
// with the same names share one handle, and each call is paired with one
// Close: a trigger made again under its old name does not lose its series to
// the end of the old one.
func (m *Metrics) Lane(broker, trigger string) *Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := laneKey{broker, trigger}
	l := m.lanes[key]
	if l == nil {
		l = &Lane{m: m, key: key}
		m.lanes[key] = l
	}
	l.users++
	return l
}

// Close gives the handle back. With the last user gone no scrape knows it,
// and whoever still counts with it counts nothing.
func (l *Lane) Close() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(l.m.lanes, l.key)
	}
}

// Count adds n deliveries with an outcome.
func (l *Lane) Count(o Outcome, n uint64) { l.outcomes[o].add(n) }

// Total is what Count added up to since the first user came.
func (l *Lane) Total(o Outcome) uint64 { return l.outcomes[o].n.Load() }

// Attempt records one attempt: how long it took and the status it got, 0 for
// none. Its outcome is Count's matter.
func (l *Lane) Attempt(d time.Duration, code int) { l.attempts.get(code).observe(dispatchScale, d) }

// Age records how old an event was when it was delivered.
func (l *Lane) Age(d time.Duration) {
	h := l.age.Load()
	if h == nil {
		l.age.CompareAndSwap(nil, new(histogram))
		h = l.age.Load()
	}
	h.observe(ageScale, d)
}

// Reply counts a reply that was stored.
func (l *Lane) Reply() { l.replies.add(1) }

// SinkFailed counts a dead letter that the dead letter sink did not take.
func (l *Lane) SinkFailed() { l.sinkFailed.add(1) }

// allLanes are the handles that are in use now.
func (m *Metrics) allLanes() []*Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.AppendSeq(make([]*Lane, 0, len(m.lanes)), maps.Values(m.lanes))
}
