package dispatch

import (
	"container/heap"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
)

const (
	// A circuit opens after attempts in a row that found the subscriber down, of
	// this many events, with no sign of life in between. Of fewer events their own
	// retries burden nobody, and are what the delivery spec says.
	//
	// All that is in flight when a subscriber restarts fails at once, and says no
	// more than one of it: before downFor has passed since the first failure it
	// takes the attempts of two full windows.
	downEvents = 32
	downFor    = 100 * time.Millisecond

	// While it is open there is one probe at a time, the first after firstProbe,
	// each further one after twice as long, at most maxProbe.
	firstProbe = time.Second
	maxProbe   = 30 * time.Second

	// LeastHeld is how long an open circuit holds an event at least before it gets
	// its last attempt. Where its own retries would have gone on for longer, it is that.
	LeastHeld = 5 * time.Minute
)

// place is a position in one of the broker's shards.
type place struct {
	shard int
	pos   channel.Position
}

// circuit knows whether the subscriber is down, and then keeps the lane's
// events from spending their attempts on it. It is a value without clock or
// lock: the lane's mutex guards it, and whoever calls says what time it is.
//
// Closed, it counts failures in a row. Open, it lets one event at a time probe;
// all others wait, each for as long as deadline says, and then have one last
// attempt of their own. Whatever shows that the subscriber is there closes it.
type circuit struct {
	epoch    int       // counts subscribers: attempts at another one tell nothing
	failures int       // in a row
	since    time.Time // the first of them
	distinct []place   // whose they are
	reason   string    // of the last failure

	opened   time.Time // zero: it is closed
	openedAt time.Time // the same by the wall clock, for people
	hold     time.Duration
	interval time.Duration
	probeAt  time.Time // no probe before
	probing  bool
}

func (c *circuit) open() bool { return !c.opened.IsZero() }

// mayProbe reports whether an event may find out whether the subscriber is back.
func (c *circuit) mayProbe(now time.Time) bool { return !c.probing && !c.probeAt.After(now) }

// reset is for another subscriber.
func (c *circuit) reset() { *c = circuit{epoch: c.epoch + 1, distinct: c.distinct[:0]} }

// fail counts an attempt that found the subscriber down, and reports whether
// the circuit is to open now. window is how many attempts may be in flight.
func (c *circuit) fail(at place, reason string, now time.Time, window int) bool {
	c.failures++
	c.reason = reason
	if c.since.IsZero() {
		c.since = now
	}
	if c.open() {
		return false
	}
	if len(c.distinct) < downEvents && !slices.Contains(c.distinct, at) {
		c.distinct = append(c.distinct, at)
	}
	return len(c.distinct) == downEvents && (now.Sub(c.since) >= downFor || c.failures >= 2*window)
}

// alive forgets the failures, and reports whether the circuit was open.
func (c *circuit) alive() (was bool) {
	was = c.open()
	if c.failures > 0 {
		*c = circuit{epoch: c.epoch, distinct: c.distinct[:0]}
	}
	return was
}

// pause sets when the next probe may begin. asked is what the subscriber asked
// for with Retry-After; jitter is a random number in [0, 1).
func (c *circuit) pause(now time.Time, asked time.Duration, jitter float64) {
	if c.interval == 0 {
		c.interval = firstProbe
	}
	wait := min(maxProbe, c.interval+time.Duration(float64(c.interval)*pauseJitter*jitter))
	c.interval = min(2*c.interval, maxProbe)
	if at := now.Add(max(wait, asked)); at.After(c.probeAt) {
		c.probeAt = at
	}
}

// deadline is until when an event is held: counted from the opening, or from
// when it was accepted if that was later. accepted is by the wall clock, which
// may jump: it makes nobody wait for longer than an event of now.
func (c *circuit) deadline(accepted, now time.Time) time.Time {
	after := min(max(0, accepted.Sub(c.openedAt)), now.Sub(c.opened))
	return c.opened.Add(after).Add(c.hold)
}

