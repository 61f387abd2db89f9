package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// broker is one broker's part of the log.
type broker struct {
	log *Log
	ids []channel.ShardID // never changed

	mu       sync.Mutex
	info     channel.BrokerInfo
	ended    error // why nothing is answered any more: closed or removed
	shards   []*shard
	turn     uint64 // of the requests, for events without a key
	receipts channel.Receipts
	follower atomic.Pointer[func(channel.ShardID, int)]
	used     int64 // bytes charged, dead letters included
	retained int64 // of these, bytes of settled events
	routes   channel.RouteTable
	dead     graveyard
}

func newBroker(l *Log, info channel.BrokerInfo) *broker {
	b := &broker{log: l, info: info}
	for i := range info.Shards {
		id := channel.ShardID(i)
		b.ids = append(b.ids, id)
		b.shards = append(b.shards, &shard{id: id, next: 1, lanes: map[channel.UID]*channel.Pending{}})
	}
	return b
}

// name is what people know the broker by.
func (b *broker) name() string { return cmp.Or(b.info.Name, string(b.info.UID)) }

// Info implements channel.BrokerLog.
func (b *broker) Info() channel.BrokerInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.info
}

// Shards implements channel.BrokerLog.
func (b *broker) Shards() []channel.ShardID { return slices.Clone(b.ids) }

// Stats implements channel.BrokerLog.
func (b *broker) Stats() channel.Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	bound := b.bound()
	return channel.Stats{Bytes: b.used, DeadBytes: b.dead.bytes, MaxBytes: bound, DeadReserve: bound - eventRoom(bound)}
}

// Gaps implements channel.BrokerLog: memory loses all or nothing.
func (b *broker) Gaps() []channel.Gap { return nil }

// configure takes new settings for a broker that exists.
func (b *broker) configure(info channel.BrokerInfo) {
	b.mu.Lock()
	defer b.mu.Unlock()
	info.Shards = b.info.Shards
	b.info = info
	b.applyRetention()
}

// end has all calls answer with reason from now on, wakes the reads that
// wait, and counts the events that were not delivered.
func (b *broker) end(reason error) (undelivered int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = reason
	for _, s := range b.shards {
		s.announce()
		for _, g := range s.segments {
			undelivered += g.kept - g.settled
		}
	}
	return undelivered
}

// release gives all memory back.
func (b *broker) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.shards {
		s.segments, s.lanes, s.touched, s.holds = nil, nil, nil, 0
	}
	b.routes, b.dead = channel.RouteTable{}, graveyard{}
	b.charge(-b.used)
	b.retained = 0
}

// shard finds a shard that is declared here.
func (b *broker) shard(id channel.ShardID) (*shard, error) {
	if int64(id) < int64(len(b.shards)) {
		return b.shards[id], nil
	}
	return nil, fmt.Errorf("broker %s has no shard %d", b.name(), id)
}

// Append implements channel.Appender.
func (l *Log) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if err := l.wait(ctx); err != nil {
		return nil, &channel.Refused{Err: fmt.Errorf("%w: not started: %w", channel.ErrUnavailable, err), RetryAfter: retryAfter}
	}
	b := (*l.brokers.Load())[uid]
	if b == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			return nil, refuse(channel.ErrClosed)
		}
		return nil, refuse(channel.ErrNoBroker)
	}
	ids, err := b.append(events)
	if follow := b.follower.Load(); follow != nil && err == nil && len(ids) > 0 {
		b.tell(*follow, ids)
	}
	return ids, err
}

// tell names each shard once that has got something.
func (b *broker) tell(follow func(channel.ShardID, int), ids []channel.Stored) {
	if len(ids) == 1 {
		follow(ids[0].Shard, 1)
		return
	}
	counts := make([]int, len(b.shards))
	for _, id := range ids {
		counts[id.Shard]++
	}
	for shard, n := range counts {
		if n > 0 {
			follow(channel.ShardID(shard), n)
		}
	}
}

// Follow implements channel.Reader.
func (b *broker) Follow(f func(channel.ShardID, int)) { b.follower.Store(&f) }

// append stores the events of one request.
func (b *broker) append(events []event.Event) ([]channel.Stored, error) {
	if len(events) == 0 {
		return nil, nil
	}
	need := int64(0)
	for _, e := range events {
		need += int64(e.Size() + indexBytes)
	}
	nanos := b.log.now().UnixNano()

	b.mu.Lock()
	if err := b.admit(need, true); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	defer b.mu.Unlock()
	ids := b.receipts.Take(len(events))
	turn := b.turn
	b.turn++
	for i, e := range events {
		s := b.shards[channel.Place(e, b.ids, b.info.Keying, turn)]
		ids[i].ID = channel.ID{Shard: s.id, Position: s.next}
		if won := s.add(e, nanos); won > 0 {
			b.charge(-int64(won))
		}
	}
	for _, id := range ids {
		b.shards[id.Shard].announce()
	}
	return ids, nil
}

// refuse turns a reason into a refusal that says when to try again.
func refuse(reason error) error {
	switch {
	case errors.Is(reason, channel.ErrClosed):
		reason = fmt.Errorf("%w: %w", channel.ErrUnavailable, reason)
	case errors.Is(reason, channel.ErrNoBroker), errors.Is(reason, channel.ErrTooLarge):
		return &channel.Refused{Err: reason}
	}
	return &channel.Refused{Err: reason, RetryAfter: retryAfter}
}

// Read implements channel.Reader.
func (b *broker) Read(ctx context.Context, id channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	if err := b.log.wait(ctx); err != nil {
		return buf, from, err
	}
	had := len(buf)
	if had == cap(buf) {
		return buf, from, nil
	}
	for {
		b.mu.Lock()
		s, err := b.shard(id)
		if b.ended != nil {
			err = b.ended
		}
		if err == nil {
			buf, err = s.read(from, buf)
		}
		if err != nil || len(buf) > had {
			b.mu.Unlock()
			return buf, after(from, buf[had:], err), err
		}
		if s.wake == nil {
			s.wake = make(chan struct{})
		}
		wake := s.wake
		b.mu.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
			return buf, from, ctx.Err()
		}
	}
}

// Recent implements channel.Reader: memory has everything.
func (b *broker) Recent(id channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, bool) {
	had := len(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.shard(id)
	if err != nil || b.ended != nil {
		return buf, from, false
	}
	buf, err = s.read(from, buf)
	next := after(from, buf[had:], nil)
	return buf, next, err == nil && (len(buf) < cap(buf) || next >= s.next)
}

// after is the position to go on from when these records have been read.
func after(from channel.Position, records []channel.Record, err error) channel.Position {
	if err != nil {
		if gap, ok := errors.AsType[*channel.GapError](err); ok {
			return gap.To
		}
	}
	if len(records) > 0 {
		return records[len(records)-1].Position + 1
	}
	return from
}

// Get implements channel.Reader.
func (b *broker) Get(_ context.Context, id channel.ShardID, positions []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return buf, b.ended
	}
	s, err := b.shard(id)
	if err != nil {
		return buf, err
	}
	var gaps []error
	for _, p := range positions {
		g, i := s.find(p)
		if g == nil {
			continue
		}
		r, err := g.record(i)
		if err != nil {
			gaps = append(gaps, &channel.GapError{Shard: id, From: p, To: p + 1, Cause: err})
			continue
		}
		buf = append(buf, r)
	}
	return buf, errors.Join(gaps...)
}

// Range implements channel.Reader.
func (b *broker) Range(id channel.ShardID) (earliest, next channel.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.shard(id)
	if err != nil {
		return 0, 0
	}
	return s.earliest(), s.next
}
