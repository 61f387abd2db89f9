package config

import "sort"

// Snapshot is one consistent view of all objects. It is immutable; the slices
// its methods return are shared and must not be changed.
type Snapshot struct {
	generation uint64
	brokers    []*Broker // live, sorted
	held       []*Broker // in their grace, sorted
	triggers   []*Trigger
	problems   []Problem
	removed    []Removed

	byName   map[name]*Broker
	trigger  map[name]*Trigger
	ofBroker map[name][]*Trigger
}

// name is an object's namespace and name.
type name struct{ namespace, name string }

// Generation counts the snapshots of one source: 1, 2, 3, ...
func (s *Snapshot) Generation() uint64 { return s.generation }

// Broker finds a live Broker, ready or not. A Broker in its grace is not
// found: ingress answers 404 for it at once. It does not allocate.
func (s *Snapshot) Broker(namespace, broker string) (*Broker, bool) {
	b, ok := s.byName[name{namespace, broker}]
	return b, ok
}

// Brokers lists the live Brokers by namespace and name.
func (s *Snapshot) Brokers() []*Broker { return s.brokers }

// HeldBrokers lists the Brokers that were removed and are in their grace: not
// served, but their storage and identity must be kept.
func (s *Snapshot) HeldBrokers() []*Broker { return s.held }

// Trigger finds a Trigger. Of a live one and a held one of the same name (it
// moved to another Broker) it is the live one.
func (s *Snapshot) Trigger(namespace, trigger string) (*Trigger, bool) {
	t, ok := s.trigger[name{namespace, trigger}]
	return t, ok
}

// Triggers lists all Triggers by namespace and name, those not ready and those
// held included.
func (s *Snapshot) Triggers() []*Trigger { return s.triggers }

// TriggersOf lists the Triggers that name a Broker, whether that exists, is
// held, or not, by name; those not ready and those held included.
func (s *Snapshot) TriggersOf(namespace, broker string) []*Trigger {
	return s.ofBroker[name{namespace, broker}]
}

// Problems lists what a person should look at, not ready objects included, in
// the order of the sources.
func (s *Snapshot) Problems() []Problem { return s.problems }

// Removed lists the objects whose grace has ended. Only what stands here may
// be removed from storage: an object that is merely absent may belong to a
// source that cannot be read just now.
func (s *Snapshot) Removed() []Removed { return s.removed }

// index sorts and fills the maps; it is the last step of Compile.
func (s *Snapshot) index() {
	sortBrokers(s.brokers)
	sortBrokers(s.held)
	sort.SliceStable(s.triggers, func(i, j int) bool {
		a, b := s.triggers[i], s.triggers[j]
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		if a.Name != b.Name {
			return a.Name < b.Name
		}
		return !a.Held && b.Held
	})
	s.byName = make(map[name]*Broker, len(s.brokers))
	for _, b := range s.brokers {
		s.byName[name{b.Namespace, b.Name}] = b
	}
	s.trigger = make(map[name]*Trigger, len(s.triggers))
	s.ofBroker = make(map[name][]*Trigger)
	for _, t := range s.triggers {
		own := name{t.Namespace, t.Name}
		if _, taken := s.trigger[own]; !taken {
			s.trigger[own] = t
		}
		of := name{t.BrokerNamespace, t.Broker}
		s.ofBroker[of] = append(s.ofBroker[of], t)
	}
}

func sortBrokers(brokers []*Broker) {
	sort.Slice(brokers, func(i, j int) bool {
		a, b := brokers[i], brokers[j]
		if a.Namespace != b.Namespace {
			return a.Namespace < b.Namespace
		}
		return a.Name < b.Name
	})
}