// life is what an attempt tells of whether the subscriber is there.
type life uint8

const (
	unknown life = iota // says nothing: it has too much to do, or nothing was sent
	up
	down
)

// lifeOf reads an answer. A subscriber is down if nobody answers, or somebody
// in its place says that nobody is there. A 500 is its own: it may be about the
// event, and then holding all others would be wrong.
func lifeOf(answer deliver.Answer, err error) life {
	switch code := answer.Status; {
	case code == http.StatusBadGateway, code == http.StatusServiceUnavailable, code == http.StatusGatewayTimeout:
		return down
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return unknown
	case code > 0:
		return up
	}
	var e *deliver.Error
	if !errors.As(err, &e) {
		return unknown
	}
	switch e.Class {
	case deliver.ClassDial, deliver.ClassTLS, deliver.ClassTimeout, deliver.ClassReset, deliver.ClassAnswer:
		return down
	}
	return unknown
}

// judge tells the circuit how an attempt went. The caller holds the mutex.
func (l *lane) judge(it *item, t ticket, answer deliver.Answer, err error, asked time.Duration, now time.Time, jitter float64) {
	c := &l.circuit
	if t.epoch != c.epoch {
		return // of another subscriber
	}
	if t.probe {
		c.probing = false
	}
	switch lifeOf(answer, err) {
	case up:
		if c.alive() {
			l.close(now)
		}
		return
	case down:
		if c.fail(place{it.shard, it.pos}, deliver.FailureOf(l.conf.subscriber, err).Reason, now, l.conf.concurrency) {
			c.pause(now, asked, jitter)
			l.openCircuit(now)
			return
		}
		it.held = t.last && c.open()
	}
	if c.open() && (t.probe || t.last) {
		c.pause(now, asked, jitter)
	}
}

// openCircuit holds all that waits for a further attempt, for as long as what
// has yet to have its first. The caller holds the mutex, here and below.
func (l *lane) openCircuit(now time.Time) {
	l.circuit.opened, l.circuit.openedAt, l.circuit.hold = now, l.broker.d.opts.Now(), l.longest
	for i := range l.waiting {
		l.holdBack(&l.waiting[i], time.Time{}, now)
	}
	for i := range l.shards {
		l.shards[i].heldUntil = time.Time{}
	}
	if l.order == nil {
		// Their bytes would lie in memory for as long as the subscriber is away.
		for l.ready.len() > 0 {
			it := l.pop(&l.ready)
			w := waiting{shard: it.shard, pos: it.pos, attempts: it.attempts, spared: it.spared, due: now}
			l.holdBack(&w, it.accepted, now)
			l.waiting = append(l.waiting, w)
			s := l.in(it.shard)
			s.heldUntil = later(s.heldUntil, w.due)
		}
		l.ready = ring{}
	}
	heap.Init(&l.waiting)
	l.arm()
	l.release()
	l.broker.d.log.Warn("circuit open: the subscriber is down", "broker", l.broker.name, "trigger", l.name, "reason", l.circuit.reason)
}

// holdBack makes an event wait for what an open circuit lets it do. One that
// is dead is the sink's business.
func (l *lane) holdBack(w *waiting, accepted, now time.Time) {
	if !l.circuit.open() || w.dead {
		return
	}
	w.natural = w.due
	if deadline := l.circuit.deadline(accepted, now); deadline.After(w.due) {
		w.due = deadline
	}
}

// close lets everything go on that the circuit held.
func (l *lane) close(now time.Time) {
	l.letGo()
	if l.pace != nil {
		l.pace.resume()
	}
	l.broker.d.log.Info("circuit closed: the subscriber is up", "broker", l.broker.name, "trigger", l.name)
	l.kick()
}

// letGo dates what was held as if no circuit had been open.
func (l *lane) letGo() {
	for i := range l.waiting {
		if w := &l.waiting[i]; !w.natural.IsZero() {
			w.due, w.natural = w.natural, time.Time{}
		}
	}
	heap.Init(&l.waiting)
	l.arm()
}

