package api

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// groupDead counts dead letters by Trigger and reason, the largest group first.
func (s *Server) groupDead(w http.ResponseWriter, r *http.Request, q url.Values) error {
	drawers, err := s.drawers(q.Get("broker"), q.Get("trigger"))
	if err != nil {
		return err
	}
	list := v1.DeadLetterGroupList{Items: []v1.DeadLetterGroup{}}
	for _, d := range drawers {
		groups, err := d.log.DeadGroups(r.Context(), d.trigger)
		if err != nil {
			return err
		}
		for _, g := range groups {
			if d.name == "" || d.name == g.TriggerName {
				list.Items = append(list.Items, viewGroup(d.broker.FullName(), g))
			}
		}
		list.Items = fold(list.Items)
	}
	if len(list.Items) == 0 && len(drawers) > 0 && drawers[0].name != "" {
		return refuse(http.StatusNotFound, "no trigger %.128q, and no dead letters of one that was", q.Get("trigger"))
	}
	return answer(w, list)
}

func viewGroup(broker string, g channel.DeadGroup) v1.DeadLetterGroup {
	return v1.DeadLetterGroup{
		Broker: broker, Trigger: g.TriggerName, Reason: g.Reason, Count: g.Count, First: told(g.First), Last: told(g.Last),
	}
}

// told is a time, nil where none is known.
func told(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// fold sorts groups and sums up the smallest of too many.
func fold(groups []v1.DeadLetterGroup) []v1.DeadLetterGroup {
	order := func(a, b v1.DeadLetterGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Broker, b.Broker), cmp.Compare(a.Trigger, b.Trigger), cmp.Compare(a.Reason, b.Reason))
	}
	slices.SortFunc(groups, order)
	if len(groups) <= channel.MaxDeadGroups {
		return groups
	}
	rest := groups[channel.MaxDeadGroups-1:]
	other := rest[0]
	for _, g := range rest[1:] {
		if other.Count += g.Count; g.Broker != other.Broker {
			other.Broker = ""
		}
		if g.Trigger != other.Trigger {
			other.Trigger = ""
		}
		if g.First != nil && (other.First == nil || g.First.Before(*other.First)) {
			other.First = g.First
		}
		if g.Last != nil && (other.Last == nil || g.Last.After(*other.Last)) {
			other.Last = g.Last
		}
	}
	other.Reason = channel.OtherReasons
	groups = append(groups[:channel.MaxDeadGroups-1], other)
	slices.SortFunc(groups, order)
	return groups
}
