package dispatch

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// What stands against a skip. The errors around them say more.
var (
	ErrNotOrdered = errors.New("it is not ordered: no event of it holds another")
	ErrNotBlocked = errors.New("it is not the first of a blocked key")
	ErrUnderWay   = errors.New("an attempt of it is under way: look again when that has ended")
)

// errSkipped is what an event dies of that a person has skipped.
var errSkipped = errors.New("skipped by an operator")

// Skip buries the event that a key of an ordered trigger waits for, as a dead
// letter that says so, and lets the key go on. When it returns nil the dead
// letter is stored. A dead letter sink gets it as it gets any other.
func (d *Dispatcher) Skip(ctx context.Context, trigger channel.UID, id channel.ID) error {
	l := d.find(trigger)
	if l == nil {
		return ErrNoLane
	}
	shard := slices.Index(l.broker.shards, id.Shard)
	if shard < 0 {
		return ErrNotBlocked
	}
	w, conf, err := l.take(shard, id.Position)
	if err != nil {
		return err
	}
	defer l.done()
	records, err := l.broker.log.Get(ctx, id.Shard, []channel.Position{id.Position}, nil)
	if err == nil && len(records) == 0 {
		err = errors.New("its event is not in the log")
	}
	if err != nil {
		l.putBack(w)
		return fmt.Errorf("read %s: %w", id, err)
	}
	it := w.item()
	it.accepted, it.event = records[0].Time, records[0].Event
	letter := l.letter(&it, &conf, errSkipped)
	if err := l.broker.log.AppendDead(ctx, []channel.DeadLetter{letter}); err != nil {
		l.putBack(w)
		return fmt.Errorf("store the dead letter: %w", err)
	}
	l.died(&letter)
	l.buried(&it)
	if conf.sink == nil {
		l.settle(&it)
	} else {
		it.attempts, it.failure, it.spared = 0, failureOf(&letter), time.Time{}
		l.again(&it, 0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kick()
	return nil
}

// take takes the first event of a blocked key out of those that wait. It
// counts as in flight from then on.
func (l *lane) take(shard int, pos channel.Position) (waiting, laneConf, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.order == nil:
		return waiting{}, laneConf{}, ErrNotOrdered
	case l.conf.subscriber == nil:
		return waiting{}, laneConf{}, ErrNoLane // its settings have yet to come
	}
	head := l.order.heads[place{shard, pos}]
	if head == nil {
		return waiting{}, laneConf{}, ErrNotBlocked
	}
	i := slices.IndexFunc(l.waiting, func(w waiting) bool { return w.shard == shard && w.pos == pos })
	if i < 0 {
		return waiting{}, laneConf{}, ErrUnderWay
	}
	l.depart()
	return heap.Remove(&l.waiting, i).(waiting), l.conf, nil
}

// putBack is for an event that could not be skipped.
func (l *lane) putBack(w waiting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pends(w.shard, w.pos) {
		return
	}
	l.waiting.push(w)
	l.arm()
}

// buried marks an event whose dead letter is stored. What stands behind it may
// go on: where the sink is in its way it is no longer.
func (l *lane) buried(it *item) {
	it.dead = true
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.order == nil {
		return
	}
	l.advance(it.shard, it.pos)
	l.arm() // this worker may have a slow sink before it
}

// reasonOf is what a dead letter gives as its reason.
func reasonOf(it *item, reason string) string {
	if it.held {
		return reason + " (last attempt: the circuit is open)"
	}
	return reason
}

// Blocked is a key of an ordered trigger that waits for its first event.
type Blocked struct {
	Key      string
	ID       channel.ID // of the event that is in its way
	Since    time.Time  // its first failure, or the restart after it
	Attempts int        // made so far
	Next     time.Time  // attempt
	Behind   uint64     // events that wait for it
}

// Blocked lists the blocked keys of a trigger, the longest blocked first, at most
// so many, and counts them all.
func (d *Dispatcher) Blocked(trigger channel.UID, limit int) (blocked []Blocked, total int, err error) {
	l := d.find(trigger)
	if l == nil {
		return nil, 0, ErrNoLane
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.order == nil {
		return nil, 0, ErrNotOrdered
	}
	blocked, total = l.blockedKeys(limit)
	return blocked, total, nil
}

// blockedKeys is Blocked under the mutex.
func (l *lane) blockedKeys(limit int) (blocked []Blocked, total int) {
	if l.order == nil {
		return nil, 0
	}
	// The map may be large and the lane waits: of those beyond the limit nothing is kept.
	longer := func(a, b *line) int {
		if c := a.since.Compare(b.since); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(a.head, b.head), cmp.Compare(a.at.shard, b.at.shard))
	}
	first := make([]*line, 0, limit+1)
	for _, head := range l.order.keys {
		if head.since.IsZero() {
			continue
		}
		total++
		if len(first) == limit && longer(head, first[limit-1]) > 0 {
			continue
		}
		at, _ := slices.BinarySearchFunc(first, head, longer)
		first = slices.Insert(first, at, head)
		first = first[:min(len(first), limit)]
	}
	for _, head := range first {
		blocked = append(blocked, Blocked{
			Key: head.at.key, ID: l.broker.id(head.at.shard, head.head), Since: head.since,
			Attempts: head.attempts, Next: head.next, Behind: head.behind.GetCardinality(),
		})
	}
	return blocked, total
}