// expired reports whether the first event of a queue has been held for as long
// as it may be.
func (l *lane) expired(q *ring, now time.Time) bool {
	return q.len() > 0 && !l.circuit.deadline(q.head().accepted, now).After(now)
}

// mayBegin reports whether first attempts may begin, as far as the bound of
// those that wait goes.
func (l *lane) mayBegin() bool { return len(l.waiting) < maxWaiting }

// nextHeld finds what may be tried while the circuit is open: what has been
// held for long enough, or a probe. again means that something was read and the
// caller looks again. If it is an event the mutex is let go.
func (l *lane) nextHeld(ctx context.Context, it *item) (ok, again bool) {
	now := time.Now()
	c := &l.circuit
	switch {
	case l.slots(now) == 0:
	case l.expired(&l.due, now):
		l.start(it, &l.due, ticket{last: true})
		return true, false
	case l.mayBegin() && l.expired(&l.ready, now):
		l.start(it, &l.ready, ticket{last: true})
		return true, false
	case c.probing || c.probeAt.After(now):
		// When an event was accepted says for how long it is held. What the lane
		// has fallen behind on may be older than what has come since.
		if (l.ready.len() == 0 || l.order == nil) && l.due.len() == 0 && l.catchUp(ctx) {
			return false, true
		}
	// The probe is an event without attempts, if there is one: it has most left.
	case l.mayBegin() && l.ready.len() > 0:
		l.start(it, &l.ready, ticket{probe: true})
		return true, false
	case l.due.len() > 0:
		l.start(it, &l.due, ticket{probe: true})
		return true, false
	case l.catchUp(ctx), l.readProbe(ctx, now):
		return false, true
	}
	l.rest()
	return false, false
}

// probeFrom is the event that has waited for longest for an attempt of its
// own, among those that the circuit holds; -1 for none.
func (l *lane) probeFrom() int {
	best := -1
	for i := range l.waiting {
		w := &l.waiting[i]
		if !w.natural.IsZero() && (best < 0 || w.natural.Before(l.waiting[best].natural)) {
			best = i
		}
	}
	return best
}

// leavesUnread reports whether an open circuit leaves what a shard has unread in
// the log. It does not where it is time for a probe and no other event could make
// it: each that was taken up is dead.
func (l *lane) leavesUnread(s *laneShard) bool {
	if !l.circuit.open() || l.order != nil {
		return false
	}
	now := time.Now()
	lacksProbe := l.circuit.mayProbe(now) && l.ready.len() == 0 && l.due.len() == 0 && l.probeFrom() < 0
	return s.heldUntil.After(now) && !lacksProbe
}

// readProbe reads the event again that is to probe, where its own wait is over.
// It reports whether anything changed.
func (l *lane) readProbe(ctx context.Context, now time.Time) bool {
	if l.reading {
		return false
	}
	i := l.probeFrom()
	if i < 0 || l.waiting[i].natural.After(now) {
		return false
	}
	w := heap.Remove(&l.waiting, i).(waiting)
	it := w.item()
	it.chosen = true
	l.read(ctx, []item{it}, &l.due)
	return true
}

// stirs is when an open circuit lets something begin; zero: not by itself.
func (l *lane) stirs(now time.Time) time.Time {
	c := &l.circuit
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if l.due.len() > 0 {
		sooner(c.deadline(l.due.head().accepted, now))
	}
	if l.ready.len() > 0 && l.mayBegin() {
		sooner(c.deadline(l.ready.head().accepted, now))
	}
	switch {
	case c.probing: // its answer comes first
	case c.probeAt.After(now):
		sooner(c.probeAt)
	default:
		if i := l.probeFrom(); i >= 0 && l.waiting[i].natural.After(now) {
			sooner(l.waiting[i].natural)
		}
	}
	return at
}
