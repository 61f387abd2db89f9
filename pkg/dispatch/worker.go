package dispatch

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// unreadableWait is how long an event that the log cannot read waits before
// the lane asks again. It stays pending, and so visible, meanwhile.
const unreadableWait = 30 * time.Second

// wakeOne lets one more worker look for work: a parked one if there is one, a
// new one if the lane may have more. The caller holds the mutex.
func (l *lane) wakeOne() {
	if n := len(l.parked); n > 0 {
		w := l.parked[n-1]
		l.parked = l.parked[:n-1]
		l.unused = min(l.unused, n-1)
		w <- struct{}{} // has room for one, and a parked worker is sent one only
		l.waking++
		return
	}
	if l.stopped || l.workers >= l.conf.concurrency {
		return // a busy worker looks again when its attempt is over
	}
	l.workers++
	l.waking++
	l.broker.d.workers.Go(func() { l.work(l.broker.d.attempts) })
}

// wake is the timer's call: something waiting is due.
func (l *lane) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeOne()
}

// release sends all parked workers home. The caller holds the mutex.
func (l *lane) release() {
	for _, w := range l.parked {
		close(w)
	}
	l.workers -= len(l.parked)
	l.parked, l.unused = nil, 0
}

// releaseIdle sends those workers home that have been parked since the last
// call, and reports whether any are left.
func (l *lane) releaseIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.parked[:l.unused] {
		close(w)
	}
	l.workers -= l.unused
	l.parked = slices.Delete(l.parked, 0, l.unused)
	l.unused = len(l.parked)
	return len(l.parked) > 0
}

// work is one worker: it makes attempts until the lane stops or has nothing
// to do for long.
func (l *lane) work(ctx context.Context) {
	woken := make(chan struct{}, 1)
	var r deliver.Request // of one attempt after another
	var it item
	for came := true; l.next(ctx, &it, woken, came); came = false {
		if !l.attempt(ctx, &it, &r) {
			l.done()
		}
		it, r.Event = item{}, event.Event{} // an idle worker holds none
	}
}

func (l *lane) done() {
	l.mu.Lock()
	l.landed()
	l.mu.Unlock()
}

// depart counts an attempt in flight. The caller holds the mutex.
func (l *lane) depart() {
	if l.inflight++; l.inflight == 1 {
		l.broker.d.busy.Add(1)
	}
}

// landed counts an attempt out of those in flight. The caller holds the mutex.
func (l *lane) landed() {
	l.haste.landed++
	if l.inflight--; l.inflight == 0 {
		l.broker.d.busy.Add(-1)
	}
	if l.reorder {
		l.changeOrder()
	}
	l.extras.call()
}

// next finds the next event to try and counts it in flight. Where there is
// none it parks; false means that the worker shall end. came says that the
// worker is one that has just been woken.
func (l *lane) next(ctx context.Context, it *item, woken chan struct{}, came bool) bool {
	l.mu.Lock()
	if came {
		l.waking--
	}
	for {
		switch {
		case l.stopped || l.workers > l.conf.concurrency:
			l.workers--
			if !l.stopped {
				l.wakeOne() // this one may have been woken for work that it leaves to another
			}
			l.mu.Unlock()
			return false
		case l.still():
			l.rest()
		case l.readDue(ctx):
			continue
		case l.sinks.len() > 0:
			l.start(it, &l.sinks, ticket{})
			return true
		case l.circuit.open():
			ok, again := l.nextHeld(ctx, it)
			if ok {
				return true
			}
			if again {
				continue
			}
		case l.room() == 0:
			l.rest()
		case l.due.len() > 0:
			l.start(it, &l.due, ticket{})
			return true
		case l.ready.len() > 0 && l.mayBegin():
			l.start(it, &l.ready, ticket{})
			return true
		case l.catchUp(ctx):
			continue
		}
		if l.circuit.open() && len(l.parked) > 0 {
			l.workers-- // one is enough to probe, and each keeps a stack
			l.mu.Unlock()
			return false
		}
		l.parked = append(l.parked, woken)
		l.mu.Unlock()
		l.broker.rested()
		if _, ok := <-woken; !ok {
			return false // release has counted this worker out
		}
		l.mu.Lock()
		l.waking--
	}
}

// start takes an event off a queue and counts it in flight. The caller holds
// the mutex, which is let go.
func (l *lane) start(it *item, from *ring, t ticket) {
	l.popInto(it, from)
	l.depart()
	if !it.dead {
		l.begin(it, t)
	}
	l.wakeMore()
	l.mu.Unlock()
}

