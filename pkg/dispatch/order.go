package dispatch

import (
	"container/heap"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// maxBehindKeys bounds the events that a lane knows to stand behind another of
	// their key. At the bound it takes up no further events, of whatever key, until
	// one of these has its turn: positions, 2 to 16 bytes each.
	maxBehindKeys = 1 << 22

	// maxKey is the longest key that is kept as it is.
	maxKey = 128
)

// order is what makes a lane ordered: the event of each key that is under way,
// and the positions of those behind it. How many keys there are is bounded by
// what else bounds the events a lane has taken up (readyItems, maxWaiting).
//
// All events of a key are taken to stand in one shard; keys of different
// shards are different keys.
type order struct {
	keys   map[keyPlace]*line
	heads  map[place]*line
	behind uint64 // positions in all lines

	// tried is the retry state of events that the lane has not reached: it takes
	// them in order of position after a restart, and looks it up then.
	tried map[place]waiting
}

type keyPlace struct {
	shard int
	key   string
}

// line is one key's events: the head is under way or waits for its next
// attempt, the others wait for the head.
type line struct {
	at     keyPlace
	head   channel.Position
	behind roaring64.Bitmap

	// Of the head, zero before its first failure. Both by the wall clock.
	since    time.Time // of the failure, or of the restart after it
	next     time.Time // attempt
	attempts int
}

func newOrder() *order {
	return &order{keys: make(map[keyPlace]*line), heads: make(map[place]*line), tried: make(map[place]waiting)}
}

// keyOf is the key that an event is ordered by, "" for none: partitionkey, else
// subject. A long one is known by its beginning and its hash.
func keyOf(e event.Event) string {
	key := e.Text(event.ExtPartition)
	if key == "" {
		key = e.Subject()
	}
	if len(key) > maxKey {
		sum := sha256.Sum256([]byte(key))
		key = key[:maxKey/2] + "..." + hex.EncodeToString(sum[:])
	}
	return key
}

// full reports whether the lane is to take up no more events.
func (o *order) full() bool { return o != nil && o.behind >= maxBehindKeys }

// admit takes up an event that comes in order of position. It reports whether
// that may go now; else it is noted and comes by itself.
func (o *order) admit(it *item) bool {
	key := keyOf(it.event)
	if key == "" {
		return true
	}
	at := keyPlace{it.shard, key}
	if l := o.keys[at]; l != nil {
		l.behind.Add(uint64(it.pos))
		o.behind++
		return false
	}
	at.key = strings.Clone(key) // the event's memory goes, the key stays
	l := &line{at: at, head: it.pos}
	o.keys[at], o.heads[place{it.shard, it.pos}] = l, l
	return true
}

// admit takes up an event that was read in order of position and queues it, or
// puts it back to wait where it has been tried before. The caller holds the
// mutex, here and below.
func (l *lane) admit(it item) {
	if !l.order.admit(&it) {
		return
	}
	at := place{it.shard, it.pos}
	w, tried := l.order.tried[at]
	if !tried {
		l.push(&l.ready, it)
		return
	}
	delete(l.order.tried, at)
	it.attempts, it.spared = w.attempts, w.spared
	if now := time.Now(); w.due.After(now) || l.circuit.open() {
		l.blocked(&it, w.due, now)
		l.holdBack(&w, it.accepted, now)
		l.waiting.push(w)
		l.arm()
		return
	}
	l.push(&l.ready, it)
}

// blocked notes that an event waits for its next attempt, and its key with it.
func (l *lane) blocked(it *item, due, now time.Time) {
	if l.order == nil {
		return
	}
	head := l.order.heads[place{it.shard, it.pos}]
	if head == nil {
		return
	}
	wall := l.broker.d.opts.Now()
	if head.since.IsZero() {
		head.since = wall
	}
	head.attempts, head.next = it.attempts, wall.Add(due.Sub(now))
}

// advance lets the next event of a key have its turn: the one at this position
// is delivered, dead, or gone.
func (l *lane) advance(shard int, pos channel.Position) {
	if l.order == nil {
		return
	}
	o, at := l.order, place{shard, pos}
	delete(o.tried, at)
	head := o.heads[at]
	if head == nil {
		return
	}
	delete(o.heads, at)
	if head.behind.IsEmpty() {
		delete(o.keys, head.at)
		return
	}
	next := place{shard, channel.Position(head.behind.Minimum())}
	head.behind.Remove(uint64(next.pos))
	o.behind--
	head.head, head.since, head.next, head.attempts = next.pos, time.Time{}, time.Time{}, 0
	o.heads[next] = head
	now := time.Now()
	w, tried := o.tried[next]
	if tried {
		delete(o.tried, next)
		if w.due.After(now) {
			l.blocked(&item{shard: shard, pos: next.pos, attempts: w.attempts}, w.due, now)
		}
	} else {
		w = waiting{shard: shard, pos: next.pos, due: now}
	}
	l.holdBack(&w, time.Time{}, now)
	l.waiting.push(w)
	if l.waiting[0].due.After(now) {
		l.arm() // else whoever settled its predecessor reads it
	}
}

// setOrder puts the order of the lane's settings in force. Where it is another
// than before, that is when nothing is under way any more: what is in flight
// may be of any key, and what comes after it must not overtake it.
func (l *lane) setOrder() {
	l.reorder = l.conf.deliverable && l.conf.ordered != (l.order != nil)
	if l.reorder && l.inflight == 0 && !l.reading {
		l.rebuild()
	}
}

// rebuild begins anew with all that is pending, in order of position. What has
// been tried keeps its count and its wait.
func (l *lane) rebuild() {
	var tried, dead []waiting
	keep := func(w waiting) {
		if !w.natural.IsZero() {
			w.due, w.natural = w.natural, time.Time{}
		}
		switch {
		case w.dead:
			dead = append(dead, w)
		case w.attempts > 0 || !w.spared.IsZero():
			tried = append(tried, w)
		}
	}
	for _, w := range l.waiting {
		keep(w)
	}
	if l.order != nil {
		for _, w := range l.order.tried {
			keep(w)
		}
	}
	now := time.Now()
	for _, queue := range []*ring{&l.ready, &l.due, &l.sinks} {
		for queue.len() > 0 {
			it := l.pop(queue)
			keep(waiting{shard: it.shard, pos: it.pos, attempts: it.attempts, dead: it.dead, failure: it.failure, spared: it.spared, due: now})
		}
	}
	l.reorder, l.order, l.waiting = false, nil, dead
	if l.conf.ordered {
		l.order = newOrder()
	}
	for i := range l.shards {
		s := &l.shards[i]
		s.taken, s.stuck, s.behind = 0, time.Time{}, !s.pending.IsEmpty()
		s.recovered.Clear()
	}
	for _, w := range dead {
		l.in(w.shard).recovered.Add(uint64(w.pos))
	}
	for _, w := range tried {
		if l.order != nil {
			l.order.tried[place{w.shard, w.pos}] = w
			continue
		}
		l.in(w.shard).recovered.Add(uint64(w.pos))
		l.holdBack(&w, time.Time{}, now)
		l.waiting = append(l.waiting, w)
	}
	heap.Init(&l.waiting)
}
