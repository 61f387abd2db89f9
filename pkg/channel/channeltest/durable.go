package channeltest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// life is a world that ends and begins again over the same storage.
type life struct {
	*world
	again reopener
	crash bool
}

// restart ends the log, by a close or a crash, and starts the next over what
// it has left.
func (l *life) restart() {
	l.t.Helper()
	old := l.world
	if !l.crash {
		old.stop()
	}
	next := l.again(l.t, l.crash)
	if next == nil {
		l.t.Fatal("no log comes after the last")
	}
	if l.crash {
		old.stop()
	}
	l.world = old.suite.start(l.t, next)
}

type durableStory struct {
	name string
	play func(l *life)
}

func durableStories() []durableStory {
	return []durableStory{
		{"EventsAreThere", eventsSurvive},
		{"PositionsGoOn", positionsGoOn},
		{"WhatWasReadIsThere", whatWasReadSurvives},
		{"RequestsAreThereWholeOrNotAtAll", requestsSurviveWhole},
		{"BrokersKeepTheirSettings", settingsSurvive},
		{"RemovedBrokerStaysRemoved", removalSurvives},
		{"RoutesAndEpochsGoOn", routesSurvive},
		{"DeadLettersAreThere", deadSurvive},
		{"DiscardedLettersStayGone", discardSurvives},
		{"ProgressIsThere", progressSurvives},
		{"NewestProgressIsThereOrNot", newestProgress},
		{"RetentionGoesOn", retentionGoesOn},
		{"ManyRestartsChangeNothing", manyRestarts},
	}
}

func eventsSurvive(l *life) {
	l.broker("a")
	b2 := l.broker("b")
	ofA, ofB := l.appendMany("a", "a", 100, 1000), l.appendMany("b", "b", 10, 100_000)
	times := map[channel.ID]time.Time{}
	for _, shard := range b2.Shards() {
		for _, r := range l.shard(b2, shard, 0) {
			times[channel.ID{Shard: shard, Position: r.Position}] = r.Time
		}
	}
	l.restart()
	l.wantExactly(l.broker("a"), ofA)
	b2 = l.broker("b")
	l.wantExactly(b2, ofB)
	for _, shard := range b2.Shards() {
		for _, r := range l.shard(b2, shard, 0) {
			if id := (channel.ID{Shard: shard, Position: r.Position}); !r.Time.Equal(times[id]) {
				l.t.Errorf("%s was stored at %v and now says %v", id, times[id], r.Time)
			}
		}
	}
}

func positionsGoOn(l *life) {
	b := l.broker("a")
	all := l.appendMany("a", "first", 20, 10)
	l.scanAll(b) // what is settled and perhaps gone must not be counted again
	l.pause(200 * time.Millisecond)
	l.restart()
	b = l.broker("a")
	highest := map[channel.ShardID]channel.Position{}
	for id := range all {
		highest[id.Shard] = max(highest[id.Shard], id.Position)
	}
	for id := range l.appendMany("a", "second", 20, 10) {
		if id.Position <= highest[id.Shard] {
			l.t.Errorf("%s was given although %d was", id, highest[id.Shard])
		}
	}
	for _, shard := range b.Shards() {
		l.shard(b, shard, 0) // order and times are checked on the way
	}
}

// whatWasReadSurvives: a record that Read has handed out has been delivered,
// so that no crash may take it back and give its position to another.
func whatWasReadSurvives(l *life) {
	b := l.broker("a")
	ctx, cancel := context.WithCancel(l.t.Context())
	var (
		mu   sync.Mutex
		seen = stored{}
		wg   sync.WaitGroup
	)
	for _, shard := range b.Shards() {
		wg.Go(func() {
			var from channel.Position
			for {
				records, next, err := b.Read(ctx, shard, from, make([]channel.Record, 0, 5))
				if err != nil {
					return
				}
				mu.Lock()
				for _, r := range records {
					seen[channel.ID{Shard: shard, Position: r.Position}] = r.Event
				}
				mu.Unlock()
				from = next
			}
		})
	}
	l.whileAppending(ctx, 4, func() {
		mu.Lock()
		read := maps.Clone(seen)
		mu.Unlock()
		old := l.world
		l.restart()
		cancel()
		old.stop()
		l.wantStored(l.broker("a"), read)
	})
	wg.Wait()
}

