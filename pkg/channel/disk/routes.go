package disk

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
)

// SetRoutes implements channel.Router.
func (b *broker) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	r := &request{kind: kindRoutes, broker: b, routes: change}
	if err := b.log.do(ctx, r); err != nil {
		return channel.Routes{}, fmt.Errorf("set routes of broker %s: %w", b.uid, err)
	}
	r.routes.From = maps.Clone(r.routes.From)
	return r.routes, nil
}

// Routes implements channel.Router.
func (b *broker) Routes() []channel.Routes {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	return b.routes.Changes()
}

// date gives a change its place among the events that the committer has
// numbered so far. Committer only.
func (b *broker) date(change channel.Routes, epoch uint64) channel.Routes {
	change.Epoch = epoch
	change.Whole = change.Whole || epoch == 1
	change.From = make(map[channel.ShardID]channel.Position, len(b.shards))
	for i, s := range b.shards {
		change.From[channel.ShardID(i)] = s.assign
	}
	return change
}

func putRoutes(e *encoder, r *channel.Routes) {
	e.uint(r.Epoch)
	e.bool(r.Whole)
	e.uint(uint64(len(r.From)))
	for _, shard := range slices.Sorted(maps.Keys(r.From)) {
		e.uint(uint64(shard))
		e.uint(uint64(r.From[shard]))
	}
	e.uint(uint64(len(r.Set)))
	for i := range r.Set {
		e.string(string(r.Set[i].Trigger))
		e.string(r.Set[i].Name)
		e.bytes(r.Set[i].Filter)
	}
	e.uint(uint64(len(r.Unset)))
	for _, uid := range r.Unset {
		e.string(string(uid))
	}
}

func getRoutes(d *decoder) channel.Routes {
	r := channel.Routes{Epoch: d.uint(), Whole: d.bool(), From: make(map[channel.ShardID]channel.Position)}
	for range d.count() {
		shard := channel.ShardID(d.uint())
		r.From[shard] = channel.Position(d.uint())
	}
	for range d.count() {
		r.Set = append(r.Set, channel.Route{
			Trigger: channel.UID(d.string()), Name: d.string(), Filter: slices.Clone(d.bytes()),
		})
	}
	for range d.count() {
		r.Unset = append(r.Unset, channel.UID(d.string()))
	}
	return r
}
