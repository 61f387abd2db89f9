package channeltest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

func progressStories() []story {
	return []story{
		{"ProgressComesBackWhole", progressComesBack},
		{"ScannedNeverGoesBack", scannedNeverGoesBack},
		{"RetriesEndWhenTheirPositionIsSettled", retriesEnd},
		{"ProgressBelongsToTheCaller", progressBelongsToTheCaller},
		{"PendingEventsNeverGo", pendingNeverGo},
		{"ManyPendingEventsAreReadAgain", manyPending},
	}
}

func (w *world) save(b channel.BrokerLog, changes ...channel.ShardProgress) {
	w.t.Helper()
	if err := b.SaveProgress(w.t.Context(), changes); err != nil {
		w.t.Fatalf("save progress: %v", err)
	}
}

func positions(of ...channel.Position) *roaring64.Bitmap {
	b := roaring64.New()
	for _, p := range of {
		b.Add(uint64(p))
	}
	return b
}

// lane is a change of one lane.
func lane(trigger channel.UID, added, settled *roaring64.Bitmap, retries ...channel.Retry) channel.LaneProgress {
	return channel.LaneProgress{Trigger: trigger, Added: added, Settled: settled, Retries: retries}
}

// describe is a progress in words that are equal where the progress is:
// empty lanes left out, retries in order.
func describe(p channel.ShardProgress) string {
	slices.SortFunc(p.Lanes, func(a, b channel.LaneProgress) int { return cmp.Compare(a.Trigger, b.Trigger) })
	s := fmt.Sprintf("shard %d scanned to %d", p.Shard, p.Scanned)
	for _, l := range p.Lanes {
		if l.Settled != nil && !l.Settled.IsEmpty() {
			s += fmt.Sprintf("; %s: a whole progress with settled positions", l.Trigger)
		}
		if (l.Added == nil || l.Added.IsEmpty()) && len(l.Retries) == 0 {
			continue
		}
		var pending []uint64
		if l.Added != nil {
			pending = l.Added.ToArray()
		}
		s += fmt.Sprintf("; %s pending %v", l.Trigger, pending)
		slices.SortFunc(l.Retries, func(a, b channel.Retry) int { return cmp.Compare(a.Position, b.Position) })
		for _, r := range l.Retries {
			s += fmt.Sprintf(" retry %d:%d", r.Position, r.Attempts)
			if r.Dead {
				s += " dead"
			} else {
				s += " at " + r.NotBefore.UTC().Format(time.RFC3339Nano)
			}
		}
	}
	return s
}

func (w *world) wantProgress(b channel.BrokerLog, want channel.ShardProgress) {
	w.t.Helper()
	if got, want := describe(b.Progress(want.Shard)), describe(want); got != want {
		w.t.Errorf("progress is %s\n            want %s", got, want)
	}
	if got, want := describe(resumed(b, want.Shard)), describe(want); got != want {
		w.t.Errorf("one that goes on has %s\n                   want %s", got, want)
	}
}

// resumed is Resume as a whole progress. It does what it likes with what it got.
func resumed(b channel.BrokerLog, shard channel.ShardID) channel.ShardProgress {
	scanned, lanes := b.Resume(shard)
	whole := channel.ShardProgress{Shard: shard, Scanned: scanned}
	for i := range lanes {
		l := &lanes[i]
		whole.Lanes = append(whole.Lanes, channel.LaneProgress{Trigger: l.Trigger, Added: l.Positions.Bitmap(), Retries: l.Retries})
		l.Positions.RemoveAll(l.Positions.Bitmap())
		l.Positions.Add(1 << 40)
	}
	return whole
}

// whenever is a moment for retries that any medium can keep.
func whenever(minute int) time.Time {
	return time.Date(2031, 5, 4, 3, minute, 1, 0, time.UTC)
}

func progressComesBack(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 2})
	w.appendMany("a", "progress", 40, 10)
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0]})
	all := w.shard(b, b.Shards()[0], 0)
	p := func(i int) channel.Position { return all[i].Position }

	w.save(b,
		channel.ShardProgress{Shard: b.Shards()[0], Scanned: p(5), Lanes: []channel.LaneProgress{
			lane("t1", positions(p(0), p(1), p(2)), nil), lane("t2", positions(p(1)), nil)}},
		channel.ShardProgress{Shard: b.Shards()[0], Scanned: p(8), Lanes: []channel.LaneProgress{
			lane("t1", positions(p(6)), positions(p(0))),
			lane("t1", nil, nil, channel.Retry{Position: p(2), Attempts: 1, NotBefore: whenever(1)})}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: p(8), Lanes: []channel.LaneProgress{
		lane("t1", positions(p(1), p(2), p(6)), nil, channel.Retry{Position: p(2), Attempts: 1, NotBefore: whenever(1)}),
		lane("t2", positions(p(1)), nil)}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[1]})

	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: p(9), Lanes: []channel.LaneProgress{
		lane("t2", positions(p(8)), positions(p(1), p(8))),
		lane("t1", nil, positions(p(6)), channel.Retry{Position: p(2), Attempts: 7, NotBefore: whenever(2)}, channel.Retry{Position: p(1), Attempts: 1, NotBefore: whenever(3)})}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: p(9), Lanes: []channel.LaneProgress{
		lane("t1", positions(p(1), p(2)), nil,
			channel.Retry{Position: p(2), Attempts: 7, NotBefore: whenever(2)}, channel.Retry{Position: p(1), Attempts: 1, NotBefore: whenever(3)})}})
}

