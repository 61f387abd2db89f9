package journal

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Entry is what an event was when it was accepted. Texts are cut to 1 KiB.
type Entry struct {
	Broker        channel.UID
	BrokerName    string
	ID            channel.ID
	Accepted      time.Time
	EventID       string // the CloudEvents id
	Source        string
	Type          string
	Subject       string
	CausationID   string
	CorrelationID string
	Matched       int // how many triggers it went to
}

// Story is what happened to one event.
type Story struct {
	// Of the Entry only Broker, BrokerName and ID are set where its record is
	// no longer kept, or was dropped: Accepted is zero then.
	Entry
	Triggers []TriggerStory // those that matched in order, then others that had to do with it
	Gaps     []Gap          // times in which more may have happened to it
	More     bool           // there is more than a story tells: maxStory records
}

// TriggerStory is what happened to the event on its way to one trigger.
type TriggerStory struct {
	Trigger  channel.UID
	Name     string
	Matched  bool      // false where only what followed is known
	Attempts []Attempt // in order of time

	// The last final state, and since when. A dead letter that is sent again may
	// have several; its attempts tell.
	Final  State
	At     time.Time
	Reason string // of a final state without an attempt
}

// maxStory bounds the records that a story is made of.
const maxStory = 10_000

// Story tells what is known of an event. Its error is ErrNotFound, or ctx's.
func (j *Journal) Story(ctx context.Context, broker channel.UID, id channel.ID) (Story, error) {
	if j == nil {
		return Story{}, ErrNotFound
	}
	list, missing := j.sources()
	t := teller{broker: broker, id: id, hash: hashID(hashText(seedBroker, string(broker)), id), by: make(map[channel.UID]int)}
	for _, s := range list {
		err := ctx.Err()
		if err == nil {
			err = t.hear(ctx, s)
		}
		s.close()
		if err != nil {
			return Story{}, err
		}
	}
	if t.records == 0 {
		return Story{}, ErrNotFound
	}
	for _, s := range list {
		t.note(s.gaps())
	}
	t.note([]Gap{missing})
	return t.end(), nil
}

// teller puts one story together.
type teller struct {
	broker  channel.UID
	id      channel.ID
	hash    uint64
	story   Story
	by      map[channel.UID]int // place in story.Triggers
	records int
	heard   []Gap // all, of which some matter
}

func (t *teller) note(gaps []Gap) { t.heard = append(t.heard, gaps...) }

// hear takes what one source has of the event. What cannot be read is a gap.
func (t *teller) hear(ctx context.Context, s source) error {
	found, err := s.find(t.hash)
	if err != nil {
		t.cannot(s, err)
		return nil
	}
	for _, at := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := s.names()
		if err != nil {
			t.cannot(s, err)
			return nil
		}
		b, err := s.read(at)
		if err != nil {
			t.cannot(s, err)
			continue
		}
		p := newPayload(b)
		for {
			kind, body, ok := p.next()
			if !ok {
				break
			}
			r := reader{b: body}
			if n, id, ok := about(kind, &r); ok && id == t.id && !t.record(names, p.base, kind, n, &r) {
				p.bad = true
			}
		}
		if p.bad {
			t.cannot(s, errDamaged)
		}
	}
	return nil
}

// cannot notes that a source could not be read.
func (t *teller) cannot(s source, err error) {
	if g, ok := unreadable(s, err); ok {
		t.note([]Gap{g})
	}
}

// unreadable is the gap that a source leaves which cannot be read, unless it
// has been removed.
func unreadable(s source, err error) (Gap, bool) {
	if errors.Is(err, fs.ErrNotExist) {
		return Gap{}, false
	}
	first, last := s.span()
	cause := "the file cannot be read"
	if errors.Is(err, errDamaged) {
		cause = "the file is damaged"
	}
	return Gap{From: instant(first), To: instant(last), Cause: cause}, true
}

// record takes one record with the event's ID, and reports whether it can be
// read. It may be another broker's.
func (t *teller) record(names []name, base int64, kind byte, n uint32, r *reader) bool {
	broker, who := resolve(names, kind, n)
	if broker == nil {
		return false
	}
	if broker.uid != t.broker {
		return true
	}
	if t.records == maxStory {
		t.story.More = true
		return true
	}
	switch kind {
	case kindMatched:
		m := r.matched(base, t.id)
		if r.bad {
			return false
		}
		t.records++
		t.story.Entry = m.entry
		t.match(names, m.triggers)
	case kindMore:
		more := r.numbers()
		if r.bad {
			return false
		}
		t.records++
		t.match(names, more)
	case kindAttempt:
		a := r.attempt(base)
		if r.bad {
			return false
		}
		t.records++
		of := t.trigger(who)
		of.Attempts = append(of.Attempts, a)
		if a.Final != None {
			of.Final, of.At, of.Reason = a.Final, a.Start.Add(a.Duration), ""
		}
	case kindEnd:
		at, state, reason := r.varint()+base, State(r.byte()), r.string()
		if r.bad {
			return false
		}
		t.records++
		of := t.trigger(who)
		of.Final, of.At, of.Reason = state, instant(at), reason
	}
	t.story.Broker, t.story.BrokerName, t.story.ID = broker.uid, broker.text, t.id
	return true
}

func (t *teller) match(names []name, triggers []uint32) {
	for _, n := range triggers {
		if _, who := resolve(names, kindAttempt, n); who != nil {
			t.trigger(who).Matched = true
		}
	}
}

func (t *teller) trigger(who *name) *TriggerStory {
	i, ok := t.by[who.uid]
	if !ok {
		i = len(t.story.Triggers)
		t.by[who.uid] = i
		t.story.Triggers = append(t.story.Triggers, TriggerStory{Trigger: who.uid})
	}
	t.story.Triggers[i].Name = who.text
	return &t.story.Triggers[i]
}

// end puts everything in order and keeps the gaps that matter: those between
// the event's acceptance and its end.
func (t *teller) end() Story {
	s := t.story
	ended := s.Accepted
	open := s.Accepted.IsZero()
	for i := range s.Triggers {
		of := &s.Triggers[i]
		slices.SortStableFunc(of.Attempts, func(a, b Attempt) int { return a.Start.Compare(b.Start) })
		if of.Final == None {
			open = true
		} else if of.At.After(ended) {
			ended = of.At
		}
	}
	if open || s.Matched > len(s.Triggers) {
		ended = time.Time{}
	}
	slices.SortStableFunc(s.Triggers, func(a, b TriggerStory) int {
		switch {
		case a.Matched == b.Matched:
			return 0
		case a.Matched:
			return -1
		}
		return 1
	})
	for _, g := range t.heard {
		if !g.To.IsZero() && g.overlaps(s.Accepted, ended) {
			s.Gaps = append(s.Gaps, g)
		}
	}
	slices.SortStableFunc(s.Gaps, func(a, b Gap) int { return a.From.Compare(b.From) })
	return s
}
