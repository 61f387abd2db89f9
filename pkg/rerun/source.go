package rerun

import (
	"context"
	"errors"
	"fmt"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

// letterPage is how many dead letters are read at a time: they come with
// their events.
const letterPage = 32

// source reads what a job is about, from where it has come to, and hands it to
// emit in order. It reads of the record what does not change, and its place once.
func (m *Manager) source(ctx context.Context, j *job, emit func(*entry) error) error {
	where, err := m.where(j.rec.Where)
	if err != nil {
		return err
	}
	log, open := m.o.Log(j.rec.BrokerUID)
	if !open {
		return channel.ErrNoBroker
	}
	m.mu.Lock()
	r := j.rec.clone()
	m.mu.Unlock()
	if r.Kind == v1.JobReplay || r.Kind == v1.JobStart {
		t := m.trigger(r.TriggerUID)
		if t == nil || t.Filter == nil {
			return fmt.Errorf("trigger %s has no filter that compiles", r.Trigger)
		}
		return m.events(ctx, &r, log, t.Filter, where, emit)
	}
	if len(r.IDs) > 0 && r.TriggerUID != "" {
		return named(ctx, &r, log, emit)
	}
	return graves(ctx, &r, log, where, emit)
}

// matches is a condition that may be absent.
func matches(where *filter.Filter, e event.Event) bool { return where == nil || where.Match(e) }

// named are the dead letters that a request names. One that is gone meanwhile
// is passed over.
func named(ctx context.Context, r *record, letters channel.DeadLetters, emit func(*entry) error) error {
	for i := r.Cursor.Index; i < len(r.IDs); i++ {
		id, err := channel.ParseID(r.IDs[i])
		if err != nil {
			return err
		}
		l, found, err := letters.FindDead(ctx, r.TriggerUID, id)
		if err != nil {
			return err
		}
		e := entryOf(l)
		e.id, e.meant = id, found
		e.advance = func(r *record) { r.Cursor.Index = i + 1 }
		if err := emit(e); err != nil {
			return err
		}
	}
	return nil
}

func entryOf(l channel.DeadLetter) *entry {
	return &entry{id: l.ID, event: l.Event, accepted: l.Accepted, number: l.Number, seen: 1}
}

// graves are a Trigger's dead letters page by page. What died after the job
// was made is no part of it: a job does not run after what it leaves behind.
func graves(ctx context.Context, r *record, letters channel.DeadLetters, where *filter.Filter, emit func(*entry) error) error {
	only := make(map[string]bool, len(r.IDs))
	for _, id := range r.IDs {
		only[id] = true
	}
	later := 0
	after, done := r.Cursor.After, r.Cursor.Number
	for {
		began := after // stays what it is: advance is called when after has moved on
		page, next, err := letters.Dead(ctx, r.TriggerUID, after, letterPage)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && (len(page) == 0 && next == "" || errors.Is(err, channel.ErrClosed) || errors.Is(err, channel.ErrNoBroker)) {
			return err
		}
		for _, l := range page {
			if l.Number <= done || r.TriggerUID == "" && l.TriggerName != r.Trigger {
				continue
			}
			if l.Died.After(r.Created) {
				// A clock that was set may date one wrong; many are the present.
				if later++; later == 1000 {
					return nil
				}
				continue
			}
			later = 0
			e := entryOf(l)
			e.meant = matches(where, l.Event) && (len(only) == 0 || only[l.ID.String()])
			e.advance = func(r *record) { r.Cursor.After, r.Cursor.Number = began, l.Number }
			if err := emit(e); err != nil {
				return err
			}
		}
		if err != nil {
			if err := emit(&entry{gap: true, advance: func(r *record) { r.unreadable(1, err.Error()) }}); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		after = next
	}
}

// unreadable notes what the log cannot give.
func (r *record) unreadable(n uint64, what string) {
	r.Unreadable += n
	if len(r.Gaps) < maxGaps {
		r.Gaps = append(r.Gaps, what)
	}
}
