package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// store appends all groups of a request and gives each its outcome. events are
// those of all groups that can be read, in order.
//
// Groups of one Broker are appended as one: it is what they came together
// for. Where that is refused for what may be the fault of one of them (too
// large, no room for all), each is tried by itself, so that every one has the
// outcome it would have had alone.
func (s *Server) store(ctx context.Context, groups []group, events []event.Event) {
	if len(groups) == 0 {
		return
	}
	jobs := gather(groups, events)
	s.each(len(jobs), func(i int) { s.together(ctx, jobs[i]) })
	for i := range groups {
		switch g := &groups[i]; {
		case g.err == nil:
			s.stored.Add(1)
			s.events.Add(uint64(len(g.events)))
		case errors.Is(g.err, channel.ErrUnknown):
			s.unknown.Add(1)
		default:
			s.refused.Add(1)
		}
	}
	s.appends.Add(uint64(len(groups)))
}

// job is all groups of one Broker.
type job struct {
	groups []*group
	events []event.Event
}

// gather sorts groups by Broker and keeps their order in each.
func gather(groups []group, events []event.Event) []job {
	jobs := make([]job, 0, 1)
	of := map[channel.UID]int(nil)
	one := true
	for i := range groups {
		one = one && groups[i].uid == groups[0].uid
	}
	if one {
		j := job{events: events, groups: make([]*group, 0, len(groups))}
		for i := range groups {
			if groups[i].err == nil {
				j.groups = append(j.groups, &groups[i])
			}
		}
		return append(jobs, j)
	}
	of = make(map[channel.UID]int)
	for i := range groups {
		g := &groups[i]
		if g.err != nil {
			continue
		}
		n, ok := of[g.uid]
		if !ok {
			n = len(jobs)
			of[g.uid], jobs = n, append(jobs, job{})
		}
		jobs[n].groups = append(jobs[n].groups, g)
		jobs[n].events = append(jobs[n].events, g.events...)
	}
	return jobs
}

// each calls f for 0 to n-1, at most Concurrent at once, and the first in this goroutine.
func (s *Server) each(n int, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
			f(i)
		}
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for range min(n, s.o.Concurrent) - 1 {
		wg.Go(work)
	}
	work()
}

// together appends all groups of a Broker.
func (s *Server) together(ctx context.Context, j job) {
	if len(j.groups) == 0 {
		return
	}
	log, err := s.o.Appender(j.groups[0].uid)
	if err != nil {
		if !errors.Is(err, channel.ErrNoBroker) && !errors.Is(err, channel.ErrUnavailable) {
			err = fmt.Errorf("%w: %w", channel.ErrUnavailable, err)
		}
		refusal, ok := errors.AsType[*channel.Refused](err)
		if !ok {
			refusal = &channel.Refused{Err: err}
			if errors.Is(err, channel.ErrUnavailable) {
				refusal.RetryAfter = DefaultRetryAfter
			}
		}
		j.fail(refusal)
		return
	}
	ids, err := log.Append(ctx, j.groups[0].uid, j.events)
	switch {
	case err == nil && len(ids) == len(j.events):
		for _, g := range j.groups {
			g.ids, ids = ids[:len(g.events)], ids[len(g.events):]
		}
	case err == nil:
		j.fail(fmt.Errorf("%w: %d ids for %d events", channel.ErrUnknown, len(ids), len(j.events)))
	case len(j.groups) > 1 && alone(err):
		s.each(len(j.groups), func(i int) {
			g := j.groups[i]
			g.ids, g.err = log.Append(ctx, g.uid, g.events)
			if g.err == nil && len(g.ids) != len(g.events) {
				g.err = fmt.Errorf("%w: %d ids for %d events", channel.ErrUnknown, len(g.ids), len(g.events))
			}
		})
	default:
		j.fail(err)
	}
}

func (j job) fail(err error) {
	for _, g := range j.groups {
		g.ids, g.err = nil, err
	}
}

// alone reports whether an append refused for err may be taken in parts.
func alone(err error) bool {
	_, refused := errors.AsType[*channel.Refused](err)
	return refused && !errors.Is(err, channel.ErrUnknown) &&
		!errors.Is(err, channel.ErrUnavailable) && !errors.Is(err, channel.ErrNoBroker)
}
