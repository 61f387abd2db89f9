package remote

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// One request takes at most so many appends and events: well below what a
// Server refuses.
const (
	requestAppends = 1024
	requestEvents  = 16 << 10
)

// An owner that could not be reached is asked again after a tenth of a
// second, then twice as long each time, up to firstAgain << maxAgain. One that
// stops is asked after stopsFor: its successor has another address, mostly.
const (
	firstAgain = 100 * time.Millisecond
	maxAgain   = 4
	stopsFor   = 5 * time.Second
)

// maxSends is how often one append is sent to one owner where it is certain
// that nothing of it arrived.
const maxSends = 3

// item is one append, or the part of one that goes to one owner.
type item struct {
	uid    channel.UID
	events []event.Event
	size   int64 // in a request
	keyed  bool  // this owner or none
	done   chan struct{}

	// Of whoever has it: the queue's under Client.mu, then the worker's.
	in    *owner   // whose queue it stands in, nil for none
	gone  bool     // the caller does not want it sent any more
	sends int      // to this owner, of which it is certain that nothing arrived
	tried []*owner // that did not take it

	// The answer, the caller's once done has its token.
	ids []channel.Stored
	err error
}

// owner is one dispatcher as a Client knows it, with the appends that wait
// for it. All fields are Client.mu's but the first two.
type owner struct {
	c *Client
	Owner

	work    sync.Cond // there is something to look at
	queue   []*item
	queued  int64 // bytes in queue
	flying  int   // appends that have been taken and not answered
	limit   int64 // bytes of one request
	parted  bool  // not named any more
	started int   // workers that run
	links   int   // connections that their workers have open, as next last saw

	up       bool  // may be chosen
	draining bool  // has said that it stops
	why      error // where up is false
	failures int   // in a row
	again    *time.Timer
	ask      bool // say hello though nothing waits

	requests, asked uint64 // so far, and at the last beat
	answered        uint64 // requests with an answer that was none of a stop
	stats           OwnerStats
}

func newOwner(c *Client, who Owner) *owner {
	o := &owner{c: c, Owner: who, up: true, limit: c.o.MaxRequestBytes}
	o.work.L = &c.mu
	return o
}

// start is called with c.mu held.
func (o *owner) start() {
	o.ask = true // connect before the first event comes
	for range o.c.o.Conns {
		o.started++
		o.c.workers.Go(o.run)
	}
}

// part is called with c.mu held when the owner is named no longer.
func (o *owner) part() {
	o.parted = true
	if o.started > 0 {
		o.c.parting = append(o.c.parting, o)
	}
	o.wake()
}

// wake has every worker look again. It is called with c.mu held.
func (o *owner) wake() { o.work.Broadcast() }

// run is one worker: one connection's life.
func (o *owner) run() {
	l := &link{o: &o.c.o, address: o.Address}
	defer o.ended(l)
	var batch []*item
	for {
		var todo task
		batch, todo = o.next(l, batch[:0])
		switch todo {
		case connect:
			o.connect(l)
		case look:
			l.close()
		case send:
			o.exchange(l, batch)
			clear(batch)
		case end:
			return
		}
	}
}

func (o *owner) ended(l *link) {
	l.close()
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.count(l)
	if o.started--; o.started > 0 {
		return
	}
	if o.again != nil {
		o.again.Stop()
	}
	o.c.parting = slices.DeleteFunc(o.c.parting, func(p *owner) bool { return p == o })
}

// task is what a worker does next.
type task uint8

const (
	send    task = iota // what it has been given
	connect             // for something waits
	look                // close the connection
	end
)

// next waits until there is something to do. A batch has left the queue when
// it returns; without a connection nothing does.
func (o *owner) next(l *link, batch []*item) ([]*item, task) {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.count(l)
	for {
		over := o.parted || o.c.state == closed
		switch {
		case len(o.queue) > 0 && l.open():
			return o.take(batch), send
		case len(o.queue) > 0:
			return batch, connect
		case over:
			return batch, end
		case l.open() && (!o.up || time.Since(l.used) > maxIdle):
			return batch, look
		case o.ask && l.open():
			o.ask = false
			return batch, send
		case o.ask && o.links == 0:
			o.ask = false
			return batch, connect
		}
		o.work.Wait()
	}
}

