package dispatch

import (
	"bytes"
	"context"
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// table is a trigger set in the form events are matched with.
type table struct {
	from  map[channel.ShardID]channel.Position
	set   map[channel.UID]channel.Route
	index *filter.Index
	lanes []*lane // by the index's ordinals
}

// newTable compiles a trigger set. A stored filter that no longer compiles is
// an error: it must not match less than it did when the events were accepted.
func (b *broker) newTable(set map[channel.UID]channel.Route, compiled map[channel.UID]*filter.Filter) (*table, error) {
	t := &table{set: set}
	filters := make([]*filter.Filter, 0, len(set))
	for uid, route := range set {
		f := compiled[uid]
		if f == nil {
			spec, err := filter.ParseSpec(route.Filter)
			if err == nil {
				f, err = filter.CompileWith(spec, filter.Options{Keys: b.d.opts.Keys})
			}
			if err != nil {
				return nil, fmt.Errorf("stored filter of trigger %s: %w", route.Name, err)
			}
		}
		filters = append(filters, f)
		t.lanes = append(t.lanes, b.lane(uid, route.Name))
	}
	t.index = filter.NewIndex(filters)
	return t, nil
}

// recall puts a stored change of the trigger set back in force.
func (b *broker) recall(change channel.Routes) error {
	t, err := b.newTable(b.merge(change), nil)
	if err != nil {
		return err
	}
	t.from = change.From
	b.tables = append(b.tables, t)
	return nil
}

// merge is the trigger set after a change to the newest one.
func (b *broker) merge(change channel.Routes) map[channel.UID]channel.Route {
	set := make(map[channel.UID]channel.Route)
	if len(b.tables) > 0 && !change.Whole {
		for uid, route := range b.tables[len(b.tables)-1].set {
			set[uid] = route
		}
	}
	for _, uid := range change.Unset {
		delete(set, uid)
	}
	for _, route := range change.Set {
		set[route.Trigger] = route
	}
	return set
}

// route records the difference between the trigger set in force and the one
// wanted, if there is any, and puts it in force. A trigger whose filter does
// not compile is not routed. One that is absent without being removed stays.
func (b *broker) route(ctx context.Context, triggers []*config.Trigger, present, removed map[channel.UID]bool) error {
	var change channel.Routes
	var now map[channel.UID]channel.Route
	if n := len(b.tables); n > 0 {
		now = b.tables[n-1].set
	}
	compiled := make(map[channel.UID]*filter.Filter, len(triggers))
	var newcomers []*config.Trigger
	for _, t := range triggers {
		old, routed := now[t.UID]
		if t.Filter == nil {
			if routed {
				change.Unset = append(change.Unset, t.UID)
			}
			continue
		}
		compiled[t.UID] = t.Filter
		if !routed {
			newcomers = append(newcomers, t)
		}
		canonical := t.FilterSpec.Canonical()
		if !routed || !bytes.Equal(old.Filter, canonical) {
			change.Set = append(change.Set, channel.Route{Trigger: t.UID, Name: t.FullName(), Filter: canonical})
		}
	}
	for uid := range now {
		if !present[uid] && removed[uid] {
			change.Unset = append(change.Unset, uid)
		}
	}
	if len(b.tables) > 0 && len(change.Set) == 0 && len(change.Unset) == 0 {
		return nil
	}
	t, err := b.newTable(b.merge(change), compiled)
	if err != nil {
		return err
	}
	came, err := b.coming(ctx, newcomers)
	if err != nil {
		return err
	}
	b.routing.shut()
	defer b.routing.open()
	change, err = b.log.SetRoutes(ctx, change)
	if err != nil {
		return fmt.Errorf("record the trigger set: %w", err)
	}
	t.from = change.From
	b.tables = append(b.tables, t)
	b.forget()
	came(change.From)
	return nil
}

// forget drops tables that no unscanned record needs. The first record of a
// shard stands at position 1: where none has come yet, all below it is scanned.
// The caller holds the gate shut.
func (b *broker) forget() {
	for len(b.tables) > 1 {
		for i, shard := range b.shards {
			if max(1, channel.Position(b.scanned[i].Load())) < b.tables[1].from[shard] {
				return
			}
		}
		b.tables = b.tables[1:]
	}
}
