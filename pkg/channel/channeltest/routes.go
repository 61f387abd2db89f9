package channeltest

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func routesStories() []story {
	return []story{
		{"NewBrokerHasNoRoutes", newBrokerHasNoRoutes},
		{"EventsBeforeAChangeStayWithTheOldTriggers", eventsBeforeAChange},
		{"RoutesAreFoldedBehindTheScan", routesAreFolded},
		{"EveryChangeStaysWhileItDecides", everyChangeStays},
		{"ChangesAndAppendsAtOnceHaveOneOrder", changesAndAppendsAtOnce},
	}
}

func route(trigger, filter string) channel.Route {
	return channel.Route{Trigger: channel.UID(trigger), Name: "default/" + trigger, Filter: []byte(filter)}
}

// setRoutes records a change and checks what every change must answer.
func (w *world) setRoutes(b channel.BrokerLog, change channel.Routes) channel.Routes {
	w.t.Helper()
	done, err := b.SetRoutes(w.t.Context(), change)
	if err != nil {
		w.t.Fatalf("set routes: %v", err)
	}
	for _, shard := range b.Shards() {
		if done.From[shard] == 0 {
			w.t.Fatalf("change %d does not say from where it decides over shard %d", done.Epoch, shard)
		}
	}
	if len(done.From) != len(b.Shards()) {
		w.t.Errorf("change %d decides over %d shards of %d", done.Epoch, len(done.From), len(b.Shards()))
	}
	return done
}

// routing is a trigger set as comparable text.
type routing map[channel.UID]string

func (r routing) apply(change channel.Routes) routing {
	if change.Whole {
		r = nil
	}
	next := maps.Clone(r)
	if next == nil {
		next = routing{}
	}
	for _, uid := range change.Unset {
		delete(next, uid)
	}
	for _, route := range change.Set {
		next[route.Trigger] = route.Name + " " + string(route.Filter)
	}
	return next
}

// routesAt is the trigger set that Routes gives for a position, and whether
// any change decides over it.
func routesAt(changes []channel.Routes, id channel.ID) (routing, bool) {
	set, decided := routing{}, false
	for _, change := range changes {
		if change.From[id.Shard] <= id.Position {
			set, decided = set.apply(change), true
		}
	}
	return set, decided
}

// wantRouting checks which triggers Routes gives for an event.
func (w *world) wantRouting(b channel.BrokerLog, id channel.ID, want routing) {
	w.t.Helper()
	changes := b.Routes()
	if len(changes) > 0 && !changes[0].Whole {
		w.t.Fatalf("the first of the routes, change %d, is not whole", changes[0].Epoch)
	}
	if !slices.IsSortedFunc(changes, func(a, b channel.Routes) int { return int(int64(a.Epoch) - int64(b.Epoch)) }) {
		w.t.Fatal("routes are not in order of epoch")
	}
	if got, _ := routesAt(changes, id); !maps.Equal(got, want) {
		w.t.Errorf("event %s is matched against %v, want %v", id, got, want)
	}
}

func newBrokerHasNoRoutes(w *world) {
	if routes := w.broker("a").Routes(); len(routes) != 0 {
		w.t.Errorf("a new broker has routes: %v", routes)
	}
}

func eventsBeforeAChange(w *world) {
	b := w.broker("a")
	steps := []struct {
		change channel.Routes
		want   routing
	}{
		{channel.Routes{Whole: true, Set: []channel.Route{route("t1", "1"), route("t2", "2")}}, routing{"t1": "default/t1 1", "t2": "default/t2 2"}},
		{channel.Routes{Set: []channel.Route{route("t3", "3")}}, routing{"t1": "default/t1 1", "t2": "default/t2 2", "t3": "default/t3 3"}},
		{channel.Routes{Set: []channel.Route{route("t1", "changed")}, Unset: []channel.UID{"t2"}}, routing{"t1": "default/t1 changed", "t3": "default/t3 3"}},
		{channel.Routes{Whole: true, Set: []channel.Route{route("t4", "4")}}, routing{"t4": "default/t4 4"}},
		{channel.Routes{Unset: []channel.UID{"t4", "never there"}}, routing{}},
	}
	wanted := map[channel.ID]routing{}
	check := func() {
		for id, want := range wanted {
			w.wantRouting(b, id, want)
		}
	}
	for i, step := range steps {
		done := w.setRoutes(b, step.change)
		if done.Epoch != uint64(i+1) {
			w.t.Errorf("change %d has epoch %d", i+1, done.Epoch)
		}
		for id := range wanted {
			if id.Position >= done.From[id.Shard] {
				w.t.Errorf("event %s was stored before change %d, which decides from %d", id, done.Epoch, done.From[id.Shard])
			}
		}
		for id := range w.appendMany("a", fmt.Sprint("step-", i), 9, 10) {
			if id.Position < done.From[id.Shard] {
				w.t.Errorf("event %s was stored after change %d, which decides from %d", id, done.Epoch, done.From[id.Shard])
			}
			wanted[id] = step.want
		}
		check()
	}
	check()
}

// scanAll says that all events are matched and none is wanted.
func (w *world) scanAll(b channel.BrokerLog) {
	w.t.Helper()
	var changes []channel.ShardProgress
	for _, shard := range b.Shards() {
		_, next := b.Range(shard)
		changes = append(changes, channel.ShardProgress{Shard: shard, Scanned: next})
	}
	w.save(b, changes...)
}