// count keeps links true. It is called with c.mu held.
func (o *owner) count(l *link) {
	if l.open() != l.counted {
		l.counted = l.open()
		if l.counted {
			o.links++
		} else {
			o.links--
		}
	}
}

// take removes from the queue what goes in the next request. It is called
// with c.mu held.
func (o *owner) take(batch []*item) []*item {
	n, events, bytes := 0, 0, int64(0)
	for n < len(o.queue) && n < requestAppends {
		it := o.queue[n]
		if n > 0 && (bytes+it.size > o.limit || events+len(it.events) > requestEvents) {
			break
		}
		n, events, bytes = n+1, events+len(it.events), bytes+it.size
		it.in = nil
		batch = append(batch, it)
	}
	o.queue = slices.Delete(o.queue, 0, n)
	o.queued -= bytes
	o.flying += n
	return batch
}

// enter puts an append into the queue, false where it is full. It is called
// with c.mu held.
func (o *owner) enter(it *item) bool {
	if !o.room(1, it.size) {
		return false
	}
	it.in = o
	o.queue = append(o.queue, it)
	o.queued += it.size
	o.work.Signal()
	return true
}

// room reports whether so much more may wait. An append that is alone may be
// of any size.
func (o *owner) room(appends int, bytes int64) bool {
	return len(o.queue) == 0 || len(o.queue)+appends <= o.c.o.MaxQueue && o.queued+bytes <= o.c.o.MaxQueueBytes
}

// load is how much it has to do.
func (o *owner) load() int { return len(o.queue) + o.flying }

// leave takes an append out of the queue. It is called with c.mu held.
func (o *owner) leave(it *item) {
	if i := slices.Index(o.queue, it); i >= 0 {
		o.queue = slices.Delete(o.queue, i, i+1)
		o.queued -= it.size
		it.in = nil
	}
}

// connect opens the link, or tells those who wait that it cannot. Where others
// have been answered meanwhile the owner is well, and only this worker rests.
func (o *owner) connect(l *link) {
	o.c.mu.Lock()
	answered := o.answered
	o.c.mu.Unlock()
	// A link's life is its worker's, and this call's is bounded by DialTimeout.
	r := l.dial(context.Background())
	if r.status == http.StatusUnauthorized {
		r = l.dial(context.Background()) // perhaps with a newer token
	}
	o.c.mu.Lock()
	o.requests++
	rest := false
	switch {
	case l.open():
		o.ask = false
		o.well()
	case !r.draining && o.answered != answered:
		rest = true
	default:
		o.down(r)
	}
	o.c.mu.Unlock()
	if rest {
		select {
		case <-time.After(firstAgain):
		case <-o.c.stopping:
		}
	}
}

// well notes that the owner has answered. It is called with c.mu held.
func (o *owner) well() {
	o.answered++
	if !o.up {
		o.c.o.Logger.Info("dispatcher answers again", "owner", o.Ordinal, "address", o.Address)
	}
	o.up, o.draining, o.why, o.failures = true, false, nil, 0
}

// down takes the owner out of the choice until it answers again, and sees to
// those who wait. It is called with c.mu held.
func (o *owner) down(r reply) {
	refusal := r.refuse(o.Owner, &o.c.o)
	waits := firstAgain << min(o.failures, maxAgain)
	if r.draining {
		waits = stopsFor
	}
	if o.up || o.draining != r.draining {
		level, what := slog.LevelWarn, "dispatcher does not take events"
		if r.draining {
			level, what = slog.LevelInfo, "dispatcher stops"
		}
		o.c.o.Logger.LogAttrs(context.Background(), level, what, slog.Int("owner", o.Ordinal),
			slog.String("address", o.Address), slog.Any("error", r.err))
	}
	o.up, o.draining, o.why = false, r.draining, refusal
	o.failures++
	o.ask = false // not before again
	if o.again == nil {
		o.again = time.AfterFunc(waits, o.retry)
	} else {
		o.again.Reset(waits)
	}
	queue := o.queue
	o.queue, o.queued = nil, 0
	for _, it := range queue {
		it.in = nil
		o.elsewhere(it, refusal)
	}
	o.wake() // idle links are closed
}

func (o *owner) retry() {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	if o.c.state == running && !o.parted && !o.up {
		o.ask = true
		o.work.Signal()
	}
}
