package history

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"
)

// addFault takes in what was done to the broker and what it shows of itself.
func (f *facts) addFault(l *Line) error {
	switch l.Do {
	case doFault:
		return f.addBegin(l)
	case doHealed:
		w := f.faults[l.N]
		if w == nil {
			return fmt.Errorf("healed %d belongs to no fault", l.N)
		}
		delete(f.faults, l.N)
		w.to = f.now
	case doDetected:
		f.detected[l.What] = true
	case doIncarnation:
		f.incarnations = append(f.incarnations, incarnation{n: l.N, epoch: l.Epoch, at: f.now, line: f.line})
		for _, e := range f.ends {
			if e.next == forever {
				e.next, e.until = f.now, f.now+f.rules.Slack
			}
		}
	case doSample:
		if l.Sample == nil {
			return errors.New("sample line without a sample")
		}
		f.samples = append(f.samples, sampled{*l.Sample, f.line})
	case doLate:
		f.lateness = append(f.lateness, late{f.now, time.Duration(l.Count)})
	case doGap:
		f.gaps[l.Broker] += l.Count
	case doFinal:
		if l.Final == nil {
			return errors.New("final line without counters")
		}
		f.finals[l.Trigger] = final{*l.Final, f.now, f.line}
	case doBackup:
		f.unread[l.N] = &window{what: l.What, from: f.now, to: forever, line: f.line}
	case doBackedUp:
		w := f.unread[l.N]
		if w == nil {
			return fmt.Errorf("backedup %d belongs to no backup", l.N)
		}
		w.to = f.now
		f.backups[w.what] = w
	case doRestored:
		return f.rewind(l.What)
	default:
		return fmt.Errorf("do %q is none that this version knows", l.Do)
	}
	return nil
}

func (f *facts) addBegin(l *Line) error {
	switch l.Kind {
	case Kill, PowerCut, Stop:
		f.ends = append(f.ends, &ending{kind: l.Kind, at: f.now, next: forever, until: forever, line: f.line})
		f.faults[l.N] = new(window) // a healed line says nothing more
		return nil
	case SyncError, DiskFull, SlowDisk, Damage, Network, Pause, Clock, Overload, Subscriber, Resource:
	default:
		return fmt.Errorf("fault %q is none that this version knows", l.Kind)
	}
	w := &window{kind: l.Kind, what: l.What, from: f.now, to: forever, line: f.line}
	f.windows = append(f.windows, w)
	f.faults[l.N] = w
	return nil
}

// lateSteps are the steps between an answer and its being saved, each of which
// may be as late as the machine was: the broker reads it, hands it to the log
// after a while, the log waits for company, a sync is under way.
const lateSteps = 4

// finish computes what needs all lines.
func (f *facts) finish() {
	for _, e := range f.ends {
		e.from = e.at - f.rules.Slack
		if e.kind == Stop {
			continue
		}
		late := lateSteps * f.late(e.at-2*time.Second, e.at)
		e.from -= f.rules.lag() + late
		if e.until != forever {
			e.until += late
		}
		for _, w := range slices.Backward(f.windows) { // the later one may reach back into the earlier
			// Nothing was saved while the store could not write; a log that is
			// latched saves nothing until it is opened again.
			held := w.kind == DiskFull || w.kind == SlowDisk
			if held && w.from <= e.at && w.to+f.rules.Slack >= e.from || w.kind == SyncError && w.from <= e.at && !f.startedBetween(w.from, e.at) {
				e.from = min(e.from, w.from-f.rules.lag()-f.rules.Slack)
			}
		}
	}
	f.deaf = f.during(Network, Pause)
	f.store = f.during(SyncError, DiskFull, SlowDisk)
}

// endOf is the end of a process that may have made the broker forget an attempt
// which lasted so long, nil for none.
func (f *facts) endOf(at, ended time.Duration) *ending {
	i := sort.Search(len(f.ends), func(i int) bool { return f.ends[i].until > at })
	if i < len(f.ends) && f.ends[i].from <= ended {
		return f.ends[i]
	}
	return nil
}

// late is the most that the machine was late in a span of time.
func (f *facts) late(from, to time.Duration) time.Duration {
	i := sort.Search(len(f.lateness), func(i int) bool { return f.lateness[i].at >= from })
	var most time.Duration
	for ; i < len(f.lateness) && f.lateness[i].at-f.lateness[i].by <= to; i++ {
		most = max(most, f.lateness[i].by)
	}
	return most
}

// startedBetween reports whether a process was started in a span of time.
func (f *facts) startedBetween(from, to time.Duration) bool {
	return slices.ContainsFunc(f.incarnations, func(i incarnation) bool { return i.at > from && i.at <= to })
}

// endAfter is the first end of a process at or after a time, nil for none.
func (f *facts) endAfter(at time.Duration) *ending {
	i := sort.Search(len(f.ends), func(i int) bool { return f.ends[i].at >= at })
	if i == len(f.ends) {
		return nil
	}
	return f.ends[i]
}

// rewind makes the facts those of a store that was restored from a backup: what
// came after it never happened, what came during it may have.
func (f *facts) rewind(name string) error {
	b := f.backups[name]
	if b == nil {
		return fmt.Errorf("restored %q: no such backup was completed", name)
	}
	f.restored = f.part
	f.order = slices.DeleteFunc(f.order, func(s *sent) bool {
		s.posts = slices.DeleteFunc(s.posts, func(p *post) bool { return p.at > b.to })
		for _, p := range s.posts {
			if p.code == 202 && p.answered >= b.from {
				p.code = 0
			}
		}
		if len(s.posts) == 0 {
			f.later[s.id] = true
			delete(f.sends, s.id)
		}
		return len(s.posts) == 0
	})
	for _, p := range f.pairs {
		p.attempts = slices.DeleteFunc(p.attempts, func(a attempt) bool { return a.at > b.to })
		for i := range p.attempts {
			if p.attempts[i].ended > b.to {
				p.attempts[i].ended, p.attempts[i].answer = forever, Answer{}
			}
		}
		if p.letters = 0; p.dead != nil && p.dead.at > b.to {
			p.dead = nil
		}
	}
	for _, t := range f.triggers {
		t.settings = slices.DeleteFunc(t.settings, func(s setting) bool { return s.from > b.to })
		if t.cancelled > b.to {
			t.cancelled = forever
		}
	}
	for _, of := range f.brokers {
		of.changes = slices.DeleteFunc(of.changes, func(c *change) bool { return c.from > b.to })
	}
	f.ends = slices.DeleteFunc(f.ends, func(e *ending) bool { return e.at > b.to })
	f.ends = append(f.ends, &ending{kind: Kill, at: b.from, next: forever, until: forever, line: b.line})
	f.windows = slices.DeleteFunc(f.windows, func(w *window) bool { return w.from > b.to })
	for _, w := range f.windows {
		w.to = min(w.to, b.to)
	}
	f.acks = slices.DeleteFunc(f.acks, func(a ack) bool { return a.at > b.to })
	f.incarnations = nil
	clear(f.finals)
	return nil
}
