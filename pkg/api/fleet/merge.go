package fleet

import (
	"cmp"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

func mergeBrokers(parts []v1.BrokerList) v1.BrokerList {
	var all []v1.Broker
	for _, part := range parts {
		all = append(all, part.Items...)
	}
	return v1.BrokerList{Items: grouped(all, v1.Broker.FullName, mergeBroker)}
}

func mergeTriggers(parts []v1.TriggerList) v1.TriggerList {
	var all []v1.Trigger
	for _, part := range parts {
		all = append(all, part.Items...)
	}
	return v1.TriggerList{Items: grouped(all, v1.Trigger.FullName, mergeTrigger)}
}

// grouped merges what has the same name, and orders by it.
func grouped[T any](all []T, name func(T) string, merge func([]T) T) []T {
	of := make(map[string][]T)
	for _, one := range all {
		of[name(one)] = append(of[name(one)], one)
	}
	items := make([]T, 0, len(of))
	for _, parts := range of {
		items = append(items, merge(parts))
	}
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(name(a), name(b)) })
	return items
}

// mergeBroker adds up one Broker's share of each dispatcher.
func mergeBroker(parts []v1.Broker) v1.Broker {
	whole := parts[0]
	for _, p := range parts[1:] {
		if whole.Ready && !p.Ready {
			whole.Ready, whole.Reason, whole.Message = false, p.Reason, p.Message
		}
		whole.Shards += p.Shards
		whole.Bytes += p.Bytes
		whole.DeadBytes += p.DeadBytes
		whole.MaxBytes += p.MaxBytes
		whole.Received += p.Received
		whole.Accepted += p.Accepted
		whole.Dead += p.Dead
		whole.Earliest = earlier(whole.Earliest, p.Earliest)
	}
	return whole
}

// mergeTrigger adds up one Trigger's lanes. Its ages are those of the worst.
func mergeTrigger(parts []v1.Trigger) v1.Trigger {
	whole := parts[0]
	for _, p := range parts[1:] {
		if whole.Ready && !p.Ready {
			whole.Ready, whole.Reason, whole.Message = false, p.Reason, p.Message
		}
		whole.Backlog += p.Backlog
		whole.OldestPendingSeconds = max(whole.OldestPendingSeconds, p.OldestPendingSeconds)
		whole.InFlight += p.InFlight
		whole.Waiting += p.Waiting
		whole.Delivered += p.Delivered
		whole.Failed += p.Failed
		whole.Spared += p.Spared
		whole.Dead += p.Dead
		whole.Cancelled += p.Cancelled
		whole.Window += p.Window
		whole.ColdSince = earlier(whole.ColdSince, p.ColdSince)
		if p.SparedUntil != nil && (whole.SparedUntil == nil || p.SparedUntil.After(*whole.SparedUntil)) {
			whole.SparedUntil = p.SparedUntil
		}
	}
	return whole
}

// earlier is the first of two moments of which either may not be.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}
