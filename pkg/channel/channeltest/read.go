package channeltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func readStories() []story {
	return []story{
		{"ReadWaitsForAnEvent", readWaits},
		{"ReadFillsTheBufferAndNoMore", readFillsTheBuffer},
		{"ReadKeepsWhatIsInTheBuffer", readKeepsTheBuffer},
		{"ReadStartsAnywhere", readStartsAnywhere},
		{"ReadEndsWithItsContext", readEndsWithItsContext},
		{"ReadersFollowAppenders", readersFollowAppenders},
		{"GetLeavesHolesOut", getLeavesHolesOut},
		{"RangeFollowsTheEvents", rangeFollows},
		{"TimeNeverGoesBack", timeNeverGoesBack},
		{"UnknownShardIsAnError", unknownShard},
	}
}

// answer is what a Read in another goroutine returned.
type answer struct {
	records []channel.Record
	next    channel.Position
	err     error
}

func (w *world) readAside(ctx context.Context, b channel.BrokerLog, shard channel.ShardID, from channel.Position) <-chan answer {
	got := make(chan answer, 1)
	go func() {
		records, next, err := b.Read(ctx, shard, from, make([]channel.Record, 0, 10))
		got <- answer{records, next, err}
	}()
	w.suite.settle()
	return got
}

// wantWaiting checks that a Read has not answered.
func (w *world) wantWaiting(got <-chan answer, while string) {
	w.t.Helper()
	w.suite.settle()
	select {
	case a := <-got:
		w.t.Fatalf("%s, read answered %d records and error %v", while, len(a.records), a.err)
	default:
	}
}

// elsewhere is an event of a key whose home is not this shard.
func (w *world) elsewhere(b channel.BrokerLog, shard channel.ShardID) event.Event {
	for i := 0; ; i++ {
		if key := fmt.Sprint("elsewhere-", i); w.suite.home(b, key) != shard {
			return keyed(key, key, 10)
		}
	}
}

// at is an event of a key whose home is this shard.
func (w *world) at(b channel.BrokerLog, shard channel.ShardID, id string, size int) event.Event {
	for i := 0; ; i++ {
		if key := fmt.Sprint("at-", i); w.suite.home(b, key) == shard {
			return keyed(id, key, size)
		}
	}
}

func readWaits(w *world) {
	b := w.broker("a")
	shard := b.Shards()[1]
	got := w.readAside(w.t.Context(), b, shard, 0)
	w.wantWaiting(got, "with nothing stored")
	w.append("a", w.elsewhere(b, shard))
	w.wantWaiting(got, "with an event in another shard")
	w.pause(time.Second)
	w.wantWaiting(got, "after a second")

	e := w.at(b, shard, "1", 10)
	id := w.append("a", e)[0]
	a := <-got
	if a.err != nil || len(a.records) != 1 || a.records[0].Position != id.Position || a.next <= id.Position {
		w.t.Fatalf("after append of %s, read answered %d records, next %d, error %v", id, len(a.records), a.next, a.err)
	}
	if !bytes.Equal(a.records[0].Event.Raw(), e.Raw()) {
		w.t.Error("read woke with another event")
	}
	got = w.readAside(w.t.Context(), b, shard, a.next)
	w.wantWaiting(got, "with all events read")
	w.append("a", w.at(b, shard, "2", 10))
	if a := <-got; a.err != nil || len(a.records) != 1 || a.records[0].Event.ID() != "2" {
		w.t.Fatalf("read woke with %d records and error %v", len(a.records), a.err)
	}
}

func readFillsTheBuffer(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	w.appendMany("a", "fill", 10, 10)
	from := channel.Position(0)
	for _, want := range []int{4, 4, 2} {
		records, next, err := b.Read(w.t.Context(), b.Shards()[0], from, make([]channel.Record, 0, 4))
		if err != nil {
			w.t.Fatal(err)
		}
		if len(records) != want {
			w.t.Fatalf("read from %d into room for 4: %d records, want %d", from, len(records), want)
		}
		from = next
	}
	if got := w.shard(b, b.Shards()[0], 0); len(got) != 10 {
		w.t.Errorf("%d of 10 events read", len(got))
	}
}

