package rerun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// workers is how many events of a job are tried at once, if the lane allows.
	workers = 64

	// queued is how many events wait for one worker, because of their key. When
	// it is full the job goes no further until that worker has done one.
	queued = 2

	// window is how far a job runs ahead of the first event that is not done with.
	window = 4096

	// heldBytes bounds the events that are on their way, if there is more than one.
	heldBytes = 32 << 20

	// discardAtOnce bounds the dead letters that one call discards.
	discardAtOnce = 256

	// saveEvery is how often it is written down how far a job has come.
	saveEvery = time.Second

	// storeWait is how long a log that refuses is given before it is asked again.
	storeWait = time.Second

	maxFailures = 20
	maxGaps     = 20
)

// entry is one event on its way through a job, or a step past one that is not meant.
type entry struct {
	id       channel.ID
	event    event.Event
	accepted time.Time
	number   uint64 // of a dead letter
	meant    bool
	gap      bool   // cannot be read
	seen     uint64 // how much of the total it is
	name     string // the event's id, once it has failed

	// advance moves the job's place past this entry. It is called in order.
	advance func(r *record)

	size    int64
	outcome dispatch.Outcome
	err     error // nothing is known of it: it is not done with
	done    bool
}

// carryOut does the work of a job until it is done, cannot go on, or ctx ends.
func (m *Manager) carryOut(ctx context.Context, j *job) error {
	if err := m.await(ctx, j); err != nil {
		return err
	}
	f := &flow{
		m: m, j: j,
		order: make(chan *entry, window), finished: make(chan *entry, window),
		room: make(chan struct{}, window), freed: make(chan struct{}, 1),
		any: make(chan *entry), limit: limiter(j.rec.Rate),
	}
	return f.run(ctx)
}

// await waits until the Broker's log is open and the Trigger is known.
func (m *Manager) await(ctx context.Context, j *job) error {
	for {
		if err := m.still(&j.rec); err != nil {
			return err
		}
		_, open := m.o.Log(j.rec.BrokerUID)
		if open && (j.rec.Kind == v1.JobDiscard || j.rec.Kind == v1.JobRedrive || m.trigger(j.rec.TriggerUID) != nil) {
			return nil
		}
		if !pause(ctx, lookAgain) {
			return ctx.Err()
		}
	}
}

// flow is a job under way: a source that reads, workers that deliver, and one
// goroutine that keeps the books. Events of one key go to one worker.
type flow struct {
	m *Manager
	j *job

	order    chan *entry // as read
	finished chan *entry // in any order
	room     chan struct{}
	limit    *rate.Limiter // nil for none
	held     atomic.Int64
	freed    chan struct{}
	keyed    [workers]chan *entry
	any      chan *entry // without a key: whoever is free
}

func (f *flow) run(parent context.Context) error {
	ctx, cancel := context.WithCancel(parent)
	defer cancel()
	kind := f.j.rec.Kind
	var wg sync.WaitGroup
	for i := range f.keyed {
		f.keyed[i] = make(chan *entry, queued)
		wg.Go(func() { f.work(ctx, kind, f.keyed[i]) })
	}
	read := make(chan error, 1)
	go func() {
		err := f.m.source(ctx, f.j, func(e *entry) error { return f.send(ctx, kind, e) })
		for i := range f.keyed {
			close(f.keyed[i])
		}
		close(f.any)
		wg.Wait()
		close(f.finished)
		close(f.order)
		read <- err
	}()
	err := f.keep(ctx, cancel)
	return errors.Join(err, unless(err, <-read))
}

// unless is second where there is no first: what a first error cut short says nothing.
func unless(first, second error) error {
	if first != nil {
		return nil
	}
	return second
}

// send passes an entry on. It blocks while there is no room.
func (f *flow) send(ctx context.Context, kind string, e *entry) error {
	select {
	case f.room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	f.order <- e // as much room as there is in the window
	if !e.meant || kind == v1.JobDiscard {
		e.event = event.Event{}
		f.finished <- e
		return nil
	}
	if f.limit != nil {
		if err := f.limit.Wait(ctx); err != nil {
			e.err = err
			f.finished <- e
			return err
		}
	}
	e.size = int64(e.event.Size())
	for f.held.Load() > 0 && f.held.Load()+e.size > heldBytes {
		select {
		case <-f.freed:
		case <-ctx.Done():
			e.err = ctx.Err()
			f.finished <- e
			return e.err
		}
	}
	f.held.Add(e.size)
	to := f.any
	if key := keyOf(e.event); key != "" {
		to = f.keyed[hash(key)%workers]
	}
	select {
	case to <- e:
		return nil
	case <-ctx.Done():
		e.err = ctx.Err()
		f.finished <- e
		return e.err
	}
}

// keyOf is what events keep their order by.
func keyOf(e event.Event) string {
	if key := e.Text(event.ExtPartition); key != "" {
		return key
	}
	return e.Subject()
}

func hash(key string) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	return h
}

// work delivers, one event after the other, until there are no more.
func (f *flow) work(ctx context.Context, kind string, own chan *entry) {
	all := f.any
	for own != nil || all != nil {
		var e *entry
		var ok bool
		select {
		case e, ok = <-own:
			if !ok {
				own = nil
				continue
			}
		case e, ok = <-all:
			if !ok {
				all = nil
				continue
			}
		}
		if e.err = ctx.Err(); e.err == nil {
			e.outcome, e.err = f.m.o.Deliverer.Deliver(ctx, f.j.rec.TriggerUID, f.m.extra(&f.j.rec, e))
		}
		if e.outcome.End == dispatch.Failed {
			e.name = strings.Clone(e.event.ID())
		}
		e.event = event.Event{}
		f.held.Add(-e.size)
		select {
		case f.freed <- struct{}{}:
		default:
		}
		f.finished <- e
	}
}

