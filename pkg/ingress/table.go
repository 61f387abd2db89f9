package ingress

import (
	"errors"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// errLoading is the answer for a broker that no channel takes events for yet.
var errLoading = errors.New("the broker is loading its triggers")

// Table is a Snapshot as senders meet it: the Brokers, and the bounds on what
// each accepts. It does not change; the zero Table has no Broker.
type Table struct {
	snapshot *config.Snapshot
	limits   Limits
	keyings  map[channel.UID]channel.Keying // of Brokers that have one
	names    map[channel.UID]string         // namespace/name
}

// Next is the Table of another Snapshot. A Broker that had a rate keeps its
// bucket as it is. Where a Broker has several doors, each grants one of so many
// parts of its rate; 0 is 1.
func (t Table) Next(s *config.Snapshot, parts int) Table {
	rates := make(map[channel.UID]float64)
	keyings := make(map[channel.UID]channel.Keying)
	names := make(map[channel.UID]string)
	for _, b := range s.Brokers() {
		names[b.UID] = b.FullName()
		if k := b.Keying(); k != 0 {
			keyings[b.UID] = k
		}
		if b.Rate > 0 {
			rates[b.UID] = b.Rate / float64(max(1, parts))
		}
	}
	return Table{s, t.limits.Next(rates), keyings, names}
}

// Keying is how a Broker homes events that carry no partitionkey.
func (t Table) Keying(broker channel.UID) channel.Keying { return t.keyings[broker] }

// Snapshot is what the Table was made of; nil for the zero Table.
func (t Table) Snapshot() *config.Snapshot { return t.snapshot }

// Target finds where a Broker's events go. appender finds its channel; a
// Broker for which there is none yet is not ready.
func (t Table) Target(namespace, name string, appender func(channel.UID) (channel.Appender, bool)) (Target, bool) {
	if t.snapshot == nil {
		return Target{}, false
	}
	b, ok := t.snapshot.Broker(namespace, name)
	if !ok {
		return Target{}, false
	}
	target := Target{UID: b.UID, Name: t.names[b.UID], Limit: t.limits[b.UID]}
	if b.Channel == config.ChannelMemory {
		target.Durability = config.ChannelMemory
	}
	if !b.Ready {
		target.Ready = errors.New(b.Message)
		return target, true
	}
	if target.Appender, ok = appender(b.UID); !ok {
		target.Ready = errLoading
	}
	return target, true
}
