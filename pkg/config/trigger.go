package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/penstock-events/penstock/pkg/filter"
)

// addTrigger compiles one Trigger into the snapshot.
func (c *compiler) addTrigger(o *Object) {
	c.begin(o)
	t := &c.trigger
	*t = Trigger{
		UID:             o.UID,
		Namespace:       o.Namespace,
		Name:            o.Name,
		Broker:          o.BrokerName(),
		BrokerNamespace: o.brokerNamespace(),
		FilterSpec:      o.Trigger.Filter,
		Origin:          o.Origin(),
		Version:         o.Version,
	}
	if !o.HeldUntil.IsZero() {
		c.hold(o, t)
		return
	}
	c.filter(o, t)
	c.subscriber(o, t)
	s := c.settings(o)
	c.delivery(o, t, s)
	c.broker(o, t)
	t.Ready, t.Reason, t.Message = c.verdict()
	c.keep(t)
}

// keep adds a Trigger to the snapshot: where nothing of it has changed, that of
// the previous one, so that thousands are not there twice.
func (c *compiler) keep(t *Trigger) {
	if old := c.known[t.UID]; old != nil && old.same(t) {
		c.s.triggers = append(c.s.triggers, old)
		return
	}
	made := *t
	c.s.triggers = append(c.s.triggers, &made)
}

// same compares all of two Triggers. FilterSpec stands in Filter, which filter
// takes over only where that is equal; without one there is no telling.
func (t *Trigger) same(u *Trigger) bool {
	return t.Filter != nil && t.Filter == u.Filter &&
		t.UID == u.UID && t.Namespace == u.Namespace && t.Name == u.Name && t.Broker == u.Broker && t.BrokerNamespace == u.BrokerNamespace &&
		t.Subscriber == u.Subscriber && t.ScalesFromZero == u.ScalesFromZero && t.Policy == u.Policy && t.Format == u.Format &&
		t.DeadLetterSink == u.DeadLetterSink && t.Concurrency == u.Concurrency && t.Rate == u.Rate && t.Paused == u.Paused && t.Steady == u.Steady &&
		t.Ordered == u.Ordered && t.Start == u.Start && t.Held == u.Held && t.HeldUntil.Equal(u.HeldUntil) &&
		t.Ready == u.Ready && t.Reason == u.Reason && t.Message == u.Message && t.Origin == u.Origin && t.Version == u.Version
}

// hold keeps matching for a Trigger that is gone from its source, so that
// nothing is missing if it comes back. Faults it may have are no news.
func (c *compiler) hold(o *Object, t *Trigger) {
	c.filter(o, t)
	c.forgive()
	t.Held, t.HeldUntil = true, o.HeldUntil
	t.Ready, t.Reason, t.Message = false, ReasonRemoved, held(o)
	c.keep(t)
}

// filter compiles the filter. One that is wrong in form or does not compile
// stays nil: it matches nothing rather than everything.
func (c *compiler) filter(o *Object, t *Trigger) {
	if slices.ContainsFunc(o.Faults, hidesFilter) {
		return
	}
	if old := c.known[o.UID]; old != nil && old.Filter != nil && sameSpec(&old.FilterSpec, &t.FilterSpec) {
		t.Filter = old.Filter
		return
	}
	f, err := filter.CompileWith(t.FilterSpec, filter.Options{Keys: c.Keys})
	if err == nil {
		t.Filter = f
		return
	}
	var where *filter.Error
	if errors.As(err, &where) {
		c.fault(o, "spec."+where.Path, ReasonFilterInvalid, where.Reason)
	} else {
		c.fault(o, "spec.filters", ReasonFilterInvalid, err.Error())
	}
}

// sameSpec compares two filters. Those of an object that its source did not
// read again are one.
func sameSpec(a, b *filter.Spec) bool {
	if len(a.Filters) > 0 && len(a.Filters) == len(b.Filters) && &a.Filters[0] == &b.Filters[0] && a.Attributes == nil && b.Attributes == nil {
		return true
	}
	return reflect.DeepEqual(a, b)
}

// hidesFilter reports whether, with this fault, the filter that was read may
// not be the one that was meant: the fault is inside it, or a field that is
// unknown or misplaced beside it could be the filter misspelt.
func hidesFilter(f Fault) bool {
	if f.Reason == ReasonFilterInvalid {
		return true
	}
	switch f.Field {
	case "spec.broker", "spec.brokerRef", "spec.subscriber", "spec.delivery", "metadata", "status":
		return false
	}
	return !strings.ContainsAny(strings.TrimPrefix(f.Field, "spec."), ".[")
}

// subscriber finds the URL that events go to.
func (c *compiler) subscriber(o *Object, t *Trigger) {
	const at = "spec.subscriber"
	d := o.Trigger.Subscriber
	if d == nil || d.Ref == nil && d.URI == "" {
		// Only if the source has not already said more about it.
		if c.faults == 0 {
			c.fault(o, at, ReasonSubscriberInvalid, "missing: give a uri, or a ref")
		}
		return
	}
	t.ScalesFromZero = d.Ref.scalesFromZero()
	var found *string
	if o.Resolved != nil {
		found = &o.Resolved.Subscriber
	}
	if old := c.known[o.UID]; old != nil && found == nil && d.URI == old.Subscriber && *d == (Destination{URI: d.URI}) {
		t.Subscriber = d.URI // was good before
		return
	}
	url, err := c.destination(o, d, found)
	if err != nil {
		c.fault(o, at+err.field, reasonOf(err, ReasonSubscriberNotResolved, ReasonSubscriberInvalid), err.text)
		return
	}
	t.Subscriber = url
}

