package kube

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// state is what was declared at the last look, and what is gone since.
type state struct {
	grace time.Duration

	brokers  map[types.UID]*source[eventingv1.Broker]
	triggers map[types.UID]*source[eventingv1.Trigger] // of our Brokers, held ones included
	channels map[channel.UID]string                    // kinds that Brokers were first ready with

	held    map[channel.UID]*held  // Brokers in their grace
	strays  map[channel.UID]*stray // Triggers that went while their Broker was held
	removed map[channel.UID]config.Removed
	looked  bool // take has been called
}

// source is an object as the cache holds it and as it is compiled. The cache
// replaces an object when it changes, so the same pointer is the same object.
type source[T any] struct {
	from   *T
	object *config.Object
	seen   bool // at the look under way
}

// held is a Broker that is gone and whose storage is kept.
type held struct {
	name   fullName
	until  time.Time
	object *config.Object // nil: nothing is known but that it is stored
}

// stray is a Trigger that is gone and was not cancelled, because its Broker was
// gone too: an API server that is restored from a backup brings both back, one
// after the other. It goes with its Broker's storage, or is cancelled at the
// end of its own grace.
type stray struct {
	broker fullName
	until  time.Time
	object *config.Object // nil: nothing is known but that it is stored
}

func newState(grace time.Duration) *state {
	return &state{
		grace:    grace,
		brokers:  make(map[types.UID]*source[eventingv1.Broker]),
		triggers: make(map[types.UID]*source[eventingv1.Trigger]),
		channels: make(map[channel.UID]string),
		held:     make(map[channel.UID]*held),
		strays:   make(map[channel.UID]*stray),
		removed:  make(map[channel.UID]config.Removed),
	}
}

// remember takes in what the log holds, before the first look. Everything in
// it counts as gone from now on; what is declared comes back at that look.
func (s *state) remember(stored []Stored, now time.Time) {
	until := now.Add(s.grace)
	for _, b := range stored {
		name := splitName(b.Name)
		s.held[b.Broker] = &held{name: name, until: until}
		for _, t := range b.Triggers {
			s.strays[t] = &stray{broker: name, until: until}
		}
	}
}

// look is what is declared at one look.
type look struct {
	now     time.Time
	live    map[fullName]*config.Object // our Brokers
	uids    map[channel.UID]bool        // theirs
	names   map[fullName]bool           // theirs, and of those that are held
	present map[channel.UID]bool        // Triggers of names
}

// take brings the state up to what is declared now and reports whether that
// is anything new.
func (s *state) take(brokers []*eventingv1.Broker, triggers []*eventingv1.Trigger, now time.Time) (changed bool) {
	l := &look{
		now:     now,
		live:    make(map[fullName]*config.Object),
		uids:    make(map[channel.UID]bool),
		names:   make(map[fullName]bool),
		present: make(map[channel.UID]bool),
	}
	changed = s.takeBrokers(l, brokers)
	for name := range l.live {
		l.names[name] = true
	}
	for _, h := range s.held {
		l.names[h.name] = true
	}
	changed = s.takeTriggers(l, triggers) || changed
	changed = s.takeStrays(l) || changed
	s.looked = true
	s.forget(l)
	return changed
}

// takeBrokers finds those that are new, others, gone, back, and gone for good.
func (s *state) takeBrokers(l *look, brokers []*eventingv1.Broker) (changed bool) {
	for _, b := range brokers {
		if !Ours(b) {
			continue
		}
		known := s.brokers[b.UID]
		if known == nil || known.from != b {
			o := Broker(b)
			if o.CreatedChannel == "" {
				o.CreatedChannel = s.channels[o.UID]
			}
			if known == nil || known.object.Version != o.Version {
				known = &source[eventingv1.Broker]{object: o}
				s.brokers[b.UID] = known
				changed = true
			}
			known.from = b
		}
		known.seen = true
		l.live[fullName{b.Namespace, b.Name}] = known.object
		l.uids[known.object.UID] = true
	}
	for uid, b := range s.brokers {
		if b.seen {
			b.seen = false
			continue
		}
		delete(s.brokers, uid)
		gone := *b.object
		gone.HeldUntil = l.now.Add(s.grace).Round(0)
		s.held[gone.UID] = &held{name: fullName{gone.Namespace, gone.Name}, until: gone.HeldUntil, object: &gone}
		changed = true
	}
	for uid, h := range s.held {
		switch {
		case l.uids[uid]:
			delete(s.held, uid)
		case !l.now.Before(h.until):
			delete(s.held, uid)
			delete(s.channels, uid)
			s.remove(config.Removed{Kind: config.KindBroker, UID: uid, Namespace: h.name.namespace, Name: h.name.name, At: l.now})
			changed = true
		}
	}
	return changed
}

