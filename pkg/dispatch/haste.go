package dispatch

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fastAnswer is below which answers are there sooner than more attempts at
	// once would be of use.
	fastAnswer = 5 * time.Millisecond

	// ownDelay is how many times the wait for a processor an answer may take and
	// still be fast: on a busy machine most of it is our own doing.
	ownDelay = 8

	// hastePerProcessor and leastHaste are how many attempts all fast lanes have
	// in flight together. Each has at least one.
	hastePerProcessor = 16
	leastHaste        = 64

	// hasteWait is after how long at least without an answer, though with
	// lateAnswers times the usual, a lane gets more in flight than its share: one
	// more, then two, and so on.
	hasteWait   = 10 * time.Millisecond
	lateAnswers = 8

	// firstWait is the least before a subscriber has answered at all.
	firstWait = 50 * time.Millisecond

	// hasteEpoch is over how long the soonest answer counts, up to twice.
	hasteEpoch = time.Second

	// hasteShare is the part of the average that one answer makes up.
	hasteShare = 8

	// delayEvery is how often the wait for a processor is looked at.
	delayEvery = 100 * time.Millisecond
)

// haste keeps lanes whose subscribers answer fast out of each other's way. More
// attempts at once than the processors can serve are no faster: each takes
// longer for it, and a hundred triggers that want the same events would have
// thousands of connections open. So such lanes share what is in flight. A lane
// whose subscriber takes its time has as many as it may have, and so has one
// whose Trigger or Broker says how many it wants.
//
// It is a value that the lane's mutex guards.
type haste struct {
	took      time.Duration // average; 0: there was no answer yet
	low, last time.Duration // soonest answer of this epoch and the one before; 0 for none
	since     time.Time     // of the epoch
	landed    uint64        // attempts that have ended
	mark      uint64        // landed when the lane began to wait
	due       time.Time     // when it has waited for long enough; zero: it does not wait
	extra     int           // in flight beyond the share
}

// answered learns from an attempt. One that failed says nothing of the next.
func (h *haste) answered(took time.Duration, err error, now time.Time) {
	h.extra = 0
	if err != nil {
		return
	}
	took = max(took, 1)
	if now.Sub(h.since) >= hasteEpoch {
		h.since, h.last, h.low = now, h.low, took
	}
	h.low = min(h.low, took)
	if h.took == 0 {
		h.took = took
	}
	h.took = max(1, h.took+(took-h.took)/hasteShare)
}

// soonest is how fast the subscriber can be; 0 where nobody knows.
func (h *haste) soonest() time.Duration {
	if h.last > 0 {
		return min(h.low, h.last)
	}
	return h.low
}

// delay is the dispatcher's view of how busy the machine is.
type delay struct {
	at  atomic.Int64 // when it was looked at
	now atomic.Int64 // nanoseconds
}

// look looks again if it is time to.
func (d *Dispatcher) look(now time.Time) {
	last := d.queue.at.Load()
	if d.opts.Delay != nil && now.UnixNano()-last >= int64(delayEvery) && d.queue.at.CompareAndSwap(last, now.UnixNano()) {
		d.queue.now.Store(int64(d.opts.Delay()))
	}
}

// hasty is how many of n attempts may begin as far as haste goes. Where it is
// none, what waits does so until an answer comes, or none for a while. The
// caller holds the mutex.
func (l *lane) hasty(n int) int {
	h, d := &l.haste, l.broker.d
	own := ownDelay * time.Duration(d.queue.now.Load())
	if n == 0 || l.conf.asked || h.soonest() >= max(fastAnswer, own) {
		return n
	}
	lanes := max(1, int(d.busy.Load()))
	share := max(1, d.haste/lanes)
	inflight := l.inflight
	if l.pace != nil {
		inflight = l.pace.inflight // without those of the dead letter sink
	}
	if n = min(n, share+h.extra-inflight); n > 0 {
		return n
	}
	if h.due.IsZero() {
		now, wait := time.Now(), max(hasteWait, lateAnswers*h.took, own)
		if h.took == 0 {
			wait = max(firstWait, own)
		}
		h.mark, h.due = h.landed, now.Add(wait)
		d.look(now)
		d.patience.add(l)
	}
	return 0
}

// patience looks after the lanes that wait for an answer, with one timer for
// all: they may be many.
type patience struct {
	mu    sync.Mutex
	lanes []*lane
	spare []*lane
	timer *time.Timer
	set   bool
	ended bool
}

func (p *patience) add(l *lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lanes = append(p.lanes, l)
	p.arm()
}

func (p *patience) arm() {
	switch {
	case p.set || p.ended || len(p.lanes) == 0:
		return
	case p.timer == nil:
		p.timer = time.AfterFunc(hasteWait, p.end)
	default:
		p.timer.Reset(hasteWait)
	}
	p.set = true
}

// end is the timer's call.
func (p *patience) end() {
	now := time.Now()
	p.mu.Lock()
	lanes := p.lanes
	p.lanes, p.spare, p.set = p.spare[:0], nil, false
	p.mu.Unlock()
	for i, l := range lanes {
		if !l.hurry(now) {
			p.add(l)
		}
		lanes[i] = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spare = lanes
	p.arm()
}

// stop ends the timer for good.
func (p *patience) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended = true; p.timer != nil {
		p.timer.Stop()
	}
}

// hurry lets more of what waits begin where no answer has come for too long.
// It reports whether the lane has waited to the end.
func (l *lane) hurry(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.haste
	if now.Before(h.due) && h.landed == h.mark && !l.stopped {
		return false
	}
	h.due = time.Time{}
	if l.stopped || l.ready.len()+l.due.len() == 0 && !l.lagging() {
		return true
	}
	if h.landed == h.mark {
		h.extra = min(2*h.extra+1, l.conf.concurrency)
		l.kick()
	}
	l.room() // begins to wait again, if need be
	return true
}
