package history

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// tick is how exact times are: a timer may fire on the tick.
const tick = time.Microsecond

// retries judges the attempts of one event for one trigger, in their order: no
// more than agreed, none too soon, none after the end.
func (j *judge) retries(s *sent, t *trigger, p *pair, copies int) {
	if len(p.attempts) > 0 {
		j.attempts(s, t, p, copies)
	}
	if p.dead != nil {
		j.death(s, t, p, copies)
	}
}

func (j *judge) attempts(s *sent, t *trigger, p *pair, copies int) {
	j.found.checked("I7", len(p.attempts))
	last := &p.attempts[len(p.attempts)-1]
	agreed := t.bounds(p.attempts[0].at, last.at).mostRetry + 1
	taken, surely := 0, 0
	var settled *attempt // the last that surely settled the event
	for i := range p.attempts {
		a := &p.attempts[i]
		if i > 0 && copies == 1 {
			j.again(s, t, settled, a, &p.attempts[i-1] == settled)
			j.gap(s, t, &p.attempts[i-1], a, j.surelyCounted(t, p.attempts[:i]))
		}
		end := j.endOf(a.at, j.latest(t, a))
		if end != nil && (end.kind == Stop || j.latest(t, a) >= end.at-j.rules.lag()) {
			j.risks[end]++
		}
		if a.ended == forever {
			continue
		}
		heard := j.surelyHeard(t, a)
		if good(a.answer) {
			j.found.checked("I6", 1)
			if taken++; heard && end == nil {
				surely++
			}
		}
		if heard && (good(a.answer) || !retriable(a.answer.Code)) {
			settled = a
		}
	}
	counted := j.surelyCounted(t, p.attempts)
	j.figures.AttemptsMax = max(j.figures.AttemptsMax, counted)
	j.figures.Duplicates += max(0, taken-1)
	if counted > agreed*copies {
		j.found.breach("I7", last.line, s.id, t, "%d attempts, agreed are %d", counted, agreed*copies)
	}
	if copies > 1 && surely > copies {
		j.found.breach("I6", last.line, s.id, t, "delivered %d times after it was posted %d times", surely, copies)
	}
}

// again judges an attempt that follows one which settled the event: only a
// process that has forgotten it may make it.
func (j *judge) again(s *sent, t *trigger, settled, a *attempt, first bool) {
	if settled == nil {
		return
	}
	if end := j.endOf(settled.at, settled.ended); end != nil && end.at <= a.at {
		if first && good(settled.answer) {
			j.repeats[end]++
			j.figures.OldestRepeat = max(j.figures.OldestRepeat, end.at-settled.ended)
		}
		return
	}
	switch {
	case settled.part < j.restored && a.part >= j.restored:
		j.found.breach("I15", a.line, s.id, t, "settled with %d before the backup, and delivered again", settled.answer.Code)
	case good(settled.answer):
		j.found.breach("I6", a.line, s.id, t, "delivered again %v after the answer %d%s", a.at-settled.ended, settled.answer.Code, j.forgotten(settled, a))
	default:
		j.found.breach("I7", a.line, s.id, t, "tried again after the answer %d, which is final%s", settled.answer.Code, j.forgotten(settled, a))
	}
}

// forgotten tells how long the broker had known what it forgot.
func (j *judge) forgotten(settled, a *attempt) string {
	end := j.endAfter(settled.ended)
	if end == nil || end.at > a.at {
		return ""
	}
	return fmt.Sprintf(", which came %v before the %s", end.at-settled.ended, end.kind)
}

