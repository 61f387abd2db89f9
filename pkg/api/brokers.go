package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

func (s *Server) listBrokers(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	list := v1.BrokerList{Items: []v1.Broker{}}
	for _, b := range snapshot.Brokers() {
		list.Items = append(list.Items, s.viewBroker(r.Context(), snapshot, b))
	}
	return answer(w, list)
}

func (s *Server) getBroker(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	b, err := findBroker(snapshot, r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return answer(w, s.viewBroker(r.Context(), snapshot, b))
}

func (s *Server) viewBroker(ctx context.Context, snapshot *config.Snapshot, b *config.Broker) v1.Broker {
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
		view.Earliest = s.earliest.of(ctx, b.UID, log)
	}
	return view
}

// earliest remembers when each shard's oldest record was accepted, so that a
// list of Brokers reads a record only where the oldest is another than before.
// A Broker that is gone leaves a few bytes.
type earliest struct {
	mu    sync.Mutex
	known map[place]aged
}

type place struct {
	broker channel.UID
	shard  channel.ShardID
}

type aged struct {
	pos channel.Position
	at  time.Time
}

// of is when the oldest record of a Broker that can be read was accepted, nil
// if there is none. A shard whose first record cannot be read is left out.
func (e *earliest) of(ctx context.Context, broker channel.UID, log channel.BrokerLog) *time.Time {
	var oldest *time.Time
	for _, shard := range log.Shards() {
		from, next := log.Range(shard)
		if from >= next {
			continue
		}
		key := place{broker, shard}
		e.mu.Lock()
		known := e.known[key]
		e.mu.Unlock()
		if known.pos != from {
			records, err := log.Get(ctx, shard, []channel.Position{from}, nil)
			if err != nil || len(records) == 0 {
				continue
			}
			known = aged{from, records[0].Time}
			e.mu.Lock()
			if e.known == nil {
				e.known = make(map[place]aged)
			}
			e.known[key] = known
			e.mu.Unlock()
		}
		if at := known.at; oldest == nil || at.Before(*oldest) {
			oldest = &at
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