func routesAreFolded(w *world) {
	b := w.broker("a")
	w.setRoutes(b, channel.Routes{Whole: true, Set: []channel.Route{route("t1", "1")}})
	w.appendMany("a", "first", 8, 10)
	w.setRoutes(b, channel.Routes{Set: []channel.Route{route("t2", "2")}})
	w.appendMany("a", "second", 8, 10)
	last := w.setRoutes(b, channel.Routes{Set: []channel.Route{route("t1", "new")}})
	w.scanAll(b)
	routes := b.Routes()
	if len(routes) != 1 || routes[0].Epoch != last.Epoch || !routes[0].Whole || !maps.Equal(routes[0].From, last.From) {
		w.t.Fatalf("with everything scanned there are %d changes, want the last one made whole: %+v", len(routes), routes)
	}
	id := w.append("a", anEvent("after", 1))[0]
	w.wantRouting(b, id, routing{"t1": "default/t1 new", "t2": "default/t2 2"})
	if done := w.setRoutes(b, channel.Routes{Unset: []channel.UID{"t2"}}); done.Epoch != last.Epoch+1 {
		w.t.Errorf("after epoch %d comes %d", last.Epoch, done.Epoch)
	}
	w.wantRouting(b, id, routing{"t1": "default/t1 new", "t2": "default/t2 2"})
}

func everyChangeStays(w *world) {
	b := w.broker("a")
	slow := b.Shards()[0]
	w.setRoutes(b, channel.Routes{Whole: true, Set: []channel.Route{route("t1", "1")}})
	early := w.append("a", w.at(b, slow, "early", 1))[0]
	w.setRoutes(b, channel.Routes{Set: []channel.Route{route("t2", "2")}})
	late := w.append("a", w.at(b, slow, "late", 1))[0]
	// Every shard but one is scanned to its end.
	for _, shard := range b.Shards()[1:] {
		_, next := b.Range(shard)
		w.save(b, channel.ShardProgress{Shard: shard, Scanned: next})
	}
	w.wantRouting(b, early, routing{"t1": "default/t1 1"})
	w.wantRouting(b, late, routing{"t1": "default/t1 1", "t2": "default/t2 2"})
	w.save(b, channel.ShardProgress{Shard: slow, Scanned: early.Position + 1})
	w.wantRouting(b, late, routing{"t1": "default/t1 1", "t2": "default/t2 2"})
}

func changesAndAppendsAtOnce(w *world) {
	const changers, changes, appenders, requests = 2, 20, 4, 40
	b := w.broker("a")
	// known is what a goroutine can be sure of: an id that was stored, or a
	// change that was made, before what it does next began.
	var (
		mu   sync.Mutex
		done []channel.Routes
		ids  []channel.ID
		wg   sync.WaitGroup
	)
	for n := range changers {
		wg.Go(func() {
			for i := range changes {
				mu.Lock()
				before := slices.Clone(ids)
				mu.Unlock()
				change, err := b.SetRoutes(w.t.Context(), channel.Routes{Set: []channel.Route{route(fmt.Sprint("t", n), fmt.Sprint(i))}})
				if err != nil {
					w.t.Errorf("set routes: %v", err)
					return
				}
				for _, id := range before {
					if id.Position >= change.From[id.Shard] {
						w.t.Errorf("%s was stored before change %d, which decides from %d", id, change.Epoch, change.From[id.Shard])
					}
				}
				mu.Lock()
				done = append(done, change)
				mu.Unlock()
				w.pause(time.Millisecond) // all wake together, and meet
			}
		})
	}
	for n := range appenders {
		wg.Go(func() {
			for i := range requests {
				mu.Lock()
				before := slices.Clone(done)
				mu.Unlock()
				got, err := w.Append(w.t.Context(), "a", []event.Event{anEvent(fmt.Sprintf("at-once-%d-%d", n, i), 10)})
				if err != nil {
					w.t.Errorf("append: %v", err)
					return
				}
				for _, change := range before {
					if got[0].Position < change.From[got[0].Shard] {
						w.t.Errorf("%s was stored after change %d, which decides from %d", got[0], change.Epoch, change.From[got[0].Shard])
					}
				}
				mu.Lock()
				ids = append(ids, idsOf(got)...)
				mu.Unlock()
				w.pause(time.Millisecond)
			}
		})
	}
	wg.Wait()
	slices.SortFunc(done, func(a, b channel.Routes) int { return int(int64(a.Epoch) - int64(b.Epoch)) })
	for i, change := range done {
		if change.Epoch != uint64(i+1) {
			w.t.Fatalf("epochs are not 1 to %d without a gap: %d is in place %d", len(done), change.Epoch, i+1)
		}
		if i == 0 {
			continue
		}
		for shard, from := range change.From {
			if from < done[i-1].From[shard] {
				w.t.Errorf("shard %d: change %d decides from %d, the one before it from %d", shard, change.Epoch, from, done[i-1].From[shard])
			}
		}
	}
	for _, id := range ids {
		want := routing{}
		for _, change := range done {
			if change.From[id.Shard] <= id.Position {
				want = want.apply(change)
			}
		}
		w.wantRouting(b, id, want)
	}
}
