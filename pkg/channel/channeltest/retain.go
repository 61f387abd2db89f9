package channeltest

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func retentionStories() []story {
	return []story{
		{"SettledEventsGo", settledGo},
		{"UnscannedEventsStay", unscannedStay},
		{"SettledEventsStayWithinRetention", settledStayWithinRetention},
		{"SettledEventsGoWhenRetentionBytesAreUsedUp", retentionBytes},
		{"SettledEventsGoWhenTheirTimeIsOver", retentionTime},
		{"RetentionMayBeChanged", retentionMayBeChanged},
	}
}

func quotaStories() []story {
	return []story{
		{"FullBrokerRefusesAndRecovers", fullBroker},
		{"FullBrokerTakesABatchWholeOrNotAtAll", fullBrokerAndBatches},
		{"FullBrokerStillTakesADeadLetter", fullBrokerDeadLetter},
		{"RetainedEventsMakeRoom", retainedMakeRoom},
		{"StatsFollowWhatIsStored", statsFollow},
	}
}

func settledGo(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	first := w.append("a", anEvent("first", 100))[0]
	w.scanAll(b)
	gone := func() bool { earliest, _ := b.Range(b.Shards()[0]); return earliest > first.Position }
	w.churn(b, 4<<20, gone)
	if !gone() {
		w.t.Fatal("an event that was settled before 4 MiB of others is still there")
	}
	if records, err := b.Get(w.t.Context(), b.Shards()[0], []channel.Position{first.Position}, nil); err != nil || len(records) != 0 {
		w.t.Errorf("get what is gone: %d records, error %v", len(records), err)
	}
	// Positions go on where they were, and reads from the gone ones too.
	id := w.append("a", anEvent("next", 1))[0]
	if id.Position <= first.Position {
		w.t.Errorf("after %s comes %s", first, id)
	}
	if got := w.shard(b, b.Shards()[0], 0); len(got) == 0 || got[len(got)-1].Position != id.Position {
		w.t.Errorf("read from the beginning does not reach %s", id)
	}
}

func unscannedStay(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	all := stored{}
	for i := range 8 {
		for id, e := range w.appendMany("a", fmt.Sprint("unscanned-", i), 16, 8<<10) {
			all[id] = e
		}
		w.pause(time.Second)
	}
	w.wantExactly(b, all)
}

func settledStayWithinRetention(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Retention: time.Hour, RetentionBytes: 16 << 20})
	all := w.appendMany("a", "retained", 50, 1000)
	w.scanAll(b)
	w.churn(b, 2<<20, func() bool { return false })
	w.wantStored(b, all)
	// What is settled may be wanted again: a replay makes it pending.
	for id := range all {
		w.save(b, channel.ShardProgress{Shard: id.Shard, Lanes: []channel.LaneProgress{lane("replay", positions(id.Position), nil)}})
	}
	if w.suite.realTime {
		return
	}
	w.pause(2 * time.Hour)
	w.churn(b, 4<<20, func() bool { return false })
	w.wantStored(b, all)
}

func retentionBytes(w *world) {
	const bound = 1 << 20
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1, Retention: time.Hour, RetentionBytes: bound})
	first := w.append("a", anEvent("first", 100))[0]
	gone := func() bool { earliest, _ := b.Range(b.Shards()[0]); return earliest > first.Position }
	w.churn(b, bound/2, gone)
	if gone() {
		w.t.Error("gone with half of the retention bytes used")
	}
	w.churn(b, bound+4<<20, gone)
	if !gone() {
		w.t.Error("still there 4 MiB beyond the retention bytes")
	}
}

func retentionTime(w *world) {
	if w.suite.realTime {
		w.t.Skip("takes an hour")
	}
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1, Retention: time.Hour, RetentionBytes: 1 << 30})
	first := w.append("a", anEvent("first", 100))[0]
	w.scanAll(b)
	w.pause(59 * time.Minute)
	w.churn(b, 256<<10, func() bool { return false })
	gone := func() bool { earliest, _ := b.Range(b.Shards()[0]); return earliest > first.Position }
	if gone() {
		w.t.Error("gone before its time")
	}
	w.pause(2 * time.Hour)
	w.churn(b, 4<<20, gone)
	if !gone() {
		w.t.Error("still there long after its time")
	}
}

func retentionMayBeChanged(w *world) {
	info := channel.BrokerInfo{UID: "a", Shards: 1, Retention: time.Hour, RetentionBytes: 16 << 20}
	b := w.brokerOf(info)
	first := w.append("a", anEvent("first", 100))[0]
	w.scanAll(b)
	gone := func() bool { earliest, _ := b.Range(b.Shards()[0]); return earliest > first.Position }
	w.churn(b, 1<<20, gone)
	if gone() {
		w.t.Error("gone within retention")
	}
	info.Retention, info.RetentionBytes = 0, 0
	w.brokerOf(info)
	w.churn(b, 4<<20, gone)
	if !gone() {
		w.t.Error("still there 4 MiB after retention was switched off")
	}
}

