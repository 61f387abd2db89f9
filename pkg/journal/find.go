package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Query says which events to find. What is empty does not matter.
type Query struct {
	Broker   channel.UID
	ID       string    // CloudEvents id: found through the index
	Type     string    //
	Source   string    //
	Subject  string    //
	From, To time.Time // of acceptance, both included
	Limit    int       // at most so many; 0 means 100, and 1000 is the most
	Cursor   string    // Page.Next of the call before; "" to start
}

// Page is a part of what Find finds.
type Page struct {
	Events []Entry // the one recorded last comes first
	Next   string  // to go on from; "" where there is no more
	Gaps   []Gap   // times of which events may be missing here
}

const (
	defaultLimit = 100
	mostLimit    = 1000

	// maxScan bounds the records that one Find looks at. Where they are used up
	// it returns what it has, which may be nothing, and a cursor.
	maxScan = 100_000
)

// ErrCursor says that a cursor is not one that Find has returned.
var ErrCursor = errors.New("not a cursor")

// place is where a record is. Find goes from high places to low ones.
type place struct {
	segment uint64
	block   uint32
	record  int
}

func (p place) String() string { return fmt.Sprintf("%x-%x-%x", p.segment, p.block, p.record) }

func parsePlace(s string) (p place, err error) {
	if s == "" {
		return place{segment: 1<<64 - 1}, nil
	}
	n, err := fmt.Sscanf(s, "%x-%x-%x", &p.segment, &p.block, &p.record)
	if err != nil || n != 3 || p.record < 0 || p.String() != s {
		return p, fmt.Errorf("%w: %.64q", ErrCursor, s)
	}
	return p, nil
}

// Find looks for events from the one recorded last to the first, through the
// index where q.ID is given and else through a bounded number of records in each
// call. An event that was recorded again after a restart may come again on
// another page. Its error is ErrCursor, or ctx's.
func (j *Journal) Find(ctx context.Context, q Query) (Page, error) {
	before, err := parsePlace(q.Cursor)
	if err != nil || j == nil {
		return Page{}, err
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	q.Limit = min(q.Limit, mostLimit)
	f := finder{q: q, hash: hashText(seedEvent, q.ID), before: before, budget: maxScan, seen: make(map[seen]bool)}
	list, missing := j.sources()
	if q.Cursor == "" {
		f.note([]Gap{missing})
	}
	for i := len(list) - 1; i >= 0 && !f.full; i-- {
		err := f.search(ctx, list[i])
		list[i].close()
		if err != nil {
			return Page{}, err
		}
	}
	if f.full {
		f.page.Next = f.before.String()
	}
	return f.page, nil
}

// finder fills one page.
type finder struct {
	q      Query
	hash   uint64
	before place // where to go on
	budget int
	full   bool
	page   Page
	seen   map[seen]bool
}

type seen struct {
	broker channel.UID
	id     channel.ID
}

func (f *finder) note(gaps []Gap) {
	for _, g := range gaps {
		if !g.To.IsZero() && g.overlaps(f.q.From, f.q.To) {
			f.page.Gaps = append(f.page.Gaps, g)
		}
	}
}

func (f *finder) cannot(s source, err error) {
	if g, ok := unreadable(s, err); ok {
		f.note([]Gap{g})
	}
}

// search looks through one source, from its end.
func (f *finder) search(ctx context.Context, s source) error {
	num := s.segment()
	if num > f.before.segment {
		return nil
	}
	f.note(s.gaps())
	first, last := s.span()
	if !f.q.From.IsZero() && last < nanos(f.q.From) || !f.q.To.IsZero() && first > nanos(f.q.To) {
		return nil
	}
	var blocks []uint32
	var err error
	if f.q.ID != "" {
		blocks, err = s.find(f.hash)
	} else {
		blocks, err = s.blocks()
	}
	if err != nil {
		f.cannot(s, err)
		return nil
	}
	for i := len(blocks) - 1; i >= 0; i-- {
		at := blocks[i]
		if num == f.before.segment && (at > f.before.block || at == f.before.block && f.before.record == 0) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.budget <= 0 {
			f.full = true
			return nil
		}
		names, err := s.names()
		if err != nil {
			f.cannot(s, err)
			return nil
		}
		b, err := s.read(at)
		if err != nil {
			f.cannot(s, err)
			f.budget--
			f.before = place{num, at, 0}
			continue
		}
		if !f.block(num, at, names, b) {
			f.cannot(s, errDamaged)
		}
		if f.full {
			return nil
		}
	}
	return nil
}

// block looks through one block, from its end, and reports whether it could be read.
func (f *finder) block(num uint64, at uint32, names []name, b []byte) bool {
	p := newPayload(b)
	type event struct {
		record int
		body   []byte
	}
	var events []event
	n := 0
	for ; ; n++ {
		kind, body, ok := p.next()
		if !ok {
			break
		}
		if kind == kindMatched && (place{num, at, n}).below(f.before) {
			events = append(events, event{n, body})
		}
	}
	f.budget -= n + 1
	good := !p.bad
	for i := len(events) - 1; i >= 0; i-- {
		e, ok := f.event(names, p.base, events[i].body)
		good = good && ok
		f.before = place{num, at, events[i].record}
		if e == nil {
			continue
		}
		f.page.Events = append(f.page.Events, *e)
		if len(f.page.Events) == f.q.Limit {
			f.full = true
			return good
		}
	}
	f.before = place{num, at, 0}
	return good
}

// below reports whether a place comes after another one on the way down.
func (p place) below(o place) bool {
	if p.segment != o.segment {
		return p.segment < o.segment
	}
	if p.block != o.block {
		return p.block < o.block
	}
	return p.record < o.record
}

// event decodes an event and returns it if it is looked for, and whether it could be read.
func (f *finder) event(names []name, base int64, body []byte) (*Entry, bool) {
	r := reader{b: body}
	n, id, ok := about(kindMatched, &r)
	if !ok {
		return nil, false
	}
	broker, _ := resolve(names, kindMatched, n)
	if broker == nil {
		return nil, false
	}
	if f.q.Broker != "" && f.q.Broker != broker.uid {
		return nil, true
	}
	m := r.matched(base, id)
	if r.bad {
		return nil, false
	}
	e, q := &m.entry, &f.q
	e.Broker, e.BrokerName = broker.uid, broker.text
	switch {
	case q.ID != "" && !m.has(q.ID, f.hash),
		q.Type != "" && !m.typ.is(q.Type),
		q.Source != "" && !m.source.is(q.Source),
		q.Subject != "" && !m.subject.is(q.Subject),
		!q.From.IsZero() && e.Accepted.Before(q.From),
		!q.To.IsZero() && e.Accepted.After(q.To),
		f.seen[seen{e.Broker, id}]:
		return nil, true
	}
	f.seen[seen{e.Broker, id}] = true
	return e, true
}
