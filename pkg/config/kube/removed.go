package kube

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

const (
	// What was removed is told for so long, so that a Snapshot which could not be
	// applied wholly, or was passed over by the next, leaves nothing behind; at
	// most so many at once. What is cut off there is in Stored after a restart.
	removedFor  = 15 * time.Minute
	removedMost = config.MaxObjects
)

func removedTrigger(uid channel.UID, o *config.Object, broker fullName, now time.Time) config.Removed {
	r := config.Removed{Kind: config.KindTrigger, UID: uid, Broker: broker.name, At: now}
	if o != nil {
		r.Namespace, r.Name = o.Namespace, o.Name
	}
	return r
}

func (s *state) remove(r config.Removed) { s.removed[r.UID] = r }

// forget drops from what is removed what was told for long enough and, since
// whoever acts on it would cancel the living, what has come back.
func (s *state) forget(l *look) {
	for uid, r := range s.removed {
		if l.present[uid] || l.uids[uid] || l.now.Sub(r.At) > removedFor {
			delete(s.removed, uid)
		}
	}
	if over := len(s.removed) - removedMost; over > 0 {
		for _, r := range s.removedList()[:over] {
			delete(s.removed, r.UID)
		}
	}
}

// removedList is what is gone for good, the oldest first.
func (s *state) removedList() []config.Removed {
	return slices.SortedFunc(maps.Values(s.removed), func(a, b config.Removed) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.UID, b.UID))
	})
}
