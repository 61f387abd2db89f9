package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
)

// MaxObjects is how many objects one Snapshot takes.
const MaxObjects = 100_000

// Options are what Compile needs to know beside the objects. The zero value
// works: disk channels, no references.
type Options struct {
	Generation uint64

	// Previous is the Snapshot before this one. Filters and Triggers that did not
	// change are taken from it: the first need not be compiled again. nil does
	// without.
	Previous *Snapshot

	// Resolve finds the URL of a reference. nil knows none. A reference to one of
	// the Brokers being compiled that Resolve does not know is found by Compile
	// itself, if IngressURL is given.
	Resolve Resolver

	// IngressURL is where our own ingress is reached, http://host:port without a
	// path. "" makes references to our own Brokers fail.
	IngressURL string

	// DefaultChannel is what a Broker gets that asks for none; "" is disk.
	DefaultChannel string

	// Channels are the kinds of channel there are here; nil is DefaultChannel alone.
	Channels []string

	// Keys are those of KN_VERIFY_CORRELATION_ID in filters; nil: a filter that
	// calls it does not compile. Who compiles and never matches gives filter.NoKeys.
	Keys filter.Keys

	// Delivery is what a Broker gets without spec.delivery; nil is DefaultDelivery.
	Delivery *DeliverySpec

	// Limit is how many objects are taken at most; 0 is MaxObjects.
	Limit int

	// Problems and Removed are the source's own, passed on in the Snapshot.
	Problems []Problem
	Removed  []Removed
}

// Compile judges the objects and builds the Snapshot that they describe. It
// never fails: what cannot run is in the Snapshot, not ready and with its
// reason, or if not even that in its Problems.
//
// Objects come in the order of their declaration. Of two live ones with the
// same kind, namespace and name the second is refused. UIDs must be set.
// Compile keeps nothing of the objects but their strings and filters, which
// the caller must not change afterwards.
func Compile(objects []*Object, o Options) *Snapshot {
	c := &compiler{
		Options: o,
		s:       &Snapshot{generation: o.Generation, removed: o.Removed},
	}
	c.fill()
	c.problems = append(c.problems, o.Problems...)
	brokers, triggers := c.admit(objects)
	c.brokers = make(map[name]*Broker, len(brokers))
	c.declared = make(map[name]bool, len(brokers))
	for _, b := range brokers {
		if b.HeldUntil.IsZero() {
			c.declared[name{b.Namespace, b.Name}] = true
		}
	}
	for _, b := range brokers {
		c.addBroker(b)
	}
	c.order(triggers)
	for _, t := range triggers {
		c.addTrigger(t)
	}
	c.s.problems = c.problems
	c.s.index()
	return c.s
}

// compiler is one run of Compile.
type compiler struct {
	Options
	s        *Snapshot
	problems []Problem
	declared map[name]bool            // Brokers that are live
	brokers  map[name]*Broker         // compiled, live or held
	known    map[channel.UID]*Trigger // of the previous Snapshot

	reason, message string // first fault of the object at hand
	faults          int    // and how many there are
	before          int    // how many problems the objects before it had
	trigger         Trigger
}

func (c *compiler) fill() {
	if c.DefaultChannel == "" {
		c.DefaultChannel = ChannelDisk
	}
	if c.Channels == nil {
		c.Channels = []string{c.DefaultChannel}
	}
	if c.Delivery == nil {
		d := DefaultDelivery()
		c.Delivery = &d
	}
	if c.Limit == 0 {
		c.Limit = MaxObjects
	}
	if c.Previous != nil {
		c.known = make(map[channel.UID]*Trigger, len(c.Previous.triggers))
		for _, t := range c.Previous.triggers {
			c.known[t.UID] = t
		}
	}
}

// admit sorts out what cannot even be named, and what is there twice.
func (c *compiler) admit(objects []*Object) (brokers, triggers []*Object) {
	type key struct {
		kind string
		name
	}
	seen := make(map[key]*Object, len(objects))
	over := 0
	for _, o := range objects {
		if err := CheckName(o.Namespace, o.Name); err != nil {
			c.problem(o.Origin(), o.Kind+": "+err.Error())
			continue
		}
		if o.HeldUntil.IsZero() {
			k := key{o.Kind, name{o.Namespace, o.Name}}
			if first := seen[k]; first != nil {
				c.problem(o.Origin(), fmt.Sprintf("%s %s is already declared at %s: this second one is ignored: remove or rename it", o.Kind, o.FullName(), first.Origin()))
				continue
			}
			seen[k] = o
		}
		if len(brokers)+len(triggers) >= c.Limit {
			over++
			continue
		}
		switch {
		case o.Kind == KindBroker && o.Broker != nil:
			brokers = append(brokers, o)
		case o.Kind == KindTrigger && o.Trigger != nil:
			triggers = append(triggers, o)
		}
	}
	if over > 0 {
		c.problem("", fmt.Sprintf("%d objects are ignored: at most %d Brokers and Triggers are taken: remove some", over, c.Limit))
	}
	return brokers, triggers
}

func (c *compiler) problem(origin, message string) {
	c.problems = append(c.problems, Problem{Origin: origin, Message: message})
}

// begin starts on an object: from here on faults are its own.
func (c *compiler) begin(o *Object) {
	c.reason, c.message, c.faults, c.before = "", "", 0, len(c.problems)
	for _, f := range o.Faults {
		c.fault(o, f.Field, f.Reason, f.Text)
	}
}

// fault makes the object at hand not ready. Each is a Problem of its own; the
// first is what the object says itself.
func (c *compiler) fault(o *Object, field, reason, text string) {
	if field != "" {
		text = field + ": " + text
	}
	c.faultAt(o, o.origin(field), reason, text)
}

// faultAt is fault for a text that names its field itself.
func (c *compiler) faultAt(o *Object, at, reason, text string) {
	c.problem(at, o.Kind+" "+o.FullName()+": "+text)
	if c.faults == 0 {
		c.reason, c.message = reason, text
		if at != "" {
			c.message = at + ": " + text
		}
	}
	c.faults++
}

// verdict ends an object: what its Ready, Reason and Message are.
func (c *compiler) verdict() (ready bool, reason, message string) {
	if c.faults > 1 {
		c.message += fmt.Sprintf(" (and %d more)", c.faults-1)
	}
	return c.faults == 0, c.reason, c.message
}

// forgive takes back the problems of the object at hand: it is gone from its
// source, so nobody can cure them.
func (c *compiler) forgive() { c.problems = c.problems[:c.before] }

// held is the message of an object in its grace.
func held(o *Object) string {
	return fmt.Sprintf("removed from %s: declare it again before %s to keep it and its events", sourceOf(o), o.HeldUntil.UTC().Format(time.RFC3339))
}

func sourceOf(o *Object) string {
	if o.File == "" {
		return "its source"
	}
	return o.File
}

func (c *compiler) hasChannel(kind string) bool { return slices.Contains(c.Channels, kind) }

// names lists words for a message: a, b or c.
func names(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}