// lagging reports whether there are events to read again and nobody reads.
func (l *lane) lagging() bool {
	if l.reading || l.order.full() {
		return false
	}
	for i := range l.shards {
		if s := &l.shards[i]; s.behind && s.stuck.IsZero() {
			return true
		}
	}
	return false
}

// readDue reads events again whose wait is over. It reports whether anything
// changed. The caller holds the mutex, which is let go during the read.
func (l *lane) readDue(ctx context.Context) bool {
	if l.reading || len(l.waiting) == 0 || l.due.len()+l.sinks.len() >= dueAtOnce {
		return false
	}
	now := time.Now()
	if l.waiting[0].due.After(now) {
		l.arm()
		return false
	}
	due := l.waiting.popDue(now, dueAtOnce)
	items := make([]item, len(due))
	for i, w := range due {
		items[i] = w.item()
	}
	l.read(ctx, items, &l.due)
	l.arm()
	return true
}

// catchUp reads the next events that the lane has fallen behind on. It
// reports whether anything changed. The caller holds the mutex.
func (l *lane) catchUp(ctx context.Context) bool {
	if l.reading || !l.mayBegin() || l.order.full() {
		return false
	}
	for shard := range l.shards {
		s := &l.shards[shard]
		if !s.behind {
			continue
		}
		if !s.stuck.IsZero() {
			if s.stuck.After(time.Now()) {
				continue
			}
			s.stuck = time.Time{}
		}
		if l.leavesUnread(s) {
			continue
		}
		var items []item
		for limit := l.atOnce(); len(items) == 0; {
			next := s.pending.Next(s.taken, limit, nil)
			if len(next) == 0 {
				break
			}
			for _, pos := range next {
				s.taken = pos
				if !s.recovered.IsEmpty() && s.recovered.Contains(uint64(pos)) {
					continue
				}
				items = append(items, item{shard: shard, pos: pos})
			}
		}
		if len(items) == 0 {
			s.behind = false // caught up: the scanner hands over events again
			continue
		}
		to := &l.ready
		if l.circuit.open() && to.len() > 0 && l.order == nil {
			to = &l.due // before what has come since, which is held for longer
		}
		l.read(ctx, items, to)
		return true
	}
	return false
}

// atOnce is how many events a lane that has fallen behind reads in one go.
func (l *lane) atOnce() int {
	if l.circuit.open() || l.broker.d.held.Load() > l.broker.d.opts.MaxHeldBytes/4 {
		return fewAtOnce
	}
	return behindAtOnce
}

// read fetches events of one shard from the log and queues them. The mutex is
// let go meanwhile; reading keeps others from doing the same.
func (l *lane) read(ctx context.Context, items []item, to *ring) {
	l.reading = true
	shard := items[0].shard
	positions := ascending(items)
	l.mu.Unlock()
	turns := l.broker.d.reads
	turns <- struct{}{}
	records, err := l.broker.log.Get(ctx, l.broker.shards[shard], positions, make([]channel.Record, 0, len(positions)))
	<-turns
	l.mu.Lock()
	l.reading = false
	if l.reorder {
		defer l.changeOrder()
	}

	inOrder := to == &l.ready && l.order != nil
	if inOrder {
		positions, records = l.readable(shard, positions, records, err)
		items = items[:len(positions)]
	}
	var missing []item
	for i := range records { // in the order of items, and perhaps fewer
		r := &records[i]
		for len(items) > 0 && items[0].pos < r.Position {
			missing, items = append(missing, items[0]), items[1:]
		}
		if len(items) == 0 || items[0].pos != r.Position {
			continue
		}
		it := items[0]
		items = items[1:]
		it.accepted, it.event = r.Time, r.Event
		switch {
		case !l.pends(shard, r.Position):
		case it.dead:
			l.push(&l.sinks, it)
		case inOrder:
			l.admit(it)
		case l.circuit.open() && !it.chosen && l.heldOn(&it):
		default:
			l.push(to, it)
		}
	}
	if missing = append(missing, items...); len(missing) > 0 && ctx.Err() == nil {
		l.unread(shard, missing, err)
	}
	for range min(to.len(), l.room()) + l.sinks.len() {
		l.wakeOne()
	}
}

