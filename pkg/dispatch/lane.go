package dispatch

import (
	"container/heap"
	"sync"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Bounds of a lane. What happens when one is reached stands beside it.
const (
	// readyItems and readyBytes bound the events a lane holds in memory ahead of
	// its workers. Beyond them it falls behind: it notes positions only and reads
	// the events again when their turn comes.
	readyItems = 256
	readyBytes = 1 << 20

	// maxWaiting bounds the events that wait for their next attempt. At the
	// bound a lane starts no new event until one of these is settled.
	maxWaiting = 1 << 16

	// dueAtOnce bounds how many events a lane reads again in one go.
	dueAtOnce = 64

	// behindAtOnce bounds how many events a lane that has fallen behind reads in
	// one go, and fewAtOnce where their bytes would only lie in memory: its
	// subscriber is down, or all lanes together hold a good part of MaxHeldBytes.
	behindAtOnce = readyItems / 4
	fewAtOnce    = 16
)

// item is one event on its way to one trigger.
type item struct {
	shard    int // index into the broker's shards
	pos      channel.Position
	attempts int              // made so far
	dead     bool             // the dead letter is stored, the sink has yet to take it
	failure  *deliver.Failure // what it died of; nil after a restart
	spared   time.Time        // its first attempt that was not counted; zero for none, and after a restart
	ticket   ticket           // of the attempt under way
	held     bool             // a circuit held it, and this was its last attempt
	chosen   bool             // was read to probe
	accepted time.Time
	event    event.Event
}

// lane is one trigger's way out of this process: what it has pending, what is
// ready to go, what waits for another attempt. The mutex is held for queue
// work only, never across a read of the log or an HTTP call.
type lane struct {
	broker  *broker
	uid     channel.UID
	name    string // namespace/name
	metrics *telemetry.Lane
	journal *journal.Trigger // nil: nobody wants to know
	ages    ages

	shown atomic.Pointer[laneConf] // conf, for those who do not hold the mutex

	mu       sync.Mutex
	conf     laneConf    // put changes it
	shards   []laneShard // nil until something becomes pending: of many triggers most are idle
	ready    ring        // first attempts
	due      ring        // further attempts whose wait is over: they go first
	sinks    ring        // those for the dead letter sink: neither pace nor circuit is theirs
	waiting  retryHeap
	timer    *time.Timer   // fires when the first of waiting is due
	reading  bool          // one worker is reading events again
	pace     *pace         // nil: the lane is steady
	limit    *rate.Limiter // of attempts of the subscriber; nil for none
	circuit  circuit
	longest  time.Duration // for which an open circuit may hold an event
	haste    haste
	order    *order      // nil: the lane is not ordered
	reorder  bool        // the lane becomes ordered, or no longer is, once nothing is in flight
	pause    *pause      // that a person asked for; nil for none
	resume   *time.Timer // fires when something may begin without an answer that comes first
	inflight int
	workers  int             // and the places that extras have or claim
	extras   extras          // events delivered beside the lane
	parked   []chan struct{} // idle workers, last parked first woken
	waking   int             // workers that were woken and have not looked yet
	unused   int             // of them, how many have been parked since releaseIdle looked
	stopped  bool
	clamped  bool // waits from before the restart have been looked at
	cleared  bool // the trigger is gone: nothing is pending any more

	incidents incidents

	dirty atomic.Bool // has changes that SaveProgress has not seen
}

// laneShard is a lane's state in one shard.
type laneShard struct {
	pending channel.Positions                  // matched and not in a final state
	added   channel.Positions                  // became pending since the last flush
	settled channel.Positions                  // was pending at the last flush and is no more
	retried map[channel.Position]channel.Retry // retry state since the last flush

	// taken is the last position that went on to ready or waiting. Pending
	// positions above it are those the lane has fallen behind on.
	taken  channel.Position
	behind bool

	// stuck is until when an ordered lane takes up no more, because it could not
	// read what comes next and must not pass it over.
	stuck time.Time

	// heldUntil is the latest deadline of the events taken up while the circuit is
	// open. Those behind them came later and so may not go before: they stay in
	// the log unread until then.
	heldUntil time.Time

	// recovered are positions that wait for a retry since before the restart, or
	// since the lane's order changed: catching up must not take them a second time.
	recovered roaring64.Bitmap

	// known are positions from before the restart that the scanner is yet to
	// come by: they are pending, or were settled in the meantime.
	known roaring64.Bitmap
}

// ages remembers when each shard's oldest pending event was accepted.
type ages struct {
	mu    sync.Mutex
	known map[int]aged // by shard
}

type aged struct {
	pos channel.Position
	at  time.Time
}

func newLane(b *broker, uid channel.UID, name string) *lane {
	l := &lane{broker: b, uid: uid, name: name, metrics: b.d.opts.Metrics.Lane(b.name, name), journal: b.journal.Trigger(uid, name)}
	l.put(laneConf{})
	l.pause = b.d.pauseOf(uid)
	l.timer, l.resume = time.AfterFunc(time.Hour, l.wake), time.AfterFunc(time.Hour, l.wake)
	l.timer.Stop()
	l.resume.Stop()
	return l
}

// in is the lane's state in one shard. The caller holds the mutex.
func (l *lane) in(shard int) *laneShard {
	if l.shards == nil {
		l.shards = make([]laneShard, len(l.broker.shards))
	}
	return &l.shards[shard]
}

// pends reports whether an event is pending. The caller holds the mutex.
func (l *lane) pends(shard int, pos channel.Position) bool {
	return l.shards != nil && l.shards[shard].pending.Contains(pos)
}

// restore takes over what the log knows of a shard's progress.
func (l *lane) restore(shard int, scanned channel.Position, p channel.Resumed) {
	if p.Positions.IsEmpty() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.in(shard)
	s.pending = p.Positions
	for known := scanned; ; { // few if any: what died before it was scanned
		some := s.pending.Next(max(known, 1)-1, dueAtOnce, nil)
		if len(some) == 0 {
			break
		}
		for _, pos := range some {
			s.known.Add(uint64(pos))
		}
		known = some[len(some)-1] + 1
	}
	for _, r := range p.Retries {
		if !s.pending.Contains(r.Position) {
			continue
		}
		if r.Dead && r.NotBefore.IsZero() {
			r.Attempts = 0 // the log marked it: these were the subscriber's, the sink has its own
		}
		s.recovered.Add(uint64(r.Position))
		l.waiting.push(waiting{shard: shard, pos: r.Position, attempts: r.Attempts, dead: r.Dead, due: l.remaining(r.NotBefore)})
	}
	s.behind = !s.pending.IsEmpty()
}

// remaining takes a wall time from before the restart for what was left to
// wait, and reckons from now on with the clock that nobody sets. How much of
// it the policy allows, clamp sees to.
func (l *lane) remaining(notBefore time.Time) time.Time {
	now := time.Now()
	if notBefore.IsZero() {
		return now
	}
	return now.Add(max(0, notBefore.Sub(l.broker.d.opts.Now())))
}

// offer makes a matched event pending and, if the lane keeps up, ready.
// The shard's scanner calls it, in order of position.
func (l *lane) offer(shard int, r *channel.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.in(shard)
	if l.cleared || !s.known.IsEmpty() && s.known.CheckedRemove(uint64(r.Position)) || !s.pending.Add(r.Position) {
		return
	}
	s.added.Add(r.Position)
	l.touch()
	if s.behind || l.stopped || l.still() || l.order.full() || !l.fits(r.Event.Size()) {
		s.behind = true
		// What was dead before the restart may lie beyond what was scanned.
		s.taken = min(s.taken, r.Position-1)
		return
	}
	s.taken = r.Position
	it := item{shard: shard, pos: r.Position, accepted: r.Time, event: r.Event}
	if l.order != nil && !l.order.admit(&it) {
		return
	}
	l.push(&l.ready, it)
	if l.room() > l.waking {
		l.wakeOne()
	}
}

// fits reports whether one more event of this size may be held in memory.
func (l *lane) fits(size int) bool {
	if l.ready.len() == 0 {
		return true // a lane always moves, whatever others hold
	}
	if l.circuit.open() && l.order == nil {
		return false // one for the probe will do, the others only wait
	}
	return l.ready.len() < readyItems && l.ready.bytes+size <= readyBytes &&
		l.broker.d.held.Load()+int64(size) <= l.broker.d.opts.MaxHeldBytes
}

func (l *lane) push(to *ring, it item) {
	to.push(it)
	l.broker.d.held.Add(int64(it.event.Size()))
}

func (l *lane) pop(from *ring) (it item) {
	l.popInto(&it, from)
	return it
}

func (l *lane) popInto(it *item, from *ring) {
	from.pop(it)
	l.broker.d.held.Add(-int64(it.event.Size()))
}

// settle is the end of an event for this trigger. Callers have made durable
// whatever must outlive it: the reply, the dead letter.
func (l *lane) settle(it *item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settlePosition(it.shard, it.pos, it.dead)
}

// settlePosition takes a position out of the lane, and out of the log where
// the log knows of it: by an earlier flush, or (known) by its dead letter.
func (l *lane) settlePosition(shard int, pos channel.Position, known bool) {
	s := l.in(shard)
	if !s.pending.Remove(pos) && !known {
		return
	}
	delete(s.retried, pos)
	l.advance(shard, pos)
	// An event that came and went between two flushes never reaches the log.
	if !s.added.Remove(pos) || known {
		s.settled.Add(pos)
	}
	l.touch()
}

// holds reports whether the event is pending still; it is not once the
// trigger is gone.
func (l *lane) holds(it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pends(it.shard, it.pos)
}

// again puts an event back to wait for its next attempt. It holds no slot
// and no memory but its position while it waits.
func (l *lane) again(it *item, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pends(it.shard, it.pos) {
		return // cancelled meanwhile
	}
	l.note(it, l.broker.d.opts.Now().Add(wait))
	now := time.Now()
	w := waiting{shard: it.shard, pos: it.pos, attempts: it.attempts, dead: it.dead, failure: it.failure, spared: it.spared, due: now.Add(wait)}
	if !it.dead {
		l.blocked(it, w.due, now)
	}
	l.holdBack(&w, it.accepted, now)
	l.waiting.push(w)
	l.arm()
}

// note records the retry state for the next flush, so that attempt counts
// survive a restart.
func (l *lane) note(it *item, notBefore time.Time) {
	s := l.in(it.shard)
	if s.retried == nil {
		s.retried = make(map[channel.Position]channel.Retry)
	}
	s.retried[it.pos] = channel.Retry{Position: it.pos, Attempts: it.attempts, NotBefore: notBefore, Dead: it.dead}
	l.touch()
}

// arm sets the timer to the first waiting event. The caller holds the mutex.
func (l *lane) arm() {
	if l.stopped || len(l.waiting) == 0 || l.still() {
		l.timer.Stop()
		return
	}
	l.timer.Reset(max(0, time.Until(l.waiting[0].due)))
}

// settings are the delivery settings in force.
func (l *lane) settings() laneConf { return *l.shown.Load() }

// put puts settings in force. The caller holds the mutex.
func (l *lane) put(conf laneConf) {
	l.conf = conf
	l.shown.Store(&conf)
}

// hold keeps everything pending and delivers nothing until configure says
// otherwise.
func (l *lane) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	conf := l.conf
	conf.deliverable = false
	l.put(conf)
	l.timer.Stop()
}