func readKeepsTheBuffer(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	ids := w.append("a", anEvent("1", 10), anEvent("2", 10), anEvent("3", 10))
	mine := channel.Record{Position: 99}
	buf := append(make([]channel.Record, 0, 3), mine)
	records, _, err := b.Read(w.t.Context(), b.Shards()[0], 0, buf)
	if err != nil || len(records) < 2 || len(records) > 3 || records[0].Position != 99 || records[1].Event.ID() != "1" {
		w.t.Errorf("read behind 1 record into room for 3: %d records, error %v", len(records), err)
	}
	records, err = b.Get(w.t.Context(), b.Shards()[0], []channel.Position{ids[1].Position, ids[2].Position}, []channel.Record{mine})
	if err != nil || len(records) != 3 || records[0].Position != 99 || records[2].Event.ID() != "3" {
		w.t.Errorf("get 2 behind 1 record: %d records, error %v", len(records), err)
	}
}

func readStartsAnywhere(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	w.appendMany("a", "any", 20, 10)
	all := w.shard(b, b.Shards()[0], 0)
	for i, first := range all {
		if got := w.shard(b, b.Shards()[0], first.Position); len(got) != len(all)-i || got[0].Position != first.Position {
			w.t.Errorf("from position %d: %d records, want %d", first.Position, len(got), len(all)-i)
		}
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	_, next := b.Range(b.Shards()[0])
	got := w.readAside(ctx, b, b.Shards()[0], next+1)
	w.append("a", anEvent("early", 1))
	// Positions may have gaps, so whether this one is early is the log's to say.
	if _, now := b.Range(b.Shards()[0]); now <= next+1 {
		w.wantWaiting(got, "with an event before the one asked for")
	}
	w.append("a", anEvent("late", 1))
	if a := <-got; a.err != nil || len(a.records) == 0 || a.records[0].Position <= next {
		w.t.Errorf("from position %d: %d records, error %v", next+1, len(a.records), a.err)
	}
}

func readEndsWithItsContext(w *world) {
	b := w.broker("a")
	ctx, cancel := context.WithCancel(w.t.Context())
	got := w.readAside(ctx, b, b.Shards()[0], 0)
	other := w.readAside(w.t.Context(), b, b.Shards()[0], 0)
	w.wantWaiting(got, "with nothing stored")
	cancel()
	if a := <-got; !errors.Is(a.err, context.Canceled) || len(a.records) != 0 {
		w.t.Errorf("after cancel: %d records, error %v", len(a.records), a.err)
	}
	w.wantWaiting(other, "when another's context ended")
	w.append("a", w.at(b, b.Shards()[0], "1", 1))
	if a := <-other; a.err != nil || len(a.records) != 1 {
		w.t.Errorf("the other read: %d records, error %v", len(a.records), a.err)
	}
}

func readersFollowAppenders(w *world) {
	const appenders, requests = 4, 50
	b := w.broker("a")
	var (
		mu      sync.Mutex
		all     = stored{}
		readers sync.WaitGroup
		writers sync.WaitGroup
	)
	seen := make([]stored, 2*len(b.Shards()))
	for n := range seen {
		shard := b.Shards()[n/2] // two readers for each shard
		seen[n] = stored{}
		readers.Go(func() {
			var from channel.Position
			buf := make([]channel.Record, 0, 7)
			for {
				records, next, err := b.Read(w.t.Context(), shard, from, buf[:0])
				if err != nil {
					w.t.Errorf("read shard %d from %d: %v", shard, from, err)
					return
				}
				for _, r := range records {
					if r.Position < from {
						w.t.Errorf("shard %d: read from %d and got %d", shard, from, r.Position)
					}
					seen[n][channel.ID{Shard: shard, Position: r.Position}] = r.Event
					if r.Event.ID() == "last" {
						return
					}
				}
				from = next
			}
		})
	}
	for n := range appenders {
		writers.Go(func() {
			for i := range requests {
				batch := []event.Event{anEvent(fmt.Sprintf("fol-%d-%d-0", n, i), 500), keyed(fmt.Sprintf("fol-%d-%d-1", n, i), fmt.Sprint(i), 0)}
				ids, err := w.Append(w.t.Context(), "a", batch)
				if err != nil {
					w.t.Errorf("append: %v", err)
					return
				}
				mu.Lock()
				all.add(idsOf(ids), batch)
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	for _, shard := range b.Shards() {
		last := w.at(b, shard, "last", 1)
		all[w.append("a", last)[0]] = last
	}
	readers.Wait()
	for n := range seen {
		want := stored{}
		for id, e := range all {
			if id.Shard == b.Shards()[n/2] {
				want[id] = e
			}
		}
		if len(seen[n]) != len(want) {
			w.t.Errorf("a reader of shard %d saw %d events of %d", b.Shards()[n/2], len(seen[n]), len(want))
		}
		for id, e := range seen[n] {
			if !bytes.Equal(want[id].Raw(), e.Raw()) {
				w.t.Errorf("a reader saw %s with other bytes", id)
			}
		}
	}
	w.wantExactly(b, all)
}

func getLeavesHolesOut(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	w.appendMany("a", "get", 10, 10)
	all := w.shard(b, b.Shards()[0], 0)
	_, next := b.Range(b.Shards()[0])
	ask := []channel.Position{0, all[2].Position, all[3].Position, all[9].Position, next, next + 1000, 1 << 60}
	records, err := b.Get(w.t.Context(), b.Shards()[0], ask, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var got []channel.Position
	for _, r := range records {
		got = append(got, r.Position)
	}
	if want := ask[1:4]; !slices.Equal(got, want) {
		w.t.Errorf("get %v: %v, want %v", ask, got, want)
	}
	if records, err := b.Get(w.t.Context(), b.Shards()[0], nil, nil); err != nil || len(records) != 0 {
		w.t.Errorf("get nothing: %d records, error %v", len(records), err)
	}
	for i, r := range records {
		if want := all[[]int{2, 3, 9}[i]]; !r.Time.Equal(want.Time) || !bytes.Equal(r.Event.Raw(), want.Event.Raw()) {
			w.t.Errorf("position %d is one record in Read and another in Get", r.Position)
		}
	}
}

func rangeFollows(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	earliest, next := b.Range(b.Shards()[0])
	if earliest != next || next < 1 {
		w.t.Errorf("range of an empty shard is %d to %d", earliest, next)
	}
	for i := range 5 {
		id := w.append("a", anEvent(fmt.Sprint("range-", i), 1))[0]
		if id.Position < next {
			w.t.Errorf("next was %d and the event stands at %d", next, id.Position)
		}
		earliest, next = b.Range(b.Shards()[0])
		if next <= id.Position || earliest > id.Position {
			w.t.Errorf("with %s stored the range is %d to %d", id, earliest, next)
		}
	}
}

func timeNeverGoesBack(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	before := time.Now()
	w.append("a", anEvent("1", 1))
	w.pause(10 * time.Millisecond)
	w.append("a", anEvent("2", 1), anEvent("3", 1))
	after := time.Now()
	records := w.shard(b, b.Shards()[0], 0)
	if len(records) != 3 {
		w.t.Fatalf("%d records of 3", len(records))
	}
	// A medium may keep time to the microsecond or millisecond.
	const grain = time.Millisecond
	if records[0].Time.Before(before.Add(-grain)) || records[2].Time.After(after.Add(grain)) {
		w.t.Errorf("appended from %v to %v, stored with %v to %v", before, after, records[0].Time, records[2].Time)
	}
	if records[1].Time.Before(records[0].Time.Add(10*time.Millisecond - grain)) {
		w.t.Errorf("appended 10ms apart, stored with %v and %v", records[0].Time, records[1].Time)
	}
}

func unknownShard(w *world) {
	b := w.broker("a")
	const away = channel.ShardID(77)
	if records, _, err := b.Read(w.t.Context(), away, 0, make([]channel.Record, 0, 1)); err == nil {
		w.t.Errorf("read of a shard that is not there: %d records and no error", len(records))
	}
	if _, err := b.Get(w.t.Context(), away, []channel.Position{1}, nil); err == nil {
		w.t.Error("get from a shard that is not there: no error")
	}
	if err := b.SaveProgress(w.t.Context(), []channel.ShardProgress{{Shard: away, Scanned: 1}}); err == nil {
		w.t.Error("progress of a shard that is not there: no error")
	}
	if earliest, next := b.Range(away); earliest != 0 || next != 0 {
		w.t.Errorf("range of a shard that is not there: %d to %d", earliest, next)
	}
}
