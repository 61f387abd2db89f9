package history

import (
	"time"
)

// judge holds what is found while a history is judged.
type judge struct {
	*facts
	found   *findings
	figures Figures
	began   time.Duration // the last process was started
	healed  time.Duration // the last fault was over and the last event answered
	missing map[*trigger][]missed
	counts  map[*trigger]*count
	repeats map[*ending]int
	risks   map[*ending]int
	taken   map[*trigger][]time.Duration // when events were taken; made at first use
	full    map[string]bool              // Brokers that have refused an event for want of room; made at first use
	came    map[string]bool              // events that came to anybody, or died; made with full
}

// missed is a pair that must have an end and has none.
type missed struct {
	sent      *sent
	exhausted bool // its attempts are used up: it should be dead
}

// count is the checker's own account of a trigger. What the broker cannot know
// makes a range of it.
type count struct {
	least, most int // attempts that the last process counts as delivered
	letters     int
	unended     int // pairs of which the broker may think that they are pending
}

func (f *facts) judge() *Verdict {
	j := &judge{
		facts: f, found: newFindings(), missing: make(map[*trigger][]missed), counts: make(map[*trigger]*count),
		repeats: make(map[*ending]int), risks: make(map[*ending]int),
	}
	if n := len(f.incarnations); n > 0 {
		j.began = f.incarnations[n-1].at
	}
	j.healed = j.lastTrouble()
	j.replies()
	j.strangers()
	for _, s := range f.order {
		j.event(s)
	}
	for key, p := range f.pairs {
		j.tally(key.trigger, p)
	}
	for _, t := range f.triggers {
		j.losses(t)
		j.accounts(t)
	}
	j.sequences()
	j.process()
	j.sum()
	v := &Verdict{Invariants: j.found[:], Figures: j.figures}
	for i := range v.Invariants {
		v.Invariants[i].shorten()
	}
	return v
}

// lastTrouble is when all was well for good: I9 counts from there.
func (j *judge) lastTrouble() time.Duration {
	last := max(j.lastAct, j.began)
	for _, w := range j.windows {
		if w.kind == Damage || w.kind == SyncError {
			last = max(last, w.from) // an instant
		} else if last = max(last, min(w.to, j.now)); w.to == forever {
			return j.now
		}
	}
	for _, e := range j.ends {
		last = max(last, min(e.next, j.now))
	}
	return last
}

// replies are events that an answer carried. Where that answer was the last
// word on its own event, the reply is stored: the broker settles last. Any
// other reply may be.
func (j *judge) replies() {
	for key, p := range j.pairs {
		if len(p.attempts) == 0 || p.dead != nil {
			continue
		}
		a := &p.attempts[len(p.attempts)-1]
		s := j.sends[a.answer.Reply]
		if s == nil || a.ended == forever || !good(a.answer) || !j.heard(key.trigger, a) || j.endOf(a.at, a.ended) != nil {
			continue
		}
		for _, post := range s.posts {
			post.code = 202
		}
	}
}

// strangers are receipts and dead letters that no send explains, and those of
// triggers that have no business with the event.
func (j *judge) strangers() {
	for _, s := range j.strange {
		j.found.checked("I2", 1)
		t := j.trigger(s.trigger)
		switch {
		case j.later[s.id]:
			j.found.breach("I15", s.line, s.id, t, "%s of an event that was sent after the backup", s.what)
		case s.id == "":
			j.found.breach("I2", s.line, "", t, "what came is no event")
		default:
			j.found.breach("I2", s.line, s.id, t, "%s of an event that nobody sent", s.what)
		}
	}
	for key, p := range j.pairs {
		s := j.sends[key.id]
		if s == nil || key.trigger.broker != nil && key.trigger.broker.name == s.broker || p.empty() {
			continue // nobody's business here, or judged with the event
		}
		j.found.checked("I5", 1)
		j.found.breach("I5", p.line(), key.id, key.trigger, "the event was sent to %s, which has no such trigger", s.broker)
	}
}

func (p *pair) empty() bool { return p == nil || len(p.attempts) == 0 && p.dead == nil }

// line is the first that speaks of the pair.
func (p *pair) line() int {
	if len(p.attempts) > 0 {
		return p.attempts[0].line
	}
	return p.dead.line
}

// event judges one event for all triggers of its broker.
func (j *judge) event(s *sent) {
	copies, acked := 0, false
	for _, p := range s.posts {
		if !refused(p.code) {
			copies++
		}
		acked = acked || p.code == 202
	}
	j.figures.Sends++
	switch {
	case acked:
		j.figures.Acked++
	case copies > 0:
		j.figures.Indeterminate++
	default:
		j.figures.Refused++
		j.found.checked("I4", 1)
	}
	b := j.brokers[s.broker]
	if b == nil {
		return
	}
	for _, t := range b.triggers {
		p := j.pairs[pairKey{t, s.id}]
		wanted := j.wanted(s, t)
		if !p.empty() {
			j.found.checked("I2", len(p.attempts))
			j.found.checked("I5", 1)
			switch {
			case copies == 0:
				j.found.breach("I4", p.line(), s.id, t, "delivered although the sender was answered %d", s.posts[0].code)
				continue
			case wanted == no:
				j.found.breach("I5", p.line(), s.id, t, "delivered although the filter does not want it")
				continue
			}
			j.arrivals(s, t, p)
			j.retries(s, t, p, copies)
		}
		if wanted != no {
			j.outcome(s, t, p, wanted)
		}
	}
}

// refused reports whether an answer promises that nothing was stored.
func refused(code int) bool { return code/100 == 4 || code == 503 || code == 507 }

// wanted is whether the trigger should have the event, by any of its posts.
func (j *judge) wanted(s *sent, t *trigger) want {
	best := no
	for _, p := range s.posts {
		if refused(p.code) {
			continue
		}
		w := t.broker.wants(t, s.event, p)
		if w == must && p.code != 202 {
			w = may
		}
		best = max(best, w)
	}
	return best
}

// arrivals judges integrity.
func (j *judge) arrivals(s *sent, t *trigger, p *pair) {
	j.found.checked("I3", len(p.attempts))
	j.figures.Receipts += len(p.attempts)
	for _, a := range p.attempts {
		if a.corrupt != "" {
			j.figures.Corrupt++
			j.found.breach("I3", a.line, s.id, t, "%s", a.corrupt)
		}
	}
}

func (j *judge) count(t *trigger) *count {
	c := j.counts[t]
	if c == nil {
		c = new(count)
		j.counts[t] = c
	}
	return c
}
