package config

import (
	"errors"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Bounds of penstock.dev/dedup-window. Beyond a week the set of what is known
// would cost more than the doubles it spares.
const (
	MinDedupWindow = time.Second
	MaxDedupWindow = 7 * 24 * time.Hour
)

// OrderAnnotation says how a Trigger's events are ordered: OrderNone or OrderKey.
const OrderAnnotation = AnnotationPrefix + "order"

// OrdersByKey reports whether annotations ask for order by key.
func OrdersByKey(annotations map[string]string) bool {
	return strings.TrimSpace(annotations[OrderAnnotation]) == OrderKey
}

// order notes on Brokers which of them have an ordered Trigger. It looks at
// the annotation alone: whatever else is wrong with the Trigger, its events
// must lie in order when it is mended. (What the Broker says itself is known.)
func (c *compiler) order(triggers []*Object) {
	for _, t := range triggers {
		if !OrdersByKey(t.Annotations) {
			continue
		}
		if b := c.brokers[name{t.brokerNamespace(), t.BrokerName()}]; b != nil {
			b.OrderBySubject = true
		}
	}
}

// Keying is how the Broker's events that carry no partitionkey are homed.
func (b *Broker) Keying() channel.Keying {
	var k channel.Keying
	if b.OrderBySubject {
		k |= channel.KeySubject
	}
	if b.DedupWindow > 0 {
		k |= channel.KeyIdentity
	}
	return k
}

// parseDedupWindow reads the annotation dedup-window.
func parseDedupWindow(value string) (time.Duration, error) {
	d, err := parseDuration(value)
	switch {
	case err != nil:
		return 0, err
	case d < MinDedupWindow:
		return 0, errors.New("must be a second at least: leave it out to have none")
	case d > MaxDedupWindow:
		return 0, errors.New("must be 7 days at most")
	}
	return d, nil
}
