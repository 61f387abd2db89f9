package dispatch

import (
	"bytes"
	"context"
	"fmt"
	"maps"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// table is a trigger set in the form events are matched with.
type table struct {
	from  map[channel.ShardID]channel.Position
	set   map[channel.UID]routed
	index *filter.Index
	lanes []*lane // by the index's ordinals
}

// routed is a trigger of the set: what the log holds of it, and its filter
// compiled. While a Snapshot has the same Filter, the trigger has not changed.
type routed struct {
	channel.Route
	filter *filter.Filter
}

// newTable makes a trigger set ready to match with.
func (b *broker) newTable(set map[channel.UID]routed) *table {
	t := &table{set: set, lanes: make([]*lane, 0, len(set))}
	filters := make([]*filter.Filter, 0, len(set))
	for uid, r := range set {
		filters = append(filters, r.filter)
		t.lanes = append(t.lanes, b.lane(uid, r.Name))
	}
	t.index = filter.NewIndex(filters)
	return t
}

// recall puts a stored change of the trigger set back in force. Filters of
// declared that are as they are stored need not be compiled again. A stored
// filter that no longer compiles is an error: it must not match less than it did
// when the events were accepted.
func (b *broker) recall(change channel.Routes, declared map[channel.UID]*declaredFilter) error {
	set := make([]routed, len(change.Set))
	for i, route := range change.Set {
		set[i].Route = route
		if d := declared[route.Trigger]; d != nil && bytes.Equal(d.text(), route.Filter) {
			set[i].filter = d.trigger.Filter
			continue
		}
		spec, err := filter.ParseSpec(route.Filter)
		if err == nil {
			set[i].filter, err = filter.CompileWith(spec, filter.Options{Keys: b.d.opts.Keys})
		}
		if err != nil {
			return fmt.Errorf("stored filter of trigger %s: %w", route.Name, err)
		}
	}
	t := b.newTable(b.merge(change, set))
	t.from = change.From
	b.tables = append(b.tables, t)
	return nil
}

// declaredFilter is the filter of a Trigger and, once asked for, its text.
type declaredFilter struct {
	trigger   *config.Trigger
	canonical []byte
}

func (d *declaredFilter) text() []byte {
	if d.canonical == nil {
		d.canonical = d.trigger.FilterSpec.Canonical()
	}
	return d.canonical
}

func declaredFilters(triggers []*config.Trigger) map[channel.UID]*declaredFilter {
	declared := make(map[channel.UID]*declaredFilter, len(triggers))
	for _, t := range triggers {
		if t.Filter != nil {
			declared[t.UID] = &declaredFilter{trigger: t}
		}
	}
	return declared
}

// merge is the trigger set after a change to the newest one; set is the
// change's.
func (b *broker) merge(change channel.Routes, set []routed) map[channel.UID]routed {
	var merged map[channel.UID]routed
	if len(b.tables) > 0 && !change.Whole {
		merged = maps.Clone(b.tables[len(b.tables)-1].set)
	} else {
		merged = make(map[channel.UID]routed, len(set))
	}
	for _, uid := range change.Unset {
		delete(merged, uid)
	}
	for _, r := range set {
		merged[r.Trigger] = r
	}
	return merged
}

// route records the difference between the trigger set in force and the one
// wanted, if there is any, and puts it in force. A trigger whose filter does
// not compile is not routed. One that is absent without being removed stays.
func (b *broker) route(ctx context.Context, triggers []*config.Trigger, present, removed map[channel.UID]bool) error {
	var change channel.Routes
	var set []routed
	var now map[channel.UID]routed
	if n := len(b.tables); n > 0 {
		now = b.tables[n-1].set
	}
	var newcomers []*config.Trigger
	for _, t := range triggers {
		old, known := now[t.UID]
		switch {
		case t.Filter == nil:
			if known {
				change.Unset = append(change.Unset, t.UID)
			}
			continue
		case known && old.filter == t.Filter:
			continue
		case !known:
			newcomers = append(newcomers, t)
		}
		if canonical := t.FilterSpec.Canonical(); !known || !bytes.Equal(old.Filter, canonical) {
			set = append(set, routed{channel.Route{Trigger: t.UID, Name: t.FullName(), Filter: canonical}, t.Filter})
		}
	}
	for uid := range now {
		if !present[uid] && removed[uid] {
			change.Unset = append(change.Unset, uid)
		}
	}
	if len(b.tables) > 0 && len(set) == 0 && len(change.Unset) == 0 {
		return nil
	}
	for _, r := range set {
		change.Set = append(change.Set, r.Route)
	}
	t := b.newTable(b.merge(change, set))
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