// warmth is how many requests of each appender are answered before f is run.
const warmth = 20

// whileAppending runs f in the middle of concurrent appends to broker a, and
// returns what was answered, in order, when these have ended, which they do
// at the first error.
func (l *life) whileAppending(ctx context.Context, appenders int, f func()) (answered []stored) {
	log, t, realTime := l.log, l.t, l.suite.realTime
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		warm = make(chan struct{})
	)
	for n := range appenders {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				batch := []event.Event{
					anEvent(fmt.Sprintf("while-%d-%d-0", n, i), 700),
					keyed(fmt.Sprintf("while-%d-%d-1", n, i), fmt.Sprint(i), 70),
					anEvent(fmt.Sprintf("while-%d-%d-2", n, i), 7),
				}
				ids, err := log.Append(ctx, "a", batch)
				if err != nil {
					if !errors.Is(err, channel.ErrUnavailable) && !errors.Is(err, channel.ErrUnknown) {
						t.Errorf("append: %v", err)
					}
					return
				}
				all := stored{}
				all.add(ids, batch)
				mu.Lock()
				answered = append(answered, all)
				if len(answered) == warmth*appenders {
					close(warm)
				}
				mu.Unlock()
				if i > 50_000 {
					t.Error("appends go on for ever")
					return
				}
				if realTime {
					continue
				}
				// Virtual time stands still while anybody works.
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wg.Wait()
	}()
	select {
	case <-warm:
		f()
	case <-ended:
		t.Fatal("no append goes through")
	}
	<-ended
	return answered
}

func requestsSurviveWhole(l *life) {
	l.broker("a")
	ctx, cancel := context.WithCancel(l.t.Context())
	defer cancel()
	var found stored
	answered := l.whileAppending(ctx, 6, func() {
		old := l.world
		l.restart()
		cancel()
		old.stop()
		found = l.everything(l.broker("a"))
	})
	// Requests answered before the crash must be there, later ones may be; but
	// each of them whole.
	requests := map[string]int{}
	for _, e := range found {
		requests[e.ID()[:len(e.ID())-2]]++
	}
	for request, n := range requests {
		if n != 3 {
			l.t.Errorf("of request %s %d of 3 events are there", request, n)
		}
	}
	for _, request := range answered[:warmth*6] {
		for id, e := range request {
			if got, ok := found[id]; !ok || got.ID() != e.ID() {
				l.t.Errorf("event %s was acknowledged as %s and is not there", e.ID(), id)
			}
		}
	}
}

func settingsSurvive(l *life) {
	info := channel.BrokerInfo{UID: "a", Name: "shop/orders", Shards: 3, Retention: time.Hour, RetentionBytes: 1 << 20, MaxBytes: 8 << 20}
	l.brokerOf(info)
	l.restart()
	if got := l.log.Brokers(); len(got) != 1 || got[0] != info {
		l.t.Errorf("stored are %+v, want %+v", got, info)
	}
	info.Name, info.Retention = "shop/new", 2*time.Hour
	l.brokerOf(info)
	l.restart()
	if got := l.log.Brokers(); len(got) != 1 || got[0] != info {
		l.t.Errorf("after a change stored are %+v, want %+v", got, info)
	}
	again := info
	again.Shards = 0
	if b := l.brokerOf(again); b.Info() != info || len(b.Shards()) != 3 {
		l.t.Errorf("opened again it is %+v with shards %v", b.Info(), b.Shards())
	}
}

func removalSurvives(l *life) {
	l.broker("a")
	l.broker("b")
	l.appendMany("a", "removed", 20, 100)
	ofB := l.appendMany("b", "kept", 20, 100)
	if err := l.log.Remove(l.t.Context(), "a"); err != nil {
		l.t.Fatal(err)
	}
	l.restart()
	if got := l.log.Brokers(); len(got) != 1 || got[0].UID != "b" {
		l.t.Errorf("a was removed, stored are %+v", got)
	}
	l.wantExactly(l.broker("b"), ofB)
	l.wantExactly(l.broker("a"), stored{})
	ofA := l.appendMany("a", "new", 20, 100)
	l.restart()
	l.wantExactly(l.broker("a"), ofA)
	l.wantExactly(l.broker("b"), ofB)
}