// takeTriggers does the same for the Triggers of these Brokers.
func (s *state) takeTriggers(l *look, triggers []*eventingv1.Trigger) (changed bool) {
	for _, t := range triggers {
		namespace, name := BrokerOf(t)
		if !l.names[fullName{namespace, name}] {
			continue // of another class, or of a Broker that is not there
		}
		known := s.triggers[t.UID]
		if known == nil || known.from != t {
			o := Trigger(t)
			switch {
			case known == nil:
				known = &source[eventingv1.Trigger]{object: o}
				s.triggers[t.UID] = known
				changed = true
			case known.object.UID != o.UID: // it has moved
				s.gone(l, known.object)
				known.object, changed = o, true
			case known.object.Version != o.Version:
				known.object, changed = o, true
			}
			known.from = t
		}
		known.seen = true
		l.present[known.object.UID] = true
	}
	for uid, t := range s.triggers {
		if t.seen {
			t.seen = false
			continue
		}
		delete(s.triggers, uid)
		s.gone(l, t.object)
		changed = true
	}
	return changed
}

// gone takes leave of a Trigger. That of a live Broker is cancelled at once.
func (s *state) gone(l *look, o *config.Object) {
	switch of := brokerOf(o); {
	case l.live[of] != nil:
		s.remove(removedTrigger(o.UID, o, of, l.now))
	case l.names[of]:
		kept := *o
		kept.HeldUntil = l.now.Add(s.grace).Round(0)
		s.strays[o.UID] = &stray{broker: of, until: kept.HeldUntil, object: &kept}
	}
}

// takeStrays finds those that are back, gone with their Broker, and gone for
// good. What the log holds beside what is declared is cancelled at the first
// look, if its Broker is live: both caches are in step then.
func (s *state) takeStrays(l *look) (changed bool) {
	for uid, t := range s.strays {
		switch {
		case l.present[uid], !l.names[t.broker]:
		case !s.looked && l.live[t.broker] != nil, !l.now.Before(t.until):
			s.remove(removedTrigger(uid, t.object, t.broker, l.now))
		default:
			continue
		}
		delete(s.strays, uid)
		changed = true
	}
	return changed
}

// objects is what is to be compiled, sorted.
func (s *state) objects() []*config.Object {
	out := make([]*config.Object, 0, len(s.brokers)+len(s.held)+len(s.triggers)+len(s.strays))
	for _, b := range s.brokers {
		out = append(out, b.object)
	}
	for _, h := range s.held {
		// Of one that is only stored nothing is known that it could be opened with.
		// The log keeps what is not opened.
		if h.object != nil {
			out = append(out, h.object)
		}
	}
	for _, t := range s.triggers {
		out = append(out, t.object)
	}
	for _, t := range s.strays {
		if t.object != nil {
			out = append(out, t.object)
		}
	}
	slices.SortFunc(out, func(a, b *config.Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return out
}

// created notes which kind of channel each Broker has, from the first time
// that it is ready. The controller writes it into status for good; this holds
// until then.
func (s *state) created(brokers []*config.Broker) {
	for _, b := range brokers {
		if _, known := s.channels[b.UID]; !known && b.Ready {
			s.channels[b.UID] = b.Channel
		}
	}
}

// nextEnd is when the next grace ends, zero if none is under way.
func (s *state) nextEnd() (end time.Time) {
	first := func(until time.Time) {
		if end.IsZero() || until.Before(end) {
			end = until
		}
	}
	for _, h := range s.held {
		first(h.until)
	}
	for _, t := range s.strays {
		first(t.until)
	}
	return end
}
