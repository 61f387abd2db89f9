package channeltest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func appendStories() []story {
	return []story{
		{"WhatIsAppendedIsThere", whatIsAppendedIsThere},
		{"EventsOfEverySizeComeBackByteForByte", everySize},
		{"BatchStandsInItsOrder", batchStandsInItsOrder},
		{"KeyedEventsShareAShard", keyedEventsShareAShard},
		{"UnkeyedEventsUseEveryShard", unkeyedEventsUseEveryShard},
		{"EmptyRequestStoresNothing", emptyRequestStoresNothing},
		{"ConcurrentAppendersLoseNothing", concurrentAppenders},
		{"UnknownBrokerIsRefused", unknownBrokerIsRefused},
		{"CancelledRequestIsStoredOrRefused", cancelledRequest},
		{"BrokersShareNothing", brokersShareNothing},
	}
}

func whatIsAppendedIsThere(w *world) {
	b := w.broker("a")
	w.wantExactly(b, w.appendMany("a", "one", 100, 200))
}

func everySize(w *world) {
	b, all := w.broker("a"), stored{}
	for _, size := range []int{0, 1, 7, 8, 9, 100, 1 << 10, 4 << 10, 64<<10 - 1, 64 << 10, 64<<10 + 1, 100_000, 100, 0, 128 << 10, 5} {
		e := anEvent(fmt.Sprint("size-", size, "-", len(all)), size)
		all[w.append("a", e)[0]] = e
	}
	w.wantExactly(b, all)
}

func batchStandsInItsOrder(w *world) {
	b, all := w.broker("a"), stored{}
	for n := 1; n <= 64; n *= 2 {
		var batch []event.Event
		for i := range n {
			key := ""
			if i%3 == 0 {
				key = fmt.Sprint("key-", i)
			}
			batch = append(batch, keyed(fmt.Sprintf("batch-%d-%d", n, i), key, 50))
		}
		ids := w.append("a", batch...)
		all.add(ids, batch)
		last := map[channel.ShardID]channel.Position{}
		for i, id := range ids {
			if id.Position <= last[id.Shard] {
				w.t.Errorf("event %d of a batch of %d stands at %s, an earlier one of it at or behind that", i, n, id)
			}
			last[id.Shard] = id.Position
		}
	}
	w.wantExactly(b, all)
}

func keyedEventsShareAShard(w *world) {
	b := w.broker("a")
	all, home, last := stored{}, map[string]channel.ShardID{}, map[string]channel.Position{}
	for i := range 200 {
		key := fmt.Sprint("key-", i%17)
		e := keyed(fmt.Sprint("keyed-", i), key, 20)
		id := w.append("a", e)[0]
		all[id] = e
		if want, ok := home[key]; ok && id.Shard != want {
			w.t.Fatalf("key %s was at home in shard %d and is now in %d", key, want, id.Shard)
		}
		if want := w.suite.home(b, key); id.Shard != want {
			w.t.Fatalf("key %s is in shard %d, its home is %d", key, id.Shard, want)
		}
		if id.Position <= last[key] {
			w.t.Fatalf("key %s: a later event stands before an earlier one", key)
		}
		home[key], last[key] = id.Shard, id.Position
	}
	w.wantExactly(b, all)
}

func unkeyedEventsUseEveryShard(w *world) {
	b := w.broker("a")
	used := map[channel.ShardID]bool{}
	for id := range w.appendMany("a", "spread", 200, 10) {
		used[id.Shard] = true
	}
	if len(used) != len(b.Shards()) {
		w.t.Errorf("200 events without key use %d of %d shards", len(used), len(b.Shards()))
	}
}

func emptyRequestStoresNothing(w *world) {
	b := w.broker("a")
	ids, err := w.Append(w.t.Context(), "a", nil)
	if err != nil || len(ids) != 0 {
		w.t.Errorf("an empty append answers %v and %v", ids, err)
	}
	w.wantExactly(b, stored{})
}

func concurrentAppenders(w *world) {
	const appenders, requests = 8, 40
	b := w.broker("a")
	var (
		mu  sync.Mutex
		all = stored{}
		wg  sync.WaitGroup
	)
	for n := range appenders {
		wg.Go(func() {
			last := map[channel.ShardID]channel.Position{}
			for i := range requests {
				batch := []event.Event{
					keyed(fmt.Sprintf("con-%d-%d-0", n, i), fmt.Sprint("key-", n), 300),
					anEvent(fmt.Sprintf("con-%d-%d-1", n, i), 30),
				}
				ids, err := w.Append(w.t.Context(), "a", batch)
				if err != nil || len(ids) != len(batch) {
					w.t.Errorf("append: %d ids, error %v", len(ids), err)
					return
				}
				for _, id := range ids {
					if id.Position <= last[id.Shard] {
						w.t.Errorf("appended after %d of shard %d, and stands at %s", last[id.Shard], id.Shard, id)
					}
					last[id.Shard] = id.Position
				}
				mu.Lock()
				all.add(idsOf(ids), batch)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(all) != appenders*requests*2 {
		w.t.Errorf("%d different ids for %d events", len(all), appenders*requests*2)
	}
	w.wantExactly(b, all)
}

func unknownBrokerIsRefused(w *world) {
	_, err := w.Append(w.t.Context(), "nobody", []event.Event{anEvent("1", 1)})
	w.wantRefused(err, channel.ErrNoBroker)
}

func cancelledRequest(w *world) {
	b := w.broker("a")
	ctx, cancel := context.WithCancel(w.t.Context())
	cancel()
	all := stored{}
	batch := []event.Event{anEvent("1", 1), anEvent("2", 1)}
	ids, err := w.Append(ctx, "a", batch)
	switch {
	case err == nil:
		all.add(idsOf(ids), batch)
	case errors.Is(err, channel.ErrUnknown):
		return
	default:
		w.wantRefused(err, channel.ErrUnavailable)
	}
	w.wantExactly(b, all)
}

func brokersShareNothing(w *world) {
	a, b := w.broker("a"), w.broker("b")
	var ofA, ofB = stored{}, stored{}
	for i := range 30 {
		e, f := anEvent(fmt.Sprint("a-", i), 10), keyed(fmt.Sprint("b-", i), "key", 10)
		ofA[w.append("a", e)[0]] = e
		ofB[w.append("b", f)[0]] = f
	}
	w.wantExactly(a, ofA)
	w.wantExactly(b, ofB)
}
