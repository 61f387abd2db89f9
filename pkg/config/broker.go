package config

import (
	"fmt"
	"time"
)

// What a Broker keeps of settled events where it does not say.
const (
	DefaultRetention      = 24 * time.Hour
	DefaultRetentionBytes = 1 << 30
)

// addBroker compiles one Broker into the snapshot.
func (c *compiler) addBroker(o *Object) {
	c.begin(o)
	b := &Broker{
		UID:            o.UID,
		Namespace:      o.Namespace,
		Name:           o.Name,
		Channel:        c.DefaultChannel,
		Retention:      DefaultRetention,
		RetentionBytes: DefaultRetentionBytes,
		Origin:         o.Origin(),
		Version:        o.Version,
	}
	s := c.settings(o)
	if s.retention != nil {
		b.Retention, b.RetentionBytes = s.retention.age, s.retention.bytes
	}
	b.MaxBytes, b.Concurrency, b.Rate, b.DedupWindow = s.maxBytes, s.concurrency, s.rate, s.dedupWindow
	c.brokerChannel(o, b, s)
	c.brokerConfig(o)

	spec, own := c.Delivery, o.Broker.Delivery != nil
	if own {
		spec = o.Broker.Delivery
	}
	b.Delivery.Policy, b.Delivery.Format = c.policy(o, spec)
	b.Delivery.Policy.BackoffMax = s.backoffMax
	if s.schedule != nil {
		b.Delivery.Policy.Schedule = *s.schedule
	}
	b.Paused, b.Ordered = s.paused != nil && *s.paused, s.order == OrderKey
	b.OrderBySubject = b.Ordered
	b.Steady = s.adaptive != nil && !*s.adaptive

	// A dead letter sink that is not known leaves the Broker ready: ingress does
	// not need it. The Triggers that fall back to it say so and wait.
	if spec.DeadLetterSink != nil {
		const at = "spec.delivery.deadLetterSink"
		var found *string
		if o.Resolved != nil {
			found = &o.Resolved.DeadLetterSink
		}
		url, err := c.destination(o, spec.DeadLetterSink, found)
		if err != nil {
			b.Delivery.fault = err.Error()
			c.problem(o.origin(at+err.field), "Broker "+o.FullName()+": "+at+err.field+": "+err.text)
		}
		b.Delivery.DeadLetterSink = url
	}

	b.Ready, b.Reason, b.Message = c.verdict()
	key := name{o.Namespace, o.Name}
	if !o.HeldUntil.IsZero() {
		c.forgive()
		b.Held, b.HeldUntil = true, o.HeldUntil
		b.Ready, b.Reason, b.Message = false, ReasonRemoved, held(o)
		c.s.held = append(c.s.held, b)
		if c.brokers[key] == nil {
			c.brokers[key] = b
		}
		return
	}
	c.s.brokers = append(c.s.brokers, b)
	c.brokers[key] = b
}

// brokerChannel settles which channel the Broker has. It is fixed at creation:
// events do not move from one kind to another.
func (c *compiler) brokerChannel(o *Object, b *Broker, s settings) {
	if s.channel != "" {
		b.Channel = s.channel
	}
	asked := b.Channel
	if o.CreatedChannel != "" && o.CreatedChannel != asked {
		b.Channel = o.CreatedChannel
		if s.channel != "" {
			c.fault(o, s.channelField, ReasonChannelImmutable, fmt.Sprintf("%s: this Broker was created with %s and keeps it: write %s, or declare a Broker of another name", asked, b.Channel, b.Channel))
		}
	}
	if !c.hasChannel(b.Channel) {
		field := ""
		if s.channel != "" {
			field = s.channelField
		}
		c.fault(o, field, ReasonChannelUnavailable, fmt.Sprintf("channel %s is not available here: use %s", b.Channel, names(c.Channels)))
	}
}

// brokerConfig looks at what spec.config names. A Broker that Knative's
// defaulting has been at names the ConfigMap of another class, so one that is
// not there, or is no ConfigMap, is worth a word and no more.
func (c *compiler) brokerConfig(o *Object) {
	ref := o.Broker.Config
	if ref == nil || o.Settings != nil {
		return
	}
	at, who := o.origin("spec.config"), "Broker "+o.FullName()+": spec.config: "
	if ref.Kind != "ConfigMap" {
		c.problem(at, who+quote(ref.Kind)+" is ignored: Penstock reads its settings from a ConfigMap or from penstock.dev/ annotations")
		return
	}
	c.problem(at, who+"there is no ConfigMap "+quote(ref.Name)+" beside the Broker, the defaults are used: declare it or remove spec.config")
}