func routesSurvive(l *life) {
	b := l.broker("a")
	l.setRoutes(b, channel.Routes{Whole: true, Set: []channel.Route{route("t1", `{"exact":{"type":"x"}}`)}})
	one := l.append("a", anEvent("1", 1))[0]
	l.restart()
	b = l.broker("a")
	done := l.setRoutes(b, channel.Routes{Set: []channel.Route{route("t2", "2")}})
	if done.Epoch != 2 {
		l.t.Errorf("after epoch 1 comes %d", done.Epoch)
	}
	two := l.append("a", anEvent("2", 1))[0]
	l.restart()
	b = l.broker("a")
	l.wantRouting(b, one, routing{"t1": `default/t1 {"exact":{"type":"x"}}`})
	l.wantRouting(b, two, routing{"t1": `default/t1 {"exact":{"type":"x"}}`, "t2": "default/t2 2"})
	l.scanAll(b)
	l.pause(200 * time.Millisecond)
	l.restart()
	b = l.broker("a")
	three := l.append("a", anEvent("3", 1))[0]
	l.wantRouting(b, three, routing{"t1": `default/t1 {"exact":{"type":"x"}}`, "t2": "default/t2 2"})
	if done := l.setRoutes(b, channel.Routes{Unset: []channel.UID{"t1"}}); done.Epoch != 3 {
		l.t.Errorf("after epoch 2 comes %d", done.Epoch)
	}
	four := l.append("a", anEvent("4", 1))[0]
	l.wantRouting(b, four, routing{"t2": "default/t2 2"})
}

func deadSurvive(l *life) {
	b := l.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	var want []channel.DeadLetter
	for i := range 10 {
		e := anEvent(fmt.Sprint("dead-", i), 1000)
		want = append(want, deadLetter(l.append("a", e)[0], channel.UID(fmt.Sprint("t", i%2)), e))
	}
	l.die(b, want[:4]...)
	l.die(b, want[4])
	l.restart()
	b = l.broker("a")
	l.wantDead(b, "", 3, want[:5])
	// Nobody had time to say that they are pending, and they are.
	p := b.Progress(b.Shards()[0])
	pending := 0
	for _, lane := range p.Lanes {
		pending += int(lane.Added.GetCardinality())
		for _, r := range lane.Retries {
			if !r.Dead || r.Attempts != 11 {
				l.t.Errorf("position %d is dead after 11 attempts, progress says %+v", r.Position, r)
			}
		}
		if len(lane.Retries) != int(lane.Added.GetCardinality()) {
			l.t.Errorf("trigger %s: %d dead of %d pending", lane.Trigger, len(lane.Retries), lane.Added.GetCardinality())
		}
	}
	if pending != 5 {
		l.t.Errorf("5 dead letters have %d events pending", pending)
	}
	l.die(b, want[5:]...)
	l.restart()
	b = l.broker("a")
	l.wantDead(b, "", 4, want)
	l.wantDead(b, "t1", 2, []channel.DeadLetter{want[1], want[3], want[5], want[7], want[9]})
}