// gap judges the wait between two attempts. made is how many the broker has
// surely counted; it may have counted more, and then waits longer.
func (j *judge) gap(s *sent, t *trigger, before, a *attempt, made int) {
	if j.endOf(before.at, j.latest(t, before)) != nil || j.deaf.touch(before.at, before.ended) || j.leftOver(before) {
		return
	}
	if good(before.answer) && j.surelyHeard(t, before) {
		return // not a retry: a repetition, and judged as one
	}
	b := t.bounds(before.at, a.at)
	if len(b.policies) == 0 {
		return
	}
	failed, answer := before.at, Answer{}
	if before.ended != forever && !before.answer.Gone && !before.answer.Streamed && !j.nearLimit(&b, before) {
		failed, answer = before.ended, before.answer
	}
	precision := tick
	if end := j.endAfter(before.at); end != nil && end.at < a.at {
		if j.clockJumped(a.at) {
			return // what is kept of a wait is the wall clock's time of its end
		}
		precision = time.Millisecond
	}
	least := b.leastWait(max(made, 1), answer)
	if j.maySpare(t, before) {
		least = min(least, b.leastSparedWait(answer))
	}
	if a.at-failed < least-precision {
		j.found.breach("I7", a.line, s.id, t, "tried again after %v, agreed are at least %v", a.at-failed, least)
	}
}

// leftOver reports whether the attempt may be one of a process that had ended
// when the subscriber came to read it: it then found that nobody waits.
func (j *judge) leftOver(a *attempt) bool {
	const late = time.Second
	end := j.endAfter(a.at - late - j.rules.Slack)
	return a.answer.Gone && end != nil && end.at <= a.at
}

func (j *judge) clockJumped(before time.Duration) bool {
	for _, w := range j.windows {
		if w.kind == Clock && w.from <= before {
			return true
		}
	}
	return false
}

// latest is when the broker knew the outcome of an attempt, at the latest: over
// a bad network an answer is under way for as long as an attempt may take.
func (j *judge) latest(t *trigger, a *attempt) time.Duration {
	limit := a.at + t.bounds(a.at, a.at).mostTimeout
	if j.deaf.touch(a.at, a.ended) {
		return limit
	}
	return min(a.ended, limit)
}

// nearLimit reports whether an answer may have come after the time limit of
// the attempt, which began before the receipt.
func (j *judge) nearLimit(b *bounds, a *attempt) bool {
	return a.ended-a.at > b.leastTimeout-b.leastTimeout/4-j.rules.Slack
}

// surelyHeard reports whether the broker must know the answer, and took a reply
// that came with it.
func (j *judge) surelyHeard(t *trigger, a *attempt) bool {
	return j.heard(t, a) && !j.mayRefuse(t, a.answer.Reply)
}

// mayRefuse reports whether a Broker may have had no room for a reply: it has
// refused somebody for that, and the reply never came to anybody.
func (j *judge) mayRefuse(t *trigger, reply string) bool {
	if reply == "" || t.broker == nil {
		return false
	}
	if j.full == nil {
		j.full, j.came = make(map[string]bool), make(map[string]bool)
		for _, s := range j.order {
			for _, p := range s.posts {
				j.full[s.broker] = j.full[s.broker] || p.code == 507
			}
		}
		for key, p := range j.pairs {
			j.came[key.id] = j.came[key.id] || !p.empty()
		}
	}
	return j.full[t.broker.name] && !j.came[reply]
}

// heard reports whether the broker must know the answer, and its store could
// take a reply that came with it.
func (j *judge) heard(t *trigger, a *attempt) bool {
	if a.ended == forever || a.answer.Gone || a.answer.Streamed || j.deaf.touch(a.at, a.ended) {
		return false
	}
	b := t.bounds(a.at, a.at)
	return !j.nearLimit(&b, a) && (a.answer.Reply == "" || !j.store.touch(a.at, a.ended))
}

// exhausted reports whether nothing is left but the dead letter: the attempts
// are used up, or the answer to one is final.
func (j *judge) exhausted(t *trigger, p *pair) bool {
	if p == nil || len(p.attempts) == 0 {
		return false
	}
	for i := range p.attempts {
		a := &p.attempts[i]
		if j.endOf(a.at, j.latest(t, a)) == nil && a.ended != forever && j.surelyHeard(t, a) && !retriable(a.answer.Code) {
			return true
		}
	}
	return j.surelyCounted(t, p.attempts) > t.bounds(p.attempts[0].at, j.now).mostRetry
}

