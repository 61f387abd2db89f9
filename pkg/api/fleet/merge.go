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
		whole.SparedUntil = later(whole.SparedUntil, p.SparedUntil)
		if whole.Waits == "" {
			whole.Waits = p.Waits
		}
		if p.Paused && !whole.Paused {
			whole.Paused, whole.PausedBy = true, p.PausedBy
		}
		whole.PausedUntil = later(whole.PausedUntil, p.PausedUntil)
		whole.Rate += p.Rate
		whole.BlockedKeys += p.BlockedKeys
		whole.Blocked = append(whole.Blocked, p.Blocked...)
		if whole.Circuit.State == "closed" || p.Circuit.State == "open" {
			whole.Circuit = p.Circuit
		}
	}
	return whole
}

// mergeBlocked lists the longest blocked keys of all first.
func mergeBlocked(parts []v1.BlockedList) v1.BlockedList {
	whole := v1.BlockedList{Items: []v1.BlockedKey{}}
	for _, p := range parts {
		whole.Items = append(whole.Items, p.Items...)
		whole.Total += p.Total
	}
	slices.SortStableFunc(whole.Items, func(a, b v1.BlockedKey) int { return a.Since.Compare(b.Since) })
	return whole
}

// maxGroups is how many groups a list has at most; the smallest are left out of
// one that is put together of more.
const maxGroups = 1000

// mergeGroups adds up the groups of the same Trigger and reason.
func mergeGroups(parts []v1.DeadLetterGroupList) v1.DeadLetterGroupList {
	var all []v1.DeadLetterGroup
	for _, p := range parts {
		all = append(all, p.Items...)
	}
	name := func(g v1.DeadLetterGroup) string { return g.Broker + "\n" + g.Trigger + "\n" + g.Reason }
	items := grouped(all, name, func(same []v1.DeadLetterGroup) v1.DeadLetterGroup {
		whole := same[0]
		for _, g := range same[1:] {
			whole.Count += g.Count
			whole.First, whole.Last = earlier(whole.First, g.First), later(whole.Last, g.Last)
		}
		return whole
	})
	slices.SortStableFunc(items, func(a, b v1.DeadLetterGroup) int { return cmp.Compare(b.Count, a.Count) })
	return v1.DeadLetterGroupList{Items: items[:min(len(items), maxGroups)]}
}

// later is the last of two moments of which either may not be.
func later(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.After(*a) {
		return b
	}
	return a
}

// earlier is the first of two moments of which either may not be.
func earlier(a, b *time.Time) *time.Time {
	if a == nil || b != nil && b.Before(*a) {
		return b
	}
	return a
}