// extra is an entry as dispatch wants it. It reads what does not change of a record.
func (m *Manager) extra(r *record, e *entry) dispatch.Extra {
	x := dispatch.Extra{Broker: r.BrokerUID, ID: e.id, Event: e.event, Accepted: e.accepted, To: r.Sink}
	switch r.Kind {
	case v1.JobRedrive:
		x.Mark = dispatch.Mark{Name: "penstockredrive", Value: r.ID}
	case v1.JobReplay:
		x.Mark = dispatch.Mark{Name: "penstockreplay", Value: r.ID}
	case v1.JobStart:
		x.Bury = true // it is the event's first delivery to this Trigger
	}
	return x
}

// keep keeps the books until all that was read is done with. An entry that is
// not ends the job: cancel stops the others, which are given the time they need.
func (f *flow) keep(ctx context.Context, cancel context.CancelFunc) error {
	var first error // why the job cannot go on
	fail := func(err error) {
		if first == nil && err != nil {
			first = err
			cancel()
		}
	}
	var pending []*entry // as read, from the first that is not done with
	order, finished := f.order, f.finished
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	var saved time.Time
	changed := false
	for order != nil || finished != nil {
		var batch []*entry
		select {
		case e, ok := <-order:
			if !ok {
				order = nil
				break
			}
			pending = append(pending, e)
		case e, ok := <-finished:
			if !ok {
				finished = nil
				break
			}
			batch = append(batch, e)
		case <-tick.C:
		}
		batch = f.more(finished, batch)
		if len(batch) > 0 {
			fail(f.settle(ctx, batch))
			changed = true
		}
		n := 0
		for n < len(pending) && pending[n].done {
			n++
		}
		if n > 0 {
			f.m.mu.Lock()
			for _, e := range pending[:n] {
				e.advance(&f.j.rec)
				f.j.rec.Seen += e.seen
			}
			f.m.mu.Unlock()
			clear(pending[:n])
			pending = pending[n:]
			for range n {
				<-f.room
			}
			changed = true
		}
		if changed && time.Since(saved) >= saveEvery {
			saved, changed = time.Now(), false
			f.save()
		}
	}
	return first
}

// more takes what else has finished by now.
func (f *flow) more(finished chan *entry, batch []*entry) []*entry {
	for len(batch) > 0 && len(batch) < discardAtOnce {
		select {
		case e, ok := <-finished:
			if !ok {
				return batch // the loop sees it again
			}
			batch = append(batch, e)
		default:
			return batch
		}
	}
	return batch
}

// save writes down how far the job has come. Where it cannot be written a crash
// would cost more duplicates, and nothing else.
func (f *flow) save() {
	f.m.mu.Lock()
	r := f.j.rec.clone()
	f.m.mu.Unlock()
	if err := f.m.store.save(&r); err != nil {
		f.m.log.Warn("progress of a job cannot be kept yet", "job", r.ID, "err", err)
	}
}

// settle counts what has finished, and discards the dead letters of it.
func (f *flow) settle(ctx context.Context, batch []*entry) error {
	r := &f.j.rec // Kind and uids never change
	var first error
	var numbers []uint64
	for _, e := range batch {
		switch {
		case e.err != nil:
			first = e.err
		case e.outcome.End == dispatch.Gone:
			e.err = fmt.Errorf("trigger %s is gone", r.Trigger)
			first = e.err
		case e.meant && (r.Kind == v1.JobDiscard || r.Kind == v1.JobRedrive && e.outcome.End == dispatch.Delivered):
			numbers = append(numbers, e.number)
		}
	}
	discarded := 0
	if len(numbers) > 0 {
		var err error
		if discarded, err = f.discard(ctx, numbers); err != nil {
			return fmt.Errorf("%d dead letters are dealt with and not discarded: %w", len(numbers)-discarded, err)
		}
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	r.Discarded += uint64(discarded)
	for _, e := range batch {
		if e.err != nil {
			continue
		}
		e.done = true
		switch {
		case !e.meant:
			if !e.gap {
				r.Skipped += e.seen
			}
			continue
		case e.outcome.End == dispatch.Delivered:
			r.Delivered++
		case e.outcome.End == dispatch.Failed:
			r.Failed++
			if len(r.Failures) < maxFailures {
				r.Failures = append(r.Failures, v1.JobFailure{ID: e.id.String(), EventID: e.name, Reason: e.outcome.String()})
			}
		}
		r.Matched++
	}
	return first
}

// discard removes dead letters for good. What was delivered should not be
// delivered once more: when the job ends meanwhile it is tried all the same.
func (f *flow) discard(ctx context.Context, numbers []uint64) (int, error) {
	log, open := f.m.o.Log(f.j.rec.BrokerUID)
	if !open {
		return 0, channel.ErrNoBroker
	}
	for total := 0; ; {
		n, err := log.DiscardDead(context.WithoutCancel(ctx), numbers)
		total += n
		if err == nil {
			return total, nil
		}
		var refused *channel.Refused
		if !errors.As(err, &refused) || errors.Is(err, channel.ErrClosed) || errors.Is(err, channel.ErrNoBroker) {
			return total, err
		}
		f.m.log.Warn("dead letters cannot be discarded yet", "job", f.j.rec.ID, "err", err)
		if !pause(ctx, max(storeWait, refused.RetryAfter)) {
			return total, err
		}
	}
}

// limiter spreads a job's events; nil for no limit.
func limiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), 1)
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