// What the broker says of an event that it gave up for an open circuit, and how
// long at least it has held it.
const (
	circuitOpen = "(last attempt: the circuit is open)"
	leastHeld   = 5 * time.Minute
)

// takings are when the trigger's subscriber took events and the broker heard of
// it, in order.
func (j *judge) takings(t *trigger) []time.Duration {
	if j.taken == nil {
		j.taken = make(map[*trigger][]time.Duration)
		for key, p := range j.pairs {
			for i := range p.attempts {
				if a := &p.attempts[i]; good(a.answer) && j.surelyHeard(key.trigger, a) {
					j.taken[key.trigger] = append(j.taken[key.trigger], a.ended)
				}
			}
		}
		for _, all := range j.taken {
			slices.Sort(all)
		}
	}
	return j.taken[t]
}

// lastTaken is when the subscriber was last heard to take an event before from: 0
// for never, and where it may have been down at some time between from and to,
// because for leastHeld before that nothing was heard of it.
func (j *judge) lastTaken(t *trigger, from, to time.Duration) time.Duration {
	all := j.takings(t)
	n, _ := slices.BinarySearch(all, from)
	if n == 0 {
		return 0
	}
	last := all[n-1]
	if from-last >= leastHeld {
		return 0
	}
	for _, at := range append(slices.Clip(all[n:]), to) {
		if min(at, to)-last >= leastHeld {
			return 0
		}
		last = max(last, min(at, to))
	}
	return all[n-1]
}

// death judges what a dead letter says and when it came.
func (j *judge) death(s *sent, t *trigger, p *pair, copies int) {
	j.found.checked("I7", 1)
	d := p.dead
	counted, surely := j.surelyCounted(t, p.attempts), false
	for i := range p.attempts {
		a := &p.attempts[i]
		if a.line > d.line {
			j.found.breach("I7", a.line, s.id, t, "tried again after it was dead")
		}
		if j.endOf(a.at, j.latest(t, a)) == nil {
			surely = surely || a.ended != forever && good(a.answer) && j.surelyHeard(t, a)
		}
	}
	if copies > 1 || len(p.attempts) == 0 && strings.HasSuffix(d.Reason, circuitOpen) {
		return
	}
	agreed := t.bounds(s.posts[0].at, d.at)
	switch {
	case surely:
		j.found.breach("I7", d.line, s.id, t, "delivered, and dead too")
	case d.Attempts > agreed.mostRetry+1:
		j.found.breach("I7", d.line, s.id, t, "dead after %d attempts, agreed are %d", d.Attempts, agreed.mostRetry+1)
	case d.Attempts > 0 && d.Attempts < counted:
		j.found.breach("I7", d.line, s.id, t, "dead after %d attempts by its dead letter; %d arrived", d.Attempts, counted)
	case strings.HasSuffix(d.Reason, circuitOpen):
		// While a subscriber is down, probes stand for the retries of all: an event
		// is held for minutes and has one last attempt.
		last := p.attempts[len(p.attempts)-1].at
		until := last
		if d.Attempts > len(p.attempts) || d.Code == 0 {
			until = d.at // that one never arrived
		}
		if at := j.lastTaken(t, last, until); at > 0 {
			j.found.breach("I7", d.line, s.id, t, "given up because the subscriber is down, %v after it took an event", last-at)
		}
	case d.Attempts > 0 && d.Attempts <= agreed.leastRetry && retriable(d.Code) && d.Code/100 != 2:
		j.found.breach("I7", d.line, s.id, t, "given up after %d of %d attempts with status %d, which may pass", d.Attempts, agreed.leastRetry+1, d.Code)
	}
}
