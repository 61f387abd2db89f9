package history

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Each of these spoils a history in one way, and with it whatever a broker with
// that ailment would show: its counters, above all. False means that there is
// no place for it.

func (p *patient) drop() bool {
	c, ok := p.pick(p.delivered)
	if !ok {
		return false
	}
	p.remove(c, func(*Line) bool { return true })
	if c.p.attempts[0].at >= p.began {
		p.count(c.t, func(f *Final) { f.Delivered-- })
	}
	return true
}

func (p *patient) invent() bool {
	c, ok := p.pick(p.delivered)
	if !ok {
		return false
	}
	p.deliver(c, c.p.attempts[0].ended, 200)
	invented := NewEvent(p.rng)
	for i := len(p.lines) - 2; i < len(p.lines); i++ {
		p.lines[i].ID = invented.ID()
	}
	p.lines[len(p.lines)-2].Attrs = invented.Attrs
	if c.p.attempts[0].ended >= p.began {
		p.count(c.t, func(f *Final) { f.Delivered-- }) // nobody can say of whom it is
	}
	return true
}

func (p *patient) alterData() bool {
	c, ok := p.pick(p.delivered)
	if ok {
		l := p.find(c, doReceipt)
		l.SHA = Event{Data: []byte(l.SHA)}.SHA()
	}
	return ok
}

func (p *patient) alterAttribute() bool {
	c, ok := p.pick(p.delivered)
	if ok {
		l := p.find(c, doReceipt)
		l.Attrs["source"] = strings.ToUpper(l.Attrs["source"])
	}
	return ok
}

func (p *patient) addAttribute() bool {
	c, ok := p.pick(p.delivered)
	if ok {
		p.find(c, doReceipt).Attrs["surprise"] = "1"
	}
	return ok
}

func (p *patient) deliverRefused() bool {
	c, ok := p.pick(func(c illCase) bool { return refused(c.s.posts[0].code) && len(c.p.attempts) == 0 })
	if ok {
		p.deliver(c, c.s.posts[0].answered, 200)
	}
	return ok
}

func (p *patient) deliverUnwanted() bool {
	c, ok := p.pick(func(c illCase) bool { return c.s.posts[0].code == 202 && p.wanted(c.s, c.t) == no })
	if ok {
		p.deliver(c, c.s.posts[0].answered, 200)
	}
	return ok
}

func (p *patient) deliverTwice() bool {
	c, ok := p.pick(p.delivered)
	if ok {
		p.deliver(c, c.p.attempts[0].ended, 200)
	}
	return ok
}

func (p *patient) retryEarly() bool {
	var second *attempt
	c, ok := p.pick(func(c illCase) bool {
		if !p.owed(c) || len(c.p.attempts) < 2 {
			return false
		}
		first := &c.p.attempts[0]
		second = &c.p.attempts[1]
		return first.ended != forever && p.surelyHeard(c.t, first) && second.at-first.ended > time.Millisecond && p.endOf(first.at, second.at) == nil
	})
	if !ok {
		return false
	}
	first := &c.p.attempts[0]
	for i := range p.lines {
		if l := &p.lines[i]; l.ID == c.s.id && l.Trigger == c.t.name && l.Do == doReceipt && l.T == second.at {
			l.T = first.ended
			if second.ended != forever { // what follows begins as late as it did
				p.lines[slices.IndexFunc(p.lines, func(a Line) bool { return a.Do == doSubscriber && a.N == l.N })].T = first.ended
			}
			break
		}
	}
	return true
}

func (p *patient) retryOnceMore() bool {
	c, ok := p.pick(p.died)
	if ok {
		last := c.p.attempts[len(c.p.attempts)-1]
		p.deliver(c, (last.ended+c.p.dead.at)/2, 500)
	}
	return ok
}

func (p *patient) loseDeadLetter() bool {
	c, ok := p.pick(p.died)
	if !ok {
		return false
	}
	p.remove(c, func(l *Line) bool { return l.Do == doDead })
	p.count(c.t, func(f *Final) { f.Dead-- })
	return true
}

func (p *patient) killDelivered() bool {
	c, ok := p.pick(p.delivered)
	if !ok {
		return false
	}
	p.lines = append(p.lines, Line{T: c.p.attempts[0].ended, Do: doDead, ID: c.s.id, Trigger: c.t.name, Dead: &Dead{Code: 500}})
	p.count(c.t, func(f *Final) { f.Dead++ })
	return true
}