// touch puts the lane on the list of the next flush.
func (l *lane) touch() {
	if !l.dirty.Swap(true) {
		l.broker.touched(l)
	}
}

// configure puts new subscriber and delivery settings in force for all
// attempts from now on.
func (l *lane) configure(conf laneConf) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if conf.deliverable { // else nothing is known of the subscriber
		l.setPace(&conf)
	}
	l.put(conf)
	if conf.deliverable && !l.clamped { // a trigger that is held has no policy to go by
		l.clamped = true
		l.clamp(time.Now())
	}
	l.setOrder()
	if l.still() {
		l.rest()
	}
	l.arm()
	for range min(conf.concurrency, l.backlogLocked()) {
		l.wakeOne()
	}
	l.extras.callAll()
}

// clamp sees to it that a wall clock which jumped while the process was away
// keeps no event waiting for longer than its policy could.
func (l *lane) clamp(now time.Time) {
	latest := now.Add(l.conf.policy.LongestWait())
	for i := range l.waiting {
		if l.waiting[i].due.After(latest) {
			l.waiting[i].due = latest
		}
	}
	heap.Init(&l.waiting)
}

// cancel ends everything pending because the trigger is gone. Attempts in
// flight run to their end, which then changes nothing.
func (l *lane) cancel() (cancelled uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.shards {
		s := &l.shards[i]
		cancelled += s.pending.Len()
		s.settled.AddAll(s.pending.Take())
		s.added.Clear()
		s.retried, s.behind = nil, false
	}
	for _, queue := range []*ring{&l.ready, &l.due, &l.sinks} {
		for queue.len() > 0 {
			l.pop(queue)
		}
	}
	l.waiting, l.order, l.reorder = nil, nil, false
	l.cleared = true
	l.halt()
	l.touch()
	l.metrics.Count(telemetry.Cancelled, cancelled)
	l.metrics.Close()
	return cancelled
}

// stop ends the lane's workers once their attempts have ended.
func (l *lane) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halt()
}

func (l *lane) halt() {
	l.stopped = true
	l.extras.callAll()
	l.timer.Stop()
	l.resume.Stop()
	l.release()
}

// collect takes the changes since the last flush, per shard index.
func (l *lane) collect(into []channel.ShardProgress) {
	l.dirty.Store(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.shards {
		s := &l.shards[i]
		if s.added.IsEmpty() && s.settled.IsEmpty() && len(s.retried) == 0 {
			continue
		}
		change := channel.LaneProgress{Trigger: l.uid}
		if !s.added.IsEmpty() {
			change.Added = s.added.Take()
		}
		if !s.settled.IsEmpty() {
			change.Settled = s.settled.Take()
		}
		for _, r := range s.retried {
			change.Retries = append(change.Retries, r)
		}
		s.retried = nil
		into[i].Lanes = append(into[i].Lanes, change)
	}
}

// backlogLocked counts what is pending. The caller holds the mutex.
func (l *lane) backlogLocked() int {
	n := 0
	for i := range l.shards {
		n += int(l.shards[i].pending.Len())
	}
	return n
}
