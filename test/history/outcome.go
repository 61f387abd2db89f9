package history

import (
	"slices"
	"time"
)

// outcome notes how the pair ended, if it did.
func (j *judge) outcome(s *sent, t *trigger, p *pair, wanted want) {
	c := j.count(t)
	taken, surely := false, false
	var ended time.Duration
	if p != nil {
		c.letters += min(p.letters, len(s.posts)) // one that is posted twice may die twice
		for i := range p.attempts {
			a := &p.attempts[i]
			if a.ended == forever || !good(a.answer) {
				continue
			}
			if !taken {
				taken, ended = true, a.ended
			}
			surely = surely || j.surelyHeard(t, a) && j.endOf(a.at, a.ended) == nil
		}
	}
	dead := p != nil && p.dead != nil
	if taken {
		j.figures.Delivered++
	}
	if dead {
		j.figures.Dead++
	}
	if !surely && !dead && t.cancelled == forever {
		c.unended++
	}
	if wanted != must {
		return
	}
	j.figures.Pairs++
	invariant := j.lossOf(s)
	j.found.checked(invariant, 1)
	switch {
	case taken:
		j.inTime(s, t, p, ended)
	case !dead && t.cancelled == forever:
		j.missing[t] = append(j.missing[t], missed{s, j.exhausted(t, p)})
	}
}

// lossOf is the invariant that a loss or a repetition of this event violates:
// what was stored before a backup is the backup's matter.
func (j *judge) lossOf(s *sent) string {
	if s.part < j.restored {
		return "I15"
	}
	return "I1"
}

// inTime judges whether an event that was pending when all was well again was
// delivered soon enough.
func (j *judge) inTime(s *sent, t *trigger, p *pair, ended time.Duration) {
	if ended <= j.healed {
		return
	}
	j.found.checked("I9", 1)
	j.figures.Drained = max(j.figures.Drained, ended-j.healed)
	limit := j.drainLimit(t)
	for i := range p.attempts {
		// What the subscriber itself puts off is no delay of the broker's.
		if a := &p.attempts[i]; !good(a.answer) && a.ended > j.healed {
			limit += j.longest(t, i+1, a)
		}
	}
	if ended > j.healed+limit {
		j.found.breach("I9", s.line, s.id, t, "delivered %v after all was well, agreed are %v", ended-j.healed, limit)
	}
}

// drainLimit is how long after all was well an event may still be pending for a
// trigger whose subscriber takes everything: one wait may have just begun.
func (j *judge) drainLimit(t *trigger) time.Duration {
	limit := j.rules.drain()
	if j.rules.Rate > 0 {
		limit += time.Duration(float64(len(j.order)) / j.rules.Rate * float64(time.Second))
	}
	var wait, hang time.Duration
	for _, p := range t.policies(0, forever) {
		wait = max(wait, jittered(leastWait(p, max(p.Retry, 1), Answer{})))
		hang = max(hang, timeout(p))
	}
	if len(j.deaf) > 0 {
		limit += hang // an attempt into a cut notices at its time limit
	}
	return limit + wait
}

// longest is how long a failed attempt may keep its event until the next.
func (j *judge) longest(t *trigger, n int, a *attempt) time.Duration {
	b := t.bounds(a.at, a.at)
	lasted := b.mostTimeout
	if a.ended != forever {
		lasted = min(lasted, a.ended-a.at)
	}
	var wait time.Duration
	for _, p := range b.policies {
		wait = max(wait, jittered(leastWait(p, n, a.answer)))
	}
	return lasted + wait
}

// losses judges what has no end: it is lost unless the broker says that it is
// pending, or has declared as much lost.
func (j *judge) losses(t *trigger) {
	missing := j.missing[t]
	end, known := j.finals[t.name]
	if known && end.Pending > 0 {
		j.found.checked("I9", 1)
		if limit := j.drainLimit(t); end.at-j.healed > limit {
			j.found.breach("I9", end.line, "", t, "%d events are pending %v after all was well, agreed are %v", end.Pending, end.at-j.healed, limit)
		}
	}
	if len(missing) == 0 {
		return
	}
	excused := 0
	if known {
		excused = int(max(end.Pending, 0) + end.Expired)
	}
	if t.broker != nil {
		excused += int(j.gaps[t.broker.name])
	}
	slices.SortStableFunc(missing, func(a, b missed) int {
		switch { // what should be dead is excused last
		case a.exhausted == b.exhausted:
			return 0
		case b.exhausted:
			return -1
		}
		return 1
	})
	for _, m := range missing[min(excused, len(missing)):] {
		j.figures.Lost++
		if m.exhausted {
			j.found.breach("I7", m.sent.line, m.sent.id, t, "given up without a dead letter")
			continue
		}
		j.found.breach(j.lossOf(m.sent), m.sent.line, m.sent.id, t, "acknowledged, and neither delivered nor dead")
	}
}