// readable cuts off what an ordered lane must not take up yet: what lies at or
// above the first event that cannot be read and may be yet. Whose turn that is
// nobody knows before it can be read, or is lost. The caller holds the mutex.
func (l *lane) readable(shard int, positions []channel.Position, records []channel.Record, err error) ([]channel.Position, []channel.Record) {
	if err == nil || len(records) == len(positions) {
		return positions, records
	}
	gaps, read := gapsIn(err), 0
	for i, pos := range positions {
		if read < len(records) && records[read].Position == pos {
			read++
			continue
		}
		if gap := gapAt(gaps, pos); gap != nil && gap.Lost || len(gaps) > 0 && gap == nil {
			continue // it ends here: lost, or not in the log any more
		}
		s := l.in(shard)
		s.taken, s.behind, s.stuck = min(s.taken, pos-1), true, time.Now().Add(unreadableWait)
		l.resume.Reset(unreadableWait)
		l.broker.d.log.Error("an ordered trigger waits for an event that cannot be read", "broker", l.broker.name, "trigger", l.name,
			"id", l.broker.id(shard, pos), "err", err)
		return positions[:i], records[:read]
	}
	return positions, records
}

// heldOn puts an event back to wait that an open circuit holds for longer than
// was known before it was read. The caller holds the mutex.
func (l *lane) heldOn(it *item) bool {
	now := time.Now()
	w := waiting{shard: it.shard, pos: it.pos, attempts: it.attempts, spared: it.spared, due: now}
	if l.holdBack(&w, it.accepted, now); !w.due.After(now) {
		return false
	}
	l.waiting.push(w)
	l.arm()
	s := l.in(w.shard)
	s.heldUntil = later(s.heldUntil, w.due)
	return true
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// changeOrder puts another order in force once nothing is under way. The
// caller holds the mutex.
func (l *lane) changeOrder() {
	if l.inflight > 0 || l.reading {
		return
	}
	l.rebuild()
	if !l.stopped && !l.cleared {
		l.kick()
	}
}

// unread deals with events that the log did not give: damaged ones stay
// pending and are asked for again later, until the log declares them lost; then
// they end here, counted and named. So do those that the log does not have.
func (l *lane) unread(shard int, missing []item, err error) {
	gaps, now := gapsIn(err), time.Now()
	for _, it := range missing {
		pos := it.pos
		gap := gapAt(gaps, pos)
		if err != nil && (gap == nil || !gap.Lost) {
			l.waiting.push(waiting{shard: shard, pos: pos, attempts: it.attempts, dead: it.dead, failure: it.failure, spared: it.spared, due: now.Add(unreadableWait)})
			continue
		}
		what := "pending event is not in the log any more"
		if gap != nil {
			what = "pending event is lost: its stored bytes were damaged"
		}
		l.broker.d.log.Error(what, "broker", l.broker.name, "trigger", l.name, "id", l.broker.id(shard, pos))
		if !it.dead {
			l.metrics.Count(telemetry.Lost, 1) // what is dead has been counted
		}
		l.broker.d.opts.Metrics.Broker(l.broker.name).Gap()
		l.journal.End(l.broker.id(shard, pos), l.broker.d.opts.Now(), journal.Lost, what)
		l.settlePosition(shard, pos, true)
	}
	for _, gap := range gaps {
		if !gap.Lost {
			l.broker.gap(gap)
			return
		}
	}
	if err != nil && len(gaps) == 0 {
		l.broker.d.log.Error("pending events cannot be read", "broker", l.broker.name, "trigger", l.name, "err", err)
	}
}

// gapsIn are the gaps that an error of Get tells of.
func gapsIn(err error) []*channel.GapError {
	switch e := err.(type) {
	case *channel.GapError:
		return []*channel.GapError{e}
	case interface{ Unwrap() []error }:
		var all []*channel.GapError
		for _, one := range e.Unwrap() {
			all = append(all, gapsIn(one)...)
		}
		return all
	}
	return nil
}

// gapAt is the gap that a position is in; nil for none.
func gapAt(gaps []*channel.GapError, pos channel.Position) *channel.GapError {
	i := slices.IndexFunc(gaps, func(g *channel.GapError) bool { return g.From <= pos && pos < g.To })
	if i < 0 {
		return nil
	}
	return gaps[i]
}

// ascending puts the items in the order of the log, and lists their positions.
func ascending(items []item) []channel.Position {
	byPosition := func(a, b item) int { return cmp.Compare(a.pos, b.pos) }
	if !slices.IsSortedFunc(items, byPosition) {
		slices.SortFunc(items, byPosition)
	}
	positions := make([]channel.Position, len(items))
	for i := range items {
		positions[i] = items[i].pos
	}
	return positions
}