func (p *patient) giveUpEarly() bool {
	c, ok := p.pick(func(c illCase) bool { return p.died(c) && len(c.p.attempts) > 1 && retriable(c.p.dead.Code) })
	if !ok {
		return false
	}
	last := c.p.attempts[len(c.p.attempts)-1].at
	p.remove(c, func(l *Line) bool { return l.T >= last && l.Do != doDead })
	p.find(c, doDead).Dead.Attempts = len(c.p.attempts) - 1
	return true
}

func (p *patient) deliverLate() bool {
	c, ok := p.pick(func(c illCase) bool { return p.delivered(c) && !c.t.ordered() })
	if !ok {
		return false
	}
	late := p.lines[len(p.lines)-1].T + 24*time.Hour
	for _, do := range []string{doReceipt, doSubscriber} {
		p.find(c, do).T = late
	}
	if c.p.attempts[0].at < p.began { // the last process delivers it, and counts it
		p.count(c.t, func(f *Final) { f.Delivered++ })
	}
	return true
}

func (p *patient) acknowledgeAfterSyncError() bool {
	c, ok := p.pick(func(c illCase) bool {
		at := c.s.posts[0].at
		return c.s.posts[0].code == 202 && !p.startedBetween(at-2, at)
	})
	if ok {
		p.insert(c.s.posts[0].at, Line{Do: doFault, Kind: SyncError, N: p.n + 1})
	}
	return ok
}

// insert puts a line before all others of its time.
func (p *patient) insert(at time.Duration, l Line) {
	l.T = max(at-1, 0)
	i := slices.IndexFunc(p.lines, func(other Line) bool { return other.T >= at && other.Do != doBegin })
	p.lines = slices.Insert(p.lines, max(i, 1), l)
}

func (p *patient) damageSilently() bool {
	p.insert(p.lines[len(p.lines)-1].T, Line{Do: doFault, Kind: Damage, N: p.n + 1, What: "a flip that nobody saw"})
	return true
}

func (p *patient) turnEpochBack() bool {
	p.insert(0, Line{Do: doIncarnation, N: 1, Epoch: 1})
	p.insert(0, Line{Do: doIncarnation, N: -1, Epoch: 7})
	return true
}

func (p *patient) grow() bool {
	if p.lines[0].Rules.MaxRSS == 0 {
		p.lines[0].Rules.MaxRSS = 1 << 30
	}
	p.insert(p.lines[len(p.lines)-1].T, Line{Do: doSample, Sample: &Sample{RSS: p.lines[0].Rules.MaxRSS + 1}})
	return true
}

func (p *patient) countTwice() bool {
	c, ok := p.pick(func(c illCase) bool { return p.delivered(c) && p.finals[c.t.name].Final.Delivered > 0 })
	return ok && p.count(c.t, func(f *Final) { f.Delivered *= 2 })
}

func (p *patient) countNoDead() bool {
	c, ok := p.pick(p.died)
	return ok && p.count(c.t, func(f *Final) { f.Dead-- })
}

func (p *patient) countPending() bool {
	c, ok := p.pick(p.delivered)
	return ok && p.count(c.t, func(f *Final) { f.Pending += int64(len(p.order)) + 1 })
}

// overtake has an event of an ordered trigger delivered while the one before
// it is not taken yet: that one's answer comes later than it did.
func (p *patient) overtake() bool {
	type couple struct {
		t       *trigger
		id      string // of the first
		next    *attempt
		receipt int
	}
	var all []couple
	for of, events := range p.keyed() {
		for _, t := range p.brokers[of[0]].triggers {
			if !t.ordered() {
				continue
			}
			for i := 1; i < len(events); i++ {
				first, next := p.pairs[pairKey{t, events[i-1].sent.id}], p.pairs[pairKey{t, events[i].sent.id}]
				if events[i-1].id.Shard != events[i].id.Shard || first.empty() || next.empty() || len(first.attempts) != 1 || len(next.attempts) == 0 {
					continue
				}
				a, b := &first.attempts[0], &next.attempts[0]
				if a.ended != forever && good(a.answer) && b.at >= a.ended && b.at-a.ended < time.Second && p.endOf(a.at, b.at+1) == nil {
					all = append(all, couple{t, events[i-1].sent.id, b, a.line})
				}
			}
		}
	}
	if len(all) == 0 {
		return false
	}
	slices.SortFunc(all, func(a, b couple) int { return cmp.Compare(a.receipt, b.receipt) })
	c := all[p.rng.IntN(len(all))]
	for i := range p.lines {
		if l := &p.lines[i]; l.Do == doSubscriber && l.ID == c.id && l.Trigger == c.t.name {
			l.T = c.next.at + 1
		}
	}
	return true
}
