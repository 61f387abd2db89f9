package rerun

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
)

const (
	// tapeRecords is how many records of one shard are read at a time.
	tapeRecords = 64

	// quiet is how long a read may find nothing before it is checked whether
	// there is anything.
	quiet = 2 * time.Second

	// probe is how many positions are looked at at once for that.
	probe = 4096
)

// past settles what a replay goes through, or says how far back one can go.
func (m *Manager) past(ctx context.Context, r *record, log channel.BrokerLog, from, to *time.Time) error {
	r.From, r.To = from, to
	r.Spans = map[channel.ShardID]span{}
	var oldest time.Time
	whole := true // nothing was ever let go
	for _, shard := range log.Shards() {
		earliest, next := log.Range(shard)
		r.Spans[shard] = span{Next: earliest, Until: next, Sought: from == nil}
		if earliest > 1 {
			whole = false
		}
		first, ok, err := firstAt(ctx, log, shard, earliest, next)
		if err != nil {
			return err
		}
		if ok && (oldest.IsZero() || first.Time.Before(oldest)) {
			oldest = first.Time
		}
	}
	if from != nil && !r.Partial && !whole && (oldest.IsZero() || from.Before(oldest)) {
		if oldest.IsZero() {
			return refuse(400, "broker %s keeps no events: nothing can be replayed", r.Broker)
		}
		return refuse(400, "broker %s keeps events since %s: begin there or later, leave from out for all of them, or ask for a partial replay",
			r.Broker, oldest.UTC().Format(time.RFC3339Nano))
	}
	if err := seek(ctx, log, r); err != nil {
		return err
	}
	for _, s := range r.Spans {
		r.Total += uint64(s.Until - min(s.Next, s.Until))
	}
	return nil
}

// seek moves each shard's place to the first event of the time asked for.
// Append times never decrease along a shard.
func seek(ctx context.Context, log channel.BrokerLog, r *record) error {
	for shard, s := range r.Spans {
		if s.Sought || r.From == nil {
			continue
		}
		earliest, _ := log.Range(shard)
		low, high := max(s.Next, earliest), s.Until
		for low < high {
			middle := low + (high-low)/2
			record, ok, err := firstAt(ctx, log, shard, middle, high)
			switch {
			case err != nil:
				return err
			case ok && record.Time.Before(*r.From):
				low = record.Position + 1
			default:
				high = middle
			}
		}
		s.Next, s.Sought = low, true
		r.Spans[shard] = s
	}
	return nil
}

// firstAt is the first record in [from, until) that can be read.
func firstAt(ctx context.Context, log channel.BrokerLog, shard channel.ShardID, from, until channel.Position) (channel.Record, bool, error) {
	t := tape{log: log, shard: shard, next: from, until: until, size: 1}
	for {
		gap, err := t.fill(ctx)
		switch {
		case err != nil:
			return channel.Record{}, false, err
		case len(t.records) > 0:
			return t.records[0], true, nil
		case gap == nil:
			return channel.Record{}, false, nil
		}
	}
}

// tape reads one shard from next up to until.
type tape struct {
	log   channel.BrokerLog
	shard channel.ShardID
	next  channel.Position // to read from
	until channel.Position
	size  int

	buf     []channel.Record
	records []channel.Record // read and not taken
}

// fill reads on when all that was read is taken. No records and no gap: that
// was all. It returns a range that cannot be read, and goes on after it.
func (t *tape) fill(ctx context.Context) (*channel.GapError, error) {
	if t.buf == nil {
		t.buf = make([]channel.Record, 0, t.size)
	}
	for {
		earliest, next := t.log.Range(t.shard)
		if next == 0 {
			return nil, fmt.Errorf("shard %d: %w", t.shard, channel.ErrNoBroker)
		}
		t.next = max(t.next, earliest)
		if t.next >= t.until {
			return nil, nil
		}
		limited, cancel := context.WithTimeout(ctx, quiet)
		records, after, err := t.log.Read(limited, t.shard, t.next, t.buf[:0])
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var gap *channel.GapError
		switch {
		case err == nil:
		case errors.As(err, &gap):
			if gap.From >= t.until {
				gap = nil
			}
		case errors.Is(err, context.DeadlineExceeded) && len(records) == 0:
			// Nothing may be left of what was there when the job began.
			some, err := t.some(ctx)
			if err != nil {
				return nil, err
			}
			if !some {
				t.next = t.until
			}
			continue
		default:
			return nil, err
		}
		t.next = after
		if i := slices.IndexFunc(records, func(r channel.Record) bool { return r.Position >= t.until }); i >= 0 {
			clear(records[i:])
			records, t.next = records[:i], t.until
		}
		t.records = records
		if len(records) > 0 || gap != nil || t.next >= t.until {
			return gap, nil
		}
	}
}

