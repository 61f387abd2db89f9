package api

import (
	"net/http"
	"net/url"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

func (s *Server) listTriggers(w http.ResponseWriter, r *http.Request, q url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	triggers := snapshot.Triggers()
	if broker := q.Get("broker"); broker != "" {
		namespace, name, err := fullName("broker", broker)
		if err != nil {
			return err
		}
		// Triggers may name a Broker that does not exist; only if there are none
		// of these either is the name a mistake.
		if triggers = snapshot.TriggersOf(namespace, name); len(triggers) == 0 {
			if _, err := findBroker(snapshot, namespace, name); err != nil {
				return err
			}
		}
	}
	lanes := s.lanes(r)
	list := v1.TriggerList{Items: []v1.Trigger{}}
	for _, t := range triggers {
		if namespace := q.Get("namespace"); namespace == "" || namespace == t.Namespace {
			list.Items = append(list.Items, s.viewTrigger(snapshot, t, lanes))
		}
	}
	return answer(w, list)
}

func (s *Server) getTrigger(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	namespace, name := r.PathValue("namespace"), r.PathValue("name")
	t, err := findTrigger(snapshot, namespace, name)
	if err != nil {
		return err
	}
	return answer(w, s.viewTrigger(snapshot, t, s.lanes(r)))
}

func findTrigger(snapshot *config.Snapshot, namespace, name string) (*config.Trigger, error) {
	if t, ok := snapshot.Trigger(namespace, name); ok {
		return t, nil
	}
	return nil, refuse(http.StatusNotFound, "no trigger %.128q; GET /api/v1/triggers lists those there are", namespace+"/"+name)
}

func (s *Server) lanes(r *http.Request) map[channel.UID]Lane {
	all := s.opts.Source.Lanes(r.Context())
	byTrigger := make(map[channel.UID]Lane, len(all))
	for _, l := range all {
		byTrigger[l.Trigger] = l
	}
	return byTrigger
}

func (s *Server) viewTrigger(snapshot *config.Snapshot, t *config.Trigger, lanes map[channel.UID]Lane) v1.Trigger {
	lane := lanes[t.UID]
	view := v1.Trigger{
		Namespace: t.Namespace, Name: t.Name, UID: string(t.UID), Broker: t.BrokerName(),
		Ready: t.Ready, Reason: t.Reason, Message: t.Message, Origin: t.Origin, Held: t.Held,
		Subscriber: t.Subscriber, DeadLetterSink: t.DeadLetterSink, Filter: t.FilterSpec.Canonical(),
		Backlog: lane.Backlog, InFlight: lane.InFlight, Waiting: lane.Waiting,
		Delivered: lane.Delivered, Failed: lane.Failed, Spared: lane.Spared, Cancelled: lane.Cancelled,
		Window: lane.Window, Waits: lane.Waits, Rate: lane.Rate, Ordered: lane.Ordered,
		BlockedKeys: lane.BlockedKeys, Blocked: lane.Blocked, Circuit: lane.Circuit,
	}
	if view.Circuit.State == "" {
		view.Circuit.State = "closed"
	}
	if view.Paused = lane.PausedByAnnotation || lane.PausedBy; lane.PausedBy {
		view.PausedBy = "operator"
		if !lane.PausedUntil.IsZero() {
			until := lane.PausedUntil.UTC()
			view.PausedUntil = &until
		}
	}
	if lane.PausedByAnnotation {
		view.PausedBy = "annotation"
	}
	if !lane.ColdSince.IsZero() {
		since, until := lane.ColdSince.UTC(), lane.SparedUntil.UTC()
		view.ColdSince, view.SparedUntil = &since, &until
	}
	if !lane.Oldest.IsZero() && lane.Backlog > 0 {
		// A clock that was set back must not give a negative age.
		view.OldestPendingSeconds = max(0, s.opts.Now().Sub(lane.Oldest).Round(time.Millisecond).Seconds())
	}
	if b, ok := snapshot.Broker(t.BrokerNamespace, t.Broker); ok {
		if log, ok := s.opts.Source.Log(b.UID); ok {
			view.Dead = log.DeadCount(t.UID)
		}
	}
	return view
}