func progressSurvives(l *life) {
	b := l.brokerOf(channel.BrokerInfo{UID: "a", Shards: 2})
	var events []event.Event
	for i := range 10 {
		events = append(events, l.at(b, b.Shards()[1], fmt.Sprint("progress-", i), 100))
	}
	ids := l.append("a", events...)
	p := func(i int) channel.Position { return ids[i].Position }
	l.save(b, channel.ShardProgress{Shard: b.Shards()[1], Scanned: p(8), Lanes: []channel.LaneProgress{
		lane("t1", positions(p(1), p(2), p(7)), nil, channel.Retry{Position: p(2), Attempts: 3, NotBefore: whenever(5)}),
		lane("t2", positions(p(2)), nil)}})
	l.save(b, channel.ShardProgress{Shard: b.Shards()[1], Lanes: []channel.LaneProgress{lane("t1", nil, positions(p(1)))}})
	// Durable after 100 ms, says the contract; and with the next append.
	if l.suite.realTime {
		l.append("a", l.at(b, b.Shards()[0], "next", 1))
	} else {
		l.pause(100*time.Millisecond + time.Millisecond)
	}
	want := channel.ShardProgress{Shard: b.Shards()[1], Scanned: p(8), Lanes: []channel.LaneProgress{
		lane("t1", positions(p(2), p(7)), nil, channel.Retry{Position: p(2), Attempts: 3, NotBefore: whenever(5)}),
		lane("t2", positions(p(2)), nil)}}
	for range 2 {
		l.restart()
		b = l.broker("a")
		l.wantProgress(b, want)
		l.wantStored(b, stored{ids[2]: events[2], ids[7]: events[7], ids[8]: events[8], ids[9]: events[9]})
	}
	l.save(b, channel.ShardProgress{Shard: b.Shards()[1], Scanned: p(9), Lanes: []channel.LaneProgress{lane("t2", nil, positions(p(2)))}})
	l.append("a", l.at(b, b.Shards()[0], "next", 1))
	want.Scanned, want.Lanes = p(9), want.Lanes[:1]
	l.restart()
	l.wantProgress(l.broker("a"), want)
}

// newestProgress: what was saved this instant may be lost in a crash, but
// only as a whole, and not when the log is closed.
func newestProgress(l *life) {
	b := l.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	id := l.append("a", anEvent("1", 1), anEvent("2", 1))
	older := channel.ShardProgress{Shard: b.Shards()[0], Scanned: id[0].Position + 1, Lanes: []channel.LaneProgress{lane("t", positions(id[0].Position), nil)}}
	l.save(b, older)
	l.pause(200 * time.Millisecond)
	l.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: id[1].Position + 1, Lanes: []channel.LaneProgress{lane("t", positions(id[1].Position), positions(id[0].Position))}})
	newer := channel.ShardProgress{Shard: b.Shards()[0], Scanned: id[1].Position + 1, Lanes: []channel.LaneProgress{lane("t", positions(id[1].Position), nil)}}
	l.restart()
	b = l.broker("a")
	got := describe(b.Progress(b.Shards()[0]))
	if got != describe(newer) && !(l.crash && got == describe(older)) {
		l.t.Errorf("progress is %s\n    newest was %s", got, describe(newer))
	}
}

func retentionGoesOn(l *life) {
	info := channel.BrokerInfo{UID: "a", Shards: 1}
	b := l.brokerOf(info)
	e := anEvent("pending", 1000)
	id := l.append("a", e)[0]
	l.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: id.Position + 1, Lanes: []channel.LaneProgress{lane("t", positions(id.Position), nil)}})
	settled := l.append("a", anEvent("settled", 1000))[0]
	l.churn(b, 1<<20, func() bool { return false })
	l.pause(200 * time.Millisecond)
	l.restart()
	b = l.brokerOf(info)
	l.churn(b, 4<<20, func() bool { return false })
	l.wantStored(b, stored{id: e})
	l.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane("t", nil, positions(id.Position))}})
	gone := func() bool { earliest, _ := b.Range(b.Shards()[0]); return earliest > settled.Position }
	l.churn(b, 4<<20, gone)
	if !gone() {
		l.t.Error("what was settled before the restart is still there")
	}
}

func manyRestarts(l *life) {
	all := stored{}
	for i := range 8 {
		b := l.broker("a")
		for id, e := range l.appendMany("a", fmt.Sprint("life-", i), 5, 100) {
			if _, twice := all[id]; twice {
				l.t.Fatalf("position %s was given twice", id)
			}
			all[id] = e
		}
		l.wantExactly(b, all)
		l.restart()
		if i%2 == 0 {
			l.restart() // a life in which nothing happens
		}
	}
	l.wantExactly(l.broker("a"), all)
}
