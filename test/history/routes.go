package history

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

// trigger is all that a history says about one.
type trigger struct {
	name      string
	broker    *broker // nil: no routes line names it
	settings  []setting
	cancelled time.Duration // forever: never
	line      int           // of the cancelling
}

// setting is a trigger's filter and policy for some time.
type setting struct {
	from, to time.Duration // it may have been in force from the routes line to the next one's routed line
	filter   *filter.Filter
	policy   deliver.Policy
	scales   bool // the subscriber scales from zero
	ordered  bool
}

// broker is the changes of one Broker's Trigger set, in order.
type broker struct {
	name     string
	changes  []*change
	triggers []*trigger // all that ever were
}

type change struct {
	n       int64
	part    int
	from    time.Duration // the change may be in force
	surely  time.Duration // it is; forever: not known
	filters map[*trigger]*filter.Filter
}

func (f *facts) trigger(name string) *trigger {
	t := f.triggers[name]
	if t == nil {
		t = &trigger{name: name, cancelled: forever}
		f.triggers[name] = t
	}
	return t
}

func (f *facts) addRoutes(l *Line) error {
	f.lastAct = f.now
	if l.Do == doCancelled {
		t := f.trigger(l.Trigger)
		t.cancelled, t.line = min(t.cancelled, f.now), f.line
		return nil
	}
	b := f.brokers[l.Broker]
	if b == nil {
		b = &broker{name: l.Broker}
		f.brokers[l.Broker] = b
	}
	if l.Do == doRouted {
		i := slices.IndexFunc(b.changes, func(c *change) bool { return c.n == l.N && c.part == f.part })
		if i < 0 {
			return fmt.Errorf("routed %d belongs to no change", l.N)
		}
		b.changes[i].surely = f.now
		for _, t := range b.triggers {
			for s := range t.settings {
				if t.settings[s].from < b.changes[i].from {
					t.settings[s].to = min(t.settings[s].to, f.now)
				}
			}
		}
		return nil
	}
	c := &change{n: l.N, part: f.part, from: f.now, surely: forever, filters: make(map[*trigger]*filter.Filter)}
	for _, conf := range l.Triggers {
		t := f.trigger(conf.Name)
		if t.broker == nil {
			t.broker = b
			b.triggers = append(b.triggers, t)
		}
		if t.broker != b {
			return fmt.Errorf("trigger %s belongs to two brokers", conf.Name)
		}
		compiled, err := filter.Compile(conf.Filter)
		if err != nil {
			return fmt.Errorf("trigger %s: %w", conf.Name, err)
		}
		c.filters[t] = compiled
		t.settings = append(t.settings, setting{from: f.now, to: forever, filter: compiled, policy: conf.Policy, scales: conf.ScalesFromZero, ordered: conf.Ordered})
	}
	if len(c.filters) != len(l.Triggers) {
		return errors.New("a trigger is named twice")
	}
	b.changes = append(b.changes, c)
	return nil
}

// want says whether a trigger should have an event.
type want uint8

const (
	no want = iota
	may
	must
)

// wants decides by all sets that may have been in force when the event was
// stored: for an answered post those between the last one surely in force when
// it was sent and the last one begun when the answer came.
func (b *broker) wants(t *trigger, e event.Event, p *post) want {
	first := len(b.changes) - 1
	for first >= 0 && b.changes[first].surely > p.at {
		first--
	}
	matches, misses := 0, 0
	if first < 0 {
		misses++ // perhaps nothing was in force yet
	}
	for i := max(first, 0); i < len(b.changes) && b.changes[i].from <= p.answered; i++ {
		if compiled := b.changes[i].filters[t]; compiled != nil && compiled.Match(e) {
			matches++
		} else {
			misses++
		}
	}
	switch {
	case matches == 0:
		return no
	case misses > 0:
		return may
	}
	return must
}

// policies are those that may have been in force in a span of time. After the
// trigger is gone attempts under way keep its last one.
func (t *trigger) policies(from, to time.Duration) []deliver.Policy {
	var in, last []deliver.Policy
	for _, s := range t.settings {
		if s.from <= to && s.to >= from {
			in = append(in, s.policy)
		} else if s.from <= to {
			last = []deliver.Policy{s.policy}
		}
	}
	if len(in) == 0 {
		return last
	}
	return in
}
