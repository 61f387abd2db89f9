package channeltest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func deadStories() []story {
	return []story{
		{"DeadLettersAreListedInTheOrderTheyDied", deadAreListed},
		{"DeadLettersKeepAllTheySay", deadKeepAll},
		{"DeadEventIsPendingUntilItIsSettled", deadIsPending},
		{"DeadLettersOutliveTheirEvents", deadOutlive},
		{"DeadCursorOfNobodyIsAnError", deadCursorOfNobody},
	}
}

func deadLetter(id channel.ID, trigger channel.UID, e event.Event) channel.DeadLetter {
	return channel.DeadLetter{
		ID: id, Trigger: trigger, TriggerName: "default/" + string(trigger),
		Accepted: whenever(1), Died: whenever(2), Attempts: 11, Reason: "status 404", Code: 404,
		Destination: "http://orders.shop/in?x=1", Answer: []byte("no such order\x00\xff"), Event: e,
	}
}

func (w *world) die(b channel.BrokerLog, letters ...channel.DeadLetter) {
	w.t.Helper()
	if err := b.AppendDead(w.t.Context(), letters); err != nil {
		w.t.Fatalf("append dead letters: %v", err)
	}
}

// dead lists all dead letters of a trigger, limit at a time.
func (w *world) dead(b channel.BrokerLog, trigger channel.UID, limit int) []channel.DeadLetter {
	w.t.Helper()
	var all []channel.DeadLetter
	for after, pages := "", 0; ; pages++ {
		letters, next, err := b.Dead(w.t.Context(), trigger, after, limit)
		if err != nil {
			w.t.Fatalf("dead letters after %q: %v", after, err)
		}
		if len(letters) > limit || len(letters) == 0 && next != "" || pages > 1000 {
			w.t.Fatalf("page %d of dead letters, at most %d: %d letters, to go on from %q", pages, limit, len(letters), next)
		}
		all = append(all, letters...)
		if after = next; after == "" {
			return all
		}
	}
}

func (w *world) wantDead(b channel.BrokerLog, trigger channel.UID, limit int, want []channel.DeadLetter) {
	w.t.Helper()
	got := w.dead(b, trigger, limit)
	if len(got) != len(want) {
		w.t.Errorf("trigger %q has %d dead letters, want %d", trigger, len(got), len(want))
		return
	}
	for i := range want {
		g, x := got[i], want[i]
		if g.ID != x.ID || g.Trigger != x.Trigger || g.TriggerName != x.TriggerName || !g.Accepted.Equal(x.Accepted) || !g.Died.Equal(x.Died) ||
			g.Attempts != x.Attempts || g.Reason != x.Reason || g.Code != x.Code || g.Destination != x.Destination ||
			!bytes.Equal(g.Answer, x.Answer) || !bytes.Equal(g.Event.Raw(), x.Event.Raw()) {
			w.t.Errorf("dead letter %d of trigger %q is\n %+v\nwant\n %+v", i, trigger, g, x)
		}
		if g.Number == 0 || i > 0 && g.Number <= got[i-1].Number {
			w.t.Errorf("dead letter %d of trigger %q has number %d", i, trigger, g.Number)
		}
	}
	if n := b.DeadCount(trigger); n != uint64(len(want)) {
		w.t.Errorf("trigger %q counts %d dead letters, want %d", trigger, n, len(want))
	}
}

func deadAreListed(w *world) {
	b := w.broker("a")
	w.wantDead(b, "", 10, nil)
	w.wantDead(b, "t1", 10, nil)
	var one, two, all []channel.DeadLetter
	for i := range 12 {
		e := anEvent(fmt.Sprint("dead-", i), 100)
		id := w.append("a", e)[0]
		letter := deadLetter(id, "t1", e)
		letter.Died = whenever(i)
		one, all = append(one, letter), append(all, letter)
		batch := []channel.DeadLetter{letter}
		if i%3 == 0 { // one event may die for two triggers
			letter.Trigger = "t2"
			two, all = append(two, letter), append(all, letter)
			batch = append(batch, letter)
		}
		w.die(b, batch...)
	}
	for _, limit := range []int{1, 3, 4, 12, 16, 100} {
		w.wantDead(b, "t1", limit, one)
		w.wantDead(b, "t2", limit, two)
		w.wantDead(b, "", limit, all)
		w.wantDead(b, "t3", limit, nil)
	}
	w.wantDead(w.broker("b"), "", 10, nil)
	// A list that is being read goes on with what dies meanwhile.
	_, next, err := b.Dead(w.t.Context(), "t1", "", 5)
	if err != nil || next == "" {
		w.t.Fatalf("first page: cursor %q, error %v", next, err)
	}
	e := anEvent("late", 1)
	w.die(b, deadLetter(w.append("a", e)[0], "t1", e))
	rest, _, err := b.Dead(w.t.Context(), "t1", next, 100)
	if err != nil || len(rest) != len(one)-5+1 || rest[len(rest)-1].Event.ID() != "late" {
		w.t.Errorf("second page: %d letters, error %v", len(rest), err)
	}
}

func deadKeepAll(w *world) {
	b := w.broker("a")
	e := keyed("1", "key", 5000)
	full := deadLetter(w.append("a", e)[0], "t", e)
	f := anEvent("2", 0)
	bare := channel.DeadLetter{ID: w.append("a", f)[0], Trigger: "t", Event: f, Accepted: whenever(3), Died: whenever(4)}
	want := full
	want.Answer = bytes.Clone(full.Answer)
	w.die(b, full, bare)
	full.Answer[0] = '!' // it belongs to the caller again
	w.wantDead(b, "t", 10, []channel.DeadLetter{want, bare})
}

func deadIsPending(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	e := anEvent("1", 100)
	id := w.append("a", e)[0]
	w.die(b, deadLetter(id, "t", e))
	pending := channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{
		lane("t", positions(id.Position), nil, channel.Retry{Position: id.Position, Attempts: 11, Dead: true})}}
	w.wantProgress(b, pending)
	_, next := b.Range(b.Shards()[0])
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next})
	pending.Scanned = next
	w.wantProgress(b, pending)
	w.wantStored(b, stored{id: e})
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Lanes: []channel.LaneProgress{lane("t", nil, positions(id.Position))}})
	w.wantProgress(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: next})
	w.wantDead(b, "t", 1, []channel.DeadLetter{deadLetter(id, "t", e)})
}

func deadOutlive(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	e := anEvent("1", 3000)
	id := w.append("a", e)[0]
	w.die(b, deadLetter(id, "t", e))
	w.save(b, channel.ShardProgress{Shard: b.Shards()[0], Scanned: id.Position + 1, Lanes: []channel.LaneProgress{lane("t", positions(id.Position), positions(id.Position))}})
	w.churn(b, 4<<20, func() bool { return false })
	w.pause(time.Second)
	w.wantDead(b, "t", 10, []channel.DeadLetter{deadLetter(id, "t", e)})
}

func deadCursorOfNobody(w *world) {
	b := w.broker("a")
	if letters, _, err := b.Dead(w.t.Context(), "", "\x00 no cursor", 10); err == nil {
		w.t.Errorf("%d letters and no error", len(letters))
	}
}