// some reports whether there is a record, or what is left of one, before the end.
func (t *tape) some(ctx context.Context) (bool, error) {
	positions := make([]channel.Position, 0, probe)
	for at := t.next; at < t.until; {
		positions = positions[:0]
		for len(positions) < probe && at < t.until {
			positions = append(positions, at)
			at++
		}
		records, err := t.log.Get(ctx, t.shard, positions, nil)
		var gap *channel.GapError
		if err != nil && !errors.As(err, &gap) {
			return false, err
		}
		if len(records) > 0 || gap != nil {
			return true, nil
		}
	}
	return false, nil
}

// events are those of a replay or a start: the shards' records merged by the
// time of their append, so that a key which is in several shards keeps its order.
func (m *Manager) events(ctx context.Context, r *record, log channel.BrokerLog, wants, where *filter.Filter, emit func(*entry) error) error {
	if err := seek(ctx, log, r); err != nil {
		return err
	}
	var tapes []*tape
	for shard, s := range r.Spans {
		tapes = append(tapes, &tape{log: log, shard: shard, next: s.Next, until: s.Until, size: tapeRecords})
		if err := emit(step(shard, s.Next, 0)); err != nil {
			return err
		}
	}
	slices.SortFunc(tapes, func(a, b *tape) int { return int(int64(a.shard) - int64(b.shard)) })
	at := make(map[channel.ShardID]channel.Position, len(tapes)) // counted up to
	for _, t := range tapes {
		at[t.shard] = t.next
	}
	for len(tapes) > 0 {
		first := -1
		for i := 0; i < len(tapes); i++ {
			t := tapes[i]
			for len(t.records) == 0 {
				gap, err := t.fill(ctx)
				if err != nil {
					return err
				}
				if gap != nil {
					if err := emit(lost(gap)); err != nil {
						return err
					}
				} else if len(t.records) == 0 {
					break
				}
			}
			if len(t.records) == 0 || r.To != nil && !t.records[0].Time.Before(*r.To) {
				// The rest of the shard is not asked for.
				if err := emit(step(t.shard, t.until, uint64(t.until-min(at[t.shard], t.until)))); err != nil {
					return err
				}
				clear(t.records)
				tapes = slices.Delete(tapes, i, i+1)
				i--
				continue
			}
			if first < 0 || t.records[0].Time.Before(tapes[first].records[0].Time) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		t := tapes[first]
		rec := t.records[0]
		t.records[0] = channel.Record{} // let go of the event
		t.records = t.records[1:]
		e := step(t.shard, rec.Position+1, uint64(rec.Position+1-at[t.shard]))
		at[t.shard] = rec.Position + 1
		e.id, e.accepted = channel.ID{Shard: t.shard, Position: rec.Position}, rec.Time
		if wants.Match(rec.Event) && matches(where, rec.Event) {
			e.meant, e.event = true, rec.Event
		}
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

// step moves a shard's place.
func step(shard channel.ShardID, to channel.Position, seen uint64) *entry {
	return &entry{seen: seen, advance: func(r *record) {
		s := r.Spans[shard]
		s.Next, s.Sought = to, true
		r.Spans[shard] = s
	}}
}

// lost names a range that cannot be read.
func lost(gap *channel.GapError) *entry {
	return &entry{gap: true, advance: func(r *record) {
		r.unreadable(uint64(gap.To-gap.From), fmt.Sprintf("events %s to %s cannot be read: %v",
			channel.ID{Shard: gap.Shard, Position: gap.From}, channel.ID{Shard: gap.Shard, Position: gap.To - 1}, gap.Cause))
	}}
}