// delivery settles precedence: the Trigger's spec.delivery, where it has one,
// replaces all of the Broker's but the dead letter sink, which falls back by
// itself. (The Knative specification lets the sink be replaced too; Knative's
// own classes and its conformance helpers fall back, and people rely on it.)
func (c *compiler) delivery(o *Object, t *Trigger, s settings) {
	b := c.brokers[name{t.BrokerNamespace, t.Broker}]
	if own := o.Trigger.Delivery; own != nil {
		t.Policy, t.Format = c.policy(o, own)
	} else if b != nil {
		t.Policy, t.Format = b.Delivery.Policy, b.Delivery.Format
	}
	t.Policy.BackoffMax, t.Concurrency, t.Rate = s.backoffMax, s.concurrency, s.rate
	t.Start = s.start
	if b != nil {
		// Retries that a Trigger spells out are nearer than the Broker's schedule.
		if own := o.Trigger.Delivery; own == nil || own.Retry == nil && own.BackoffPolicy == nil && own.BackoffDelay == nil {
			t.Policy.Schedule = b.Delivery.Policy.Schedule
		}
		t.Paused, t.Ordered, t.Steady = b.Paused, b.Ordered, b.Steady
		if t.Policy.BackoffMax == 0 {
			t.Policy.BackoffMax = b.Delivery.Policy.BackoffMax
		}
		if t.Concurrency == 0 {
			t.Concurrency = b.Concurrency
		}
	}
	if s.schedule != nil {
		t.Policy.Schedule = *s.schedule
	}
	if s.paused != nil {
		t.Paused = *s.paused
	}
	if s.order != "" {
		t.Ordered = s.order == OrderKey
	}
	if s.adaptive != nil {
		t.Steady = !*s.adaptive
	}

	const at = "spec.delivery.deadLetterSink"
	if own := o.Trigger.Delivery; own != nil && own.DeadLetterSink != nil {
		var found *string
		if o.Resolved != nil {
			found = &o.Resolved.DeadLetterSink
		}
		url, err := c.destination(o, own.DeadLetterSink, found)
		if err != nil {
			c.fault(o, at+err.field, ReasonDeadLetterNotResolved, err.text)
			return
		}
		t.DeadLetterSink = url
	} else if b != nil {
		t.DeadLetterSink = b.Delivery.DeadLetterSink
		if b.Delivery.fault != "" {
			c.fault(o, "", ReasonDeadLetterNotResolved, fmt.Sprintf("dead letter sink of Broker %s: %s", b.FullName(), b.Delivery.fault))
		}
	}
}

// broker says what stands between the Trigger and its Broker.
func (c *compiler) broker(o *Object, t *Trigger) {
	const at = "spec.broker"
	spec := o.Trigger
	switch ref := spec.BrokerRef; {
	case ref != nil && spec.Broker != "":
		c.fault(o, "spec.brokerRef", ReasonSpecInvalid, "given together with broker: remove one of the two")
	case ref != nil && ref.Namespace != "" && ref.Namespace != t.BrokerNamespace:
		c.fault(o, "spec.brokerRef.namespace", ReasonSpecInvalid, fmt.Sprintf("%s: a Broker of another namespace is not supported: declare the Trigger in that namespace", quote(ref.Namespace)))
		return
	case ref != nil && ref.Kind != "" && ref.Kind != KindBroker:
		c.fault(o, "spec.brokerRef.kind", ReasonSpecInvalid, quote(ref.Kind)+": want Broker")
		return
	}
	if t.Broker == "" {
		c.fault(o, at, ReasonSpecInvalid, "missing: name a Broker, as in broker: default")
		return
	}
	b := c.brokers[name{t.BrokerNamespace, t.Broker}]
	switch {
	case b == nil:
		c.fault(o, at, ReasonBrokerDoesNotExist, fmt.Sprintf("there is no Broker %s/%s%s", t.BrokerNamespace, show(t.Broker), cure(c.nearBroker(t.BrokerNamespace, t.Broker), ": declare it, or name another")))
	case b.Held:
		c.fault(o, at, ReasonBrokerDoesNotExist, "Broker "+b.FullName()+" was "+b.Message)
	case !b.Ready:
		c.fault(o, at, ReasonBrokerNotReady, "Broker "+b.FullName()+" is not ready: "+b.Message)
	}
}

// nearBroker guesses which Broker somebody meant.
func (c *compiler) nearBroker(namespace, broker string) string {
	var known []string
	for n := range c.declared {
		if n.namespace == namespace {
			known = append(known, n.name)
		}
	}
	slices.Sort(known)
	return Suggest(broker, known)
}

func show(broker string) string {
	if CheckName("default", broker) == nil {
		return broker
	}
	return quote(broker)
}

func reasonOf(err *destinationError, unresolved, invalid string) string {
	if err.unresolved {
		return unresolved
	}
	return invalid
}
