package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

func (s *Server) listBrokers(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	list := v1.BrokerList{Items: []v1.Broker{}}
	for _, b := range snapshot.Brokers() {
		list.Items = append(list.Items, s.viewBroker(snapshot, b))
	}
	return answer(w, list)
}

func (s *Server) getBroker(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	b, err := findBroker(snapshot, r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return err
	}
	view := s.viewBroker(snapshot, b)
	if log, ok := s.opts.Source.Log(b.UID); ok {
		view.Earliest = earliest(r.Context(), log)
	}
	return answer(w, view)
}

func (s *Server) viewBroker(snapshot *config.Snapshot, b *config.Broker) v1.Broker {
	view := v1.Broker{
		Namespace: b.Namespace, Name: b.Name, UID: string(b.UID),
		Ready: b.Ready, Reason: b.Reason, Message: b.Message, Origin: b.Origin,
		Address:  strings.TrimRight(s.opts.IngressURL, "/") + "/" + b.Namespace + "/" + b.Name,
		Channel:  b.Channel,
		MaxBytes: b.MaxBytes,
		Triggers: len(snapshot.TriggersOf(b.Namespace, b.Name)),
	}
	if b.Retention > 0 {
		view.Retention = b.Retention.String()
	}
	if s.opts.Traffic != nil {
		view.Received, view.Accepted = s.opts.Traffic(b.FullName())
	}
	if log, ok := s.opts.Source.Log(b.UID); ok {
		stats := log.Stats()
		view.Shards = len(log.Shards())
		view.Bytes, view.DeadBytes, view.MaxBytes = stats.Bytes, stats.DeadBytes, stats.MaxBytes
		view.Dead = log.DeadCount("")
	}
	return view
}

// earliest is the time of the oldest record that can be read, nil if there
// is none. A shard whose first record cannot be read is left out.
func earliest(ctx context.Context, log channel.BrokerLog) *time.Time {
	var oldest *time.Time
	for _, shard := range log.Shards() {
		from, next := log.Range(shard)
		if from >= next {
			continue
		}
		records, err := log.Get(ctx, shard, []channel.Position{from}, nil)
		if err != nil || len(records) == 0 {
			continue
		}
		if t := records[0].Time; oldest == nil || t.Before(*oldest) {
			oldest = &t
		}
	}
	return oldest
}

func findBroker(snapshot *config.Snapshot, namespace, name string) (*config.Broker, error) {
	b, ok := snapshot.Broker(namespace, name)
	if !ok {
		return nil, refuse(http.StatusNotFound, "no broker %.128q; GET /api/v1/brokers lists those there are", namespace+"/"+name)
	}
	return b, nil
}