// quota is the MaxBytes of the stories.
const quota = 2 << 20

// fill appends events of 8 KiB until the broker refuses, and returns what it
// has taken and the refusal.
func (w *world) fill(broker channel.UID, name string) (stored, error) {
	w.t.Helper()
	all := stored{}
	for i := range 2 * quota / (8 << 10) {
		e := anEvent(fmt.Sprintf("%s-%d", name, i), 8<<10)
		ids, err := w.Append(w.t.Context(), broker, []event.Event{e})
		if err != nil {
			return all, err
		}
		all[ids[0].ID] = e
	}
	w.t.Fatalf("a broker bounded to %d bytes took %d", quota, 2*quota)
	return nil, nil
}

func (w *world) wantWithinQuota(b channel.BrokerLog) {
	w.t.Helper()
	if s := b.Stats(); s.Bytes > quota || s.MaxBytes != quota {
		w.t.Errorf("%d bytes stored with a bound of %d, said to be %d", s.Bytes, quota, s.MaxBytes)
	}
}

// appendSoon tries an append for as long as it is refused, at most a minute.
func (w *world) appendSoon(broker channel.UID, e event.Event) channel.ID {
	w.t.Helper()
	for range 60 {
		ids, err := w.Append(w.t.Context(), broker, []event.Event{e})
		if err == nil {
			return ids[0].ID
		}
		var refused *channel.Refused
		if !errors.As(err, &refused) || refused.RetryAfter <= 0 {
			w.t.Fatalf("append: %v", err)
		}
		w.wait(min(refused.RetryAfter, time.Second))
	}
	w.t.Fatal("refused for a minute though everything is settled")
	return channel.ID{}
}

func fullBroker(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", MaxBytes: quota})
	other := w.broker("b")
	all, err := w.fill("a", "full")
	w.wantRefused(err, w.suite.full)
	if sum := len(all) * 8 << 10; sum < quota/2 {
		w.t.Errorf("a bound of %d bytes is full with %d", quota, sum)
	}
	w.wantWithinQuota(b)
	w.wantExactly(b, all)
	w.wantExactly(other, w.appendMany("b", "other", 10, 8<<10))

	w.scanAll(b)
	e := anEvent("again", 100)
	id := w.appendSoon("a", e)
	w.wantStored(b, stored{id: e})
	w.wantWithinQuota(b)
}

func fullBrokerAndBatches(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", MaxBytes: quota})
	all := stored{}
	for i := 0; ; i++ {
		var batch []event.Event
		for n := range 10 {
			batch = append(batch, keyed(fmt.Sprintf("batch-%d-%d", i, n), fmt.Sprint(n), 8<<10))
		}
		ids, err := w.Append(w.t.Context(), "a", batch)
		if err != nil {
			w.wantRefused(err, w.suite.full)
			break
		}
		all.add(idsOf(ids), batch)
	}
	w.wantExactly(b, all)
}

func fullBrokerDeadLetter(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", MaxBytes: quota})
	all, _ := w.fill("a", "full")
	for id, e := range all {
		if err := b.AppendDead(w.t.Context(), []channel.DeadLetter{deadLetter(id, "t", e)}); err != nil {
			w.t.Fatalf("an event of a full broker cannot die, and so it can never be settled: %v", err)
		}
		break
	}
}

func retainedMakeRoom(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", MaxBytes: quota, Retention: time.Hour, RetentionBytes: 1 << 30})
	w.fill("a", "retained")
	w.scanAll(b)
	for i := range 32 {
		w.appendSoon("a", anEvent(fmt.Sprint("more-", i), 8<<10))
		w.wantWithinQuota(b)
	}
}

func statsFollow(w *world) {
	b := w.broker("a")
	w.appendMany("a", "stats", 100, 1000)
	s := b.Stats()
	if s.Bytes < 100*1000 || s.DeadBytes != 0 {
		w.t.Errorf("with 100 events of 1000 bytes: %+v", s)
	}
	for i := range 10 {
		e := anEvent(fmt.Sprint("dead-", i), 1000)
		if err := b.AppendDead(w.t.Context(), []channel.DeadLetter{deadLetter(w.append("a", e)[0], "t", e)}); err != nil {
			w.t.Fatal(err)
		}
	}
	if s := b.Stats(); s.DeadBytes < 10*1000 || s.Bytes < 100*1000+s.DeadBytes {
		w.t.Errorf("with 10 dead letters of 1000 bytes more: %+v", s)
	}
}
