package dispatch

import (
	"fmt"
	"strconv"
	"time"
)

// shownBlocked is how many blocked keys a LaneStatus lists; Dispatcher.Blocked
// lists more.
const shownBlocked = 5

// Pause is who holds a lane.
type Pause struct {
	Annotated bool      // the annotation
	Asked     bool      // a person
	Until     time.Time // when the person's ends by itself, by the wall clock; zero: not
}

// On reports whether the lane is paused.
func (p Pause) On() bool { return p.Annotated || p.Asked }

// CircuitState is one of the three below.
type CircuitState string

const (
	CircuitClosed   CircuitState = "closed"    // deliveries go on
	CircuitOpen     CircuitState = "open"      // the subscriber is down
	CircuitHalfOpen CircuitState = "half-open" // and a probe is under way
)

// Circuit is what a lane knows of a subscriber that fails.
type Circuit struct {
	State    CircuitState
	Since    time.Time // when it opened, by the wall clock; zero where it is closed
	Next     time.Time // probe, not before; zero where it is closed
	Failures int       // in a row
	Reason   string    // of the last one
}

// control fills in what controls the lane. The caller holds the mutex.
func (l *lane) control(s *LaneStatus) {
	still, now, wall := l.still(), time.Now(), l.broker.d.opts.Now()
	s.Ordered, s.Rate = l.conf.ordered, l.conf.rate
	s.Pause.Annotated = l.conf.paused
	if l.pause != nil {
		s.Pause.Asked, s.Pause.Until = true, l.pause.until
	}
	c := &l.circuit
	s.Circuit = Circuit{State: CircuitClosed, Failures: c.failures, Reason: c.reason}
	if c.open() {
		s.Circuit.State, s.Circuit.Since, s.Circuit.Next = CircuitOpen, c.openedAt, wall.Add(c.probeAt.Sub(now))
		if c.probing {
			s.Circuit.State = CircuitHalfOpen
		}
	}
	s.Blocked, s.BlockedKeys = l.blockedKeys(shownBlocked)
	s.Waits = l.waits(s, still, now, wall)
}

// waits says what is in the lane's way: of several things the first, which is
// the one that has to go first.
func (l *lane) waits(s *LaneStatus, still bool, now, wall time.Time) string {
	stamp := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	pending := l.backlogLocked()
	switch {
	case s.Pause.Annotated:
		return "paused by annotation"
	case s.Pause.Asked && s.Pause.Until.IsZero():
		return "paused until it is resumed"
	case s.Pause.Asked:
		return "paused until " + stamp(s.Pause.Until)
	case !l.conf.deliverable || pending == 0:
		return "" // that it is not ready, its Trigger says
	case still:
		return fmt.Sprintf("order changes once %d attempts have ended", l.inflight)
	case s.Circuit.State == CircuitHalfOpen:
		return fmt.Sprintf("circuit half-open: %s since %s, a probe is under way", s.Circuit.Reason, stamp(s.Circuit.Since))
	case s.Circuit.State == CircuitOpen:
		return fmt.Sprintf("circuit open: %s since %s, next probe at %s", s.Circuit.Reason, stamp(s.Circuit.Since), stamp(s.Circuit.Next))
	}
	if p := l.pace; p != nil && !p.eager && now.Before(p.paused) && !p.spent(now) {
		return "subscriber refuses while it starts, next attempt at " + stamp(wall.Add(p.paused.Sub(now)))
	}
	for i := range l.shards {
		if until := l.shards[i].stuck; until.After(now) {
			return "order: the next event cannot be read, looked at again at " + stamp(wall.Add(until.Sub(now)))
		}
	}
	waitsToBegin := l.ready.len() > 0 || l.due.len() > 0 || l.lagging()
	if l.limit != nil && waitsToBegin && l.limit.TokensAt(now) < 1-tokenSlack {
		return "rate " + strconv.FormatFloat(l.conf.rate, 'g', 4, 64) + "/s"
	}
	if p := l.pace; p != nil && waitsToBegin && p.room(now) == 0 && p.size(now) < p.limit {
		return fmt.Sprintf("window %d of %d: the subscriber takes no more", p.size(now), p.limit)
	}
	if n := s.BlockedKeys; n > 0 {
		first := s.Blocked[0]
		line := fmt.Sprintf("key %s blocked by %s: %d attempts, next at %s", first.Key, first.ID, first.Attempts, stamp(first.Next))
		if n > 1 {
			line += fmt.Sprintf(", and %d more keys", n-1)
		}
		return line
	}
	if l.order.full() {
		return fmt.Sprintf("order: %d events stand behind others of their keys, no more are taken up", l.order.behind)
	}
	if len(l.waiting) == pending && l.inflight == 0 {
		return "next attempt at " + stamp(wall.Add(l.waiting[0].due.Sub(now)))
	}
	return ""
}