func scannedNeverGoesBack(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	w.appendMany("a", "scan", 10, 10)
	_, next := b.Range(b.Shards()[0])
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next - 3})
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0]})
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: 1})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next - 3})
}

func retriesEnd(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	id := w.append("a", anEvent("1", 1))[0]
	_, next := b.Range(b.Shards()[0])
	retry := channel.Retry{Position: id.Position, Attempts: 3, NotBefore: whenever(0)}
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next, Lanes: []channel.LaneProgress{lane("t", positions(id.Position), nil, retry)}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next, Lanes: []channel.LaneProgress{lane("t", positions(id.Position), nil, retry)}})
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane("t", nil, positions(id.Position))}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next})
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane("t", nil, nil, retry)}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next})
}

func progressBelongsToTheCaller(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	all := w.appendMany("a", "mine", 3, 1)
	_, next := b.Range(b.Shards()[0])
	pending := roaring64.New()
	for id := range all {
		pending.Add(uint64(id.Position))
	}
	want := channel.ShardProgress{Shard: b.Shards()[0], Scanned: next, Lanes: []channel.LaneProgress{lane("t", pending.Clone(), nil)}}
	change := []channel.ShardProgress{{Shard: b.Shards()[0], Scanned: next, Lanes: []channel.LaneProgress{lane("t", pending, nil)}}}
	w.save(b, change...)
	pending.Clear() // the log must have kept nothing of it
	change[0].Lanes[0].Trigger = "other"
	w.wantProgress(b, want)
	got := b.Progress(b.Shards()[0])
	got.Lanes[0].Added.Clear()
	w.wantProgress(b, want)
	w.wantExactly(b, all)
}

func pendingNeverGo(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	w.setRoutes(b, channel.Routes{Whole: true, Set: []channel.Route{route("t", "")}})
	all := w.appendMany("a", "kept", 20, 100)
	_, next := b.Range(b.Shards()[0])
	kept, pending := stored{}, roaring64.New()
	for id, e := range all {
		if id.Position%7 == 0 {
			kept[id] = e
			pending.Add(uint64(id.Position))
		}
	}
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next, Lanes: []channel.LaneProgress{lane("t", pending, nil)}})
	w.churn(b, 4<<20, func() bool { return false })
	w.pause(time.Minute)
	w.wantStored(b, kept)
	if earliest, _ := b.Range(b.Shards()[0]); uint64(earliest) > pending.Minimum() {
		w.t.Errorf("range starts at %d and position %d is pending", earliest, pending.Minimum())
	}
}

// churn appends and settles events of 8 KiB until so many bytes have passed,
// or done.
func (w *world) churn(b channel.BrokerLog, bytes int, done func() bool) {
	w.t.Helper()
	for sent := 0; sent < bytes && !done(); {
		for range 16 {
			w.append(b.Info().UID, anEvent(fmt.Sprint("churn-", sent), 8<<10))
			sent += 8 << 10
		}
		w.scanAll(b)
		if !w.suite.realTime {
			w.pause(time.Second) // removal may be a matter of every now and then
		}
	}
}

func manyPending(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	all := w.appendMany("a", "many", 3000, 64)
	_, next := b.Range(b.Shards()[0])
	for _, trigger := range []channel.UID{"even", "third"} {
		pending := roaring64.New()
		for id := range all {
			if trigger == "even" && id.Position%2 == 0 || trigger == "third" && id.Position%3 == 0 {
				pending.Add(uint64(id.Position))
			}
		}
		w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane(trigger, pending, nil)}})
	}
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next})
	wantAgain := func(trigger string, of uint64) {
		w.t.Helper()
		var ask []channel.Position
		for id := range all {
			if uint64(id.Position)%of == 0 {
				ask = append(ask, id.Position)
			}
		}
		slices.Sort(ask)
		records, err := b.Get(w.t.Context(), b.Shards()[0], ask, nil)
		if err != nil || len(records) != len(ask) {
			w.t.Fatalf("%s: %d records of %d pending, error %v", trigger, len(records), len(ask), err)
		}
		for i, r := range records {
			if want := all[channel.ID{Shard: b.Shards()[0], Position: ask[i]}]; r.Position != ask[i] || r.Event.ID() != want.ID() {
				w.t.Fatalf("%s: asked for position %d (%s), got %d (%s)", trigger, ask[i], want.ID(), r.Position, r.Event.ID())
			}
		}
	}
	wantAgain("even", 2)
	wantAgain("third", 3)
	var settled []channel.Position
	for id := range all {
		if id.Position%2 == 0 {
			settled = append(settled, id.Position)
		}
	}
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane("even", nil, positions(settled...))}})
	wantAgain("third", 3)
}
