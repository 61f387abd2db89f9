package channeltest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// anEvent is an event whose bytes follow from its id, with size bytes of data.
func anEvent(id string, size int) event.Event { return keyed(id, "", size) }

// keyed is anEvent with a partitionkey.
func keyed(id, key string, size int) event.Event {
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, "/channeltest").
		Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "dev.penstock.story")
	if key != "" {
		b.Set(event.ExtPartition, key)
	}
	data := bytes.Repeat([]byte(id+" "), size/(len(id)+1)+1)
	e, err := b.SetData(data[:size]).Build()
	if err != nil {
		panic(fmt.Sprintf("event of the suite: %v", err))
	}
	return e
}

// append stores one request of events or ends the story.
func (w *world) append(broker channel.UID, events ...event.Event) []channel.ID {
	w.t.Helper()
	answer, err := w.Append(w.t.Context(), broker, events)
	if err != nil {
		w.t.Fatalf("append %d events: %v", len(events), err)
	}
	if len(answer) != len(events) {
		w.t.Fatalf("append of %d events answered %d ids", len(events), len(answer))
	}
	return idsOf(answer)
}

// idsOf takes an answer apart.
func idsOf(answer []channel.Stored) []channel.ID {
	var ids []channel.ID
	for _, s := range answer {
		ids = append(ids, s.ID)
	}
	return ids
}

// appendMany stores n events one by one and returns what must be found.
func (w *world) appendMany(broker channel.UID, name string, n, size int) stored {
	w.t.Helper()
	all := stored{}
	for i := range n {
		e := anEvent(fmt.Sprintf("%s-%d", name, i), size)
		all[w.append(broker, e)[0]] = e
	}
	return all
}

// stored is what must be found, by id.
type stored map[channel.ID]event.Event

func (s stored) add(ids []channel.ID, events []event.Event) {
	for i, id := range ids {
		s[id] = events[i]
	}
}

// everything reads all that a broker holds from the beginning, in chunks of
// at most three, and checks what holds of every read.
func (w *world) everything(b channel.BrokerLog) stored {
	w.t.Helper()
	all := stored{}
	for _, shard := range b.Shards() {
		for _, r := range w.shard(b, shard, 0) {
			all[channel.ID{Shard: shard, Position: r.Position}] = r.Event
		}
	}
	return all
}

// shard reads a shard from a position to its end.
func (w *world) shard(b channel.BrokerLog, shard channel.ShardID, from channel.Position) []channel.Record {
	w.t.Helper()
	var all []channel.Record
	for end := w.end(b, shard); from < end; {
		records, next, err := w.tryRead(b, shard, from, 3)
		if errors.Is(err, errNothing) {
			return all
		}
		if err != nil {
			w.t.Fatalf("read shard %d from %d: %v", shard, from, err)
		}
		if len(records) == 0 || len(records) > 3 {
			w.t.Fatalf("read shard %d from %d into room for 3: %d records and no error", shard, from, len(records))
		}
		for _, r := range records {
			if r.Position < from || len(all) > 0 && r.Position <= all[len(all)-1].Position {
				w.t.Fatalf("read shard %d from %d: position %d out of order", shard, from, r.Position)
			}
			if len(all) > 0 && r.Time.Before(all[len(all)-1].Time) {
				w.t.Fatalf("shard %d: time goes back at position %d", shard, r.Position)
			}
			all = append(all, r)
		}
		if last := records[len(records)-1].Position; next <= last {
			w.t.Fatalf("read shard %d from %d: up to position %d, yet to go on from %d", shard, from, last, next)
		}
		from = next
	}
	return all
}

// end is the position after a shard's last record that is still there: a read
// behind it would wait.
func (w *world) end(b channel.BrokerLog, shard channel.ShardID) channel.Position {
	w.t.Helper()
	earliest, next := b.Range(shard)
	var every []channel.Position
	for p := earliest; p < next; p++ {
		every = append(every, p)
	}
	records, err := b.Get(w.t.Context(), shard, every, nil)
	if err != nil {
		w.t.Fatalf("get positions %d to %d of shard %d: %v", earliest, next, shard, err)
	}
	if len(records) == 0 {
		return 0
	}
	return records[len(records)-1].Position + 1
}

// errNothing says that a Read found nothing to return.
var errNothing = errors.New("nothing to read")

// tryRead reads, and gives up where Read waits: records that are settled may
// go at any moment.
func (w *world) tryRead(b channel.BrokerLog, shard channel.ShardID, from channel.Position, room int) ([]channel.Record, channel.Position, error) {
	ctx, cancel := context.WithTimeoutCause(w.t.Context(), 5*time.Second, errNothing)
	defer cancel()
	records, next, err := b.Read(ctx, shard, from, make([]channel.Record, 0, room))
	if err != nil && errors.Is(context.Cause(ctx), errNothing) {
		err = errNothing
	}
	return records, next, err
}

// wantExactly compares what a broker holds with what it must hold.
func (w *world) wantExactly(b channel.BrokerLog, want stored) {
	w.t.Helper()
	w.wantStored(b, want)
	for id, e := range w.everything(b) {
		if _, ok := want[id]; !ok {
			w.t.Errorf("event %s (id %s) was never stored, or not here", id, e.ID())
		}
	}
}

// wantStored checks that a broker holds at least these events, byte for byte,
// both in order and by position.
func (w *world) wantStored(b channel.BrokerLog, want stored) {
	w.t.Helper()
	got := w.everything(b)
	missing := 0
	for id, e := range want {
		found, ok := got[id]
		switch {
		case !ok:
			missing++
		case !bytes.Equal(found.Raw(), e.Raw()):
			w.t.Errorf("event %s: stored as id %s, read as id %s or with other bytes", id, e.ID(), found.ID())
		}
		records, err := b.Get(w.t.Context(), id.Shard, []channel.Position{id.Position}, nil)
		if ok && (err != nil || len(records) != 1 || !bytes.Equal(records[0].Event.Raw(), e.Raw())) {
			w.t.Errorf("get event %s: %d records, error %v", id, len(records), err)
		}
	}
	if missing > 0 {
		w.t.Errorf("%d of %d stored events are missing", missing, len(want))
	}
}

// wantRefused checks that an error is a refusal for a reason, and says when
// to come back where coming back is of use.
func (w *world) wantRefused(err, reason error) {
	w.t.Helper()
	var refused *channel.Refused
	switch {
	case !errors.As(err, &refused):
		w.t.Errorf("error %v: want a *channel.Refused", err)
	case !errors.Is(err, reason):
		w.t.Errorf("error %v: want one that wraps %q", err, reason)
	case errors.Is(err, channel.ErrUnknown):
		w.t.Errorf("error %v is refused and unknown at once", err)
	case refused.RetryAfter <= 0 && (errors.Is(reason, channel.ErrFull) || errors.Is(reason, channel.ErrQuota) || errors.Is(reason, channel.ErrUnavailable)):
		w.t.Errorf("error %v does not say when to try again", err)
	}
}
