package history_test

import (
	"bytes"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// world is a broker that keeps its promise, reduced to what shows: it makes
// histories that Check must find nothing wrong with. Time is a number.
type world struct {
	t     testing.TB
	rng   *rand.Rand
	out   bytes.Buffer
	rec   *history.Recorder
	now   time.Time
	queue moments
	life  int // incarnation: what was planned by an earlier one does not happen
	up    bool
	lanes []*lane
	kept  []history.Event // in the log
}

const shop = "default/shop"

// lane is a trigger and what its subscriber is like.
type lane struct {
	conf   history.Trigger
	answer func(e history.Event, rng *rand.Rand) history.Answer
	takes  time.Duration
	wants  func(e history.Event) bool
	pairs  map[string]*delivery
	final  history.Final
}

// delivery is what the broker knows of one event for one trigger.
type delivery struct {
	event    history.Event
	attempts []time.Time // that were over by then
	last     history.Answer
	due      time.Time
	end      time.Time // settled
}

type moment struct {
	at time.Time
	n  int
	do func()
}

type moments []moment

func (m moments) Len() int { return len(m) }
func (m moments) Less(i, j int) bool {
	return m[i].at.Before(m[j].at) || m[i].at.Equal(m[j].at) && m[i].n < m[j].n
}
func (m moments) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *moments) Push(x any)   { *m = append(*m, x.(moment)) }
func (m *moments) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func newWorld(t testing.TB, rng *rand.Rand) *world {
	w := &world{t: t, rng: rng, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.rec = history.NewRecorder(&w.out, history.Rules{}, func() time.Time { return w.now })
	all := func(history.Event) bool { return true }
	ok := func(history.Event, *rand.Rand) history.Answer { return history.Answer{Code: 204} }
	flaky := func(_ history.Event, rng *rand.Rand) history.Answer {
		switch rng.IntN(10) {
		case 0, 1:
			return history.Answer{Code: 500}
		case 2:
			return history.Answer{Code: 503, RetryAfter: time.Second}
		}
		return history.Answer{Code: 200}
	}
	picky := func(e history.Event, _ *rand.Rand) history.Answer {
		if e.Attrs["type"] == "b" {
			return history.Answer{Code: 400}
		}
		return history.Answer{Code: 200}
	}
	down := func(history.Event, *rand.Rand) history.Answer { return history.Answer{Code: 500} }
	onlyA := filter.Spec{Filters: []filter.Dialect{{Exact: map[string]string{"type": "a"}}}}
	exponential := deliver.Policy{Retry: 20, Delay: 100 * time.Millisecond, BackoffMax: time.Second, Timeout: 5 * time.Second}
	linear := deliver.Policy{Retry: 2, Delay: 200 * time.Millisecond, Backoff: deliver.Linear, Timeout: 5 * time.Second}
	w.lanes = []*lane{
		{conf: history.Trigger{Name: "default/healthy", Policy: exponential}, answer: ok, takes: time.Millisecond, wants: all},
		{conf: history.Trigger{Name: "default/flaky", Policy: exponential}, answer: flaky, takes: 5 * time.Millisecond, wants: all},
		{conf: history.Trigger{Name: "default/down", Policy: linear}, answer: down, takes: time.Millisecond, wants: all},
		{conf: history.Trigger{Name: "default/picky", Policy: linear}, answer: picky, takes: time.Millisecond, wants: all},
		{conf: history.Trigger{Name: "default/only-a", Filter: onlyA, Policy: linear}, answer: ok, takes: 70 * time.Millisecond,
			wants: func(e history.Event) bool { return e.Attrs["type"] == "a" }},
		{conf: history.Trigger{Name: "default/ordered", Policy: exponential, Ordered: true}, answer: flaky, takes: 3 * time.Millisecond, wants: all},
	}
	for _, l := range w.lanes {
		l.pairs = make(map[string]*delivery)
	}
	return w
}

func (w *world) at(d time.Duration, do func()) {
	life := w.life
	w.always(d, func() {
		if life == w.life {
			do()
		}
	})
}

// always plans what happens whoever lives then.
func (w *world) always(d time.Duration, do func()) {
	heap.Push(&w.queue, moment{at: w.now.Add(d), n: len(w.queue), do: do})
}

// run lets time pass until nothing is planned.
func (w *world) run() {
	for len(w.queue) > 0 {
		m := heap.Pop(&w.queue).(moment)
		w.now = m.at
		m.do()
	}
}

func (w *world) routes() {
	var set []history.Trigger
	for _, l := range w.lanes {
		set = append(set, l.conf)
	}
	w.rec.Routes(shop, set)()
}

// start begins an incarnation, which takes up what the last has left.
func (w *world) start() {
	w.life++
	w.up = true
	w.rec.Incarnation(int64(w.life), uint64(w.life))
	for _, l := range w.lanes {
		l.final.Delivered = 0
		for _, e := range w.kept {
			d := l.pairs[e.ID()]
			if d == nil && l.wants(e) {
				w.offer(l, e)
			} else if d != nil && d.end.IsZero() && !w.behind(l, d) {
				w.at(max(d.due.Sub(w.now), 0), func() { w.attempt(l, d) })
			}
		}
	}
}

// kill ends the process; progress since forgotten is lost.
func (w *world) kill(forgotten time.Duration) {
	w.rec.Fault(history.Kill, "")
	w.life++
	w.up = false
	saved := w.now.Add(-forgotten)
	for _, l := range w.lanes {
		for _, d := range l.pairs {
			if d.end.After(saved) && d.last.Code/100 == 2 {
				d.end = time.Time{}
			}
			if !d.end.IsZero() {
				continue
			}
			for len(d.attempts) > 0 && d.attempts[len(d.attempts)-1].After(saved) {
				d.attempts = d.attempts[:len(d.attempts)-1]
				d.due = w.now
			}
		}
	}
}

// send posts an event; some are refused, some get no answer.
func (w *world) send() {
	e := history.NewEvent(w.rng)
	s := w.rec.Send(shop, e)
	kind := w.rng.IntN(20)
	w.always(2*time.Millisecond, func() {
		switch {
		case !w.up:
			s.Answer(history.Answer{})
		case kind == 0:
			s.Answer(history.Answer{Code: 429, RetryAfter: time.Second})
		case kind == 1:
			s.Answer(history.Answer{Code: 500})
			if w.rng.IntN(2) == 0 {
				w.store(e)
			}
		default:
			w.store(e)
			s.Answer(history.Answer{Code: 202, Stored: fmt.Sprintf("0-%d", len(w.kept))})
		}
	})
}

func (w *world) store(e history.Event) {
	w.kept = append(w.kept, e)
	for _, l := range w.lanes {
		if l.wants(e) {
			w.offer(l, e)
		}
	}
}

func (w *world) offer(l *lane, e history.Event) {
	d := &delivery{event: e}
	l.pairs[e.ID()] = d
	if !w.behind(l, d) {
		w.at(time.Millisecond, func() { w.attempt(l, d) })
	}
}

// behind reports whether an ordered trigger has an event of the same key to
// end first.
func (w *world) behind(l *lane, d *delivery) bool {
	key := d.event.Attrs["subject"]
	if !l.conf.Ordered || key == "" {
		return false
	}
	for _, e := range w.kept {
		if e.ID() == d.event.ID() {
			break
		}
		if before := l.pairs[e.ID()]; e.Attrs["subject"] == key && before != nil && before.end.IsZero() {
			return true
		}
	}
	return false
}

// next begins with the event of the same key that waited for one which has ended.
func (w *world) next(l *lane, ended *delivery) {
	key := ended.event.Attrs["subject"]
	if !l.conf.Ordered || key == "" {
		return
	}
	for _, e := range w.kept {
		if d := l.pairs[e.ID()]; e.Attrs["subject"] == key && d != nil && d.end.IsZero() {
			w.at(0, func() { w.attempt(l, d) })
			return
		}
	}
}

func (w *world) attempt(l *lane, d *delivery) {
	got := d.event.With("knativearrivaltime", "2026-01-01T00:00:00Z")
	receipt := w.rec.Receipt(l.conf.Name, got)
	w.at(l.takes, func() {
		a := l.answer(d.event, w.rng)
		receipt.Answer(a)
		d.attempts = append(d.attempts, w.now)
		d.last = a
		if a.Code/100 == 2 {
			l.final.Delivered++
			d.end = w.now
			w.next(l, d)
			return
		}
		var err error = &deliver.Error{Status: a.Code, RetryAfter: a.RetryAfter}
		wait, again := l.conf.Policy.Next(len(d.attempts), err, w.rng.Float64())
		if !again {
			l.final.Dead++
			d.end = w.now
			w.next(l, d)
			return
		}
		d.due = w.now.Add(wait)
		w.at(wait, func() { w.attempt(l, d) })
	})
}

// finish says what the broker shows in the end, and returns the history.
func (w *world) finish() []byte {
	for _, l := range w.lanes {
		for _, d := range l.pairs {
			if !d.end.IsZero() && d.last.Code/100 != 2 {
				w.rec.Dead(l.conf.Name, d.event.ID(), history.Dead{Attempts: len(d.attempts), Code: d.last.Code, Reason: fmt.Sprintf("status %d", d.last.Code)})
			}
		}
		w.rec.Final(l.conf.Name, l.final)
	}
	if err := w.rec.Close(); err != nil {
		w.t.Fatal(err)
	}
	return w.out.Bytes()
}

// generate makes the history of a run with so many crashes.
func generate(t testing.TB, rng *rand.Rand, events, crashes int) []byte {
	w := newWorld(t, rng)
	w.routes()
	w.start()
	for n := range events {
		w.always(time.Duration(n)*7*time.Millisecond, w.send)
	}
	span := time.Duration(events) * 7 * time.Millisecond
	for n := range crashes {
		at := span * time.Duration(n+1) / time.Duration(crashes+1)
		w.always(at, func() { w.kill(time.Duration(rng.Int64N(int64(90 * time.Millisecond)))) })
		w.always(at+span/time.Duration(3*(crashes+1)), w.start)
	}
	w.run()
	return w.finish()
}
