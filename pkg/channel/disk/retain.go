package disk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// collectEvery is how often segments are looked through while there is room.
const collectEvery = 5 * time.Second

// garbage is a segment that the log has dropped: its file goes when both
// kept checkpoints know that.
type garbage struct {
	segment *segment
	after   uint64 // the newest checkpoint when it was dropped
}

// reserve counts size against the broker's quota, of which spare bytes are
// not for this caller. Where it would not fit it asks, once a second, for
// what is settled to be freed.
func (b *broker) reserve(ctx context.Context, size, spare int64) error {
	bound := b.maxBytes.Load()
	if b.bytes.Add(size) <= bound-spare || bound <= 0 {
		return nil
	}
	b.bytes.Add(-size)
	now, last := b.log.o.Now().UnixNano(), b.freed.Load()
	if (now-last >= int64(time.Second) || now < last) && b.freed.CompareAndSwap(last, now) {
		if err := b.log.do(ctx, &request{kind: kindFree, broker: b}); !errors.Is(err, errFreed) {
			return err
		}
		if b.bytes.Add(size) <= bound-spare {
			return nil
		}
		b.bytes.Add(-size)
	}
	return b.log.refused(fmt.Errorf("%w: broker %s may keep %d bytes", channel.ErrQuota, b.uid, bound))
}

// kindFree is a request that writes nothing: make room for its broker.
const kindFree kind = 255

// deadReserve is the part of a broker's quota that events leave to dead
// letters: pending events could otherwise fill it, and never leave because
// their dead letters would not fit.
func (l *Log) deadReserve(b *broker) int64 {
	return min(b.maxBytes.Load()/8, l.segmentSize)
}

// freeFor removes what a broker need not keep, retention or not. The active
// segment is sealed for it if it could go whole. Committer only.
func (l *Log) freeFor(b *broker) {
	l.mu.Lock()
	var entries []entry
	for _, s := range l.streams {
		if e, _, ok := s.sealed(); ok {
			entries = append(entries, e)
		}
	}
	useful := len(entries) > 0 && !l.needs(entries, func(o *broker, _ entry) bool {
		return o != b && o.info.Retention > 0 && o.info.RetentionBytes > 0
	})
	l.mu.Unlock()
	if useful {
		if err := l.roll(); err != nil {
			return
		}
	}
	l.collect(b)
}

// collect removes segments that nobody needs any more. Retention holds, but
// not for the broker that is short of room, and not while the volume is full.
// Committer only.
func (l *Log) collect(short *broker) {
	full := l.full.Load()
	if short == nil && !full && time.Since(l.collected) < collectEvery {
		return
	}
	l.collected = time.Now()
	now := l.o.Now()
	kept := make(map[*broker]int64) // bytes of settled events, newest first
	l.mu.Lock()
	dropped := 0
	for i := len(l.segments) - 1; i >= 0; i-- {
		g := l.segments[i]
		retained := func(b *broker, e entry) bool {
			if full || b == short || b.info.Retention <= 0 || b.info.RetentionBytes <= 0 {
				return false
			}
			kept[b] += e.bytes
			return now.Sub(time.Unix(0, e.until)) <= b.info.Retention && kept[b] <= b.info.RetentionBytes
		}
		if l.needs(g.entries, retained) {
			continue
		}
		l.segments = append(l.segments[:i], l.segments[i+1:]...)
		l.dropSegment(g)
		dropped++
	}
	l.mu.Unlock()
	if dropped == 0 {
		return
	}
	// Twice, so that both kept checkpoints know: the files go with the second.
	for range 2 {
		if err := l.checkpoint(); err != nil {
			l.keep(err)
			return
		}
	}
	l.provide()
}

// needs reports whether any of a segment's entries must stay. Settled events
// are the caller's to decide. Under Log.mu.
func (l *Log) needs(entries []entry, retained func(*broker, entry) bool) bool {
	needed := false
	for _, e := range entries {
		s := l.streams[e.stream]
		if s == nil || e.kind == kindBroker {
			continue // of a removed broker, or kept in the checkpoint
		}
		b := s.broker
		if e.kind == kindDead {
			needed = needed || b.anyDead(e)
			continue
		}
		needed = b.anyPending(int(e.stream-b.base), e) || retained(b, e) || needed
	}
	return needed
}

// anyPending reports whether the run holds an event without a final state.
func (b *broker) anyPending(shard int, e entry) bool {
	p := &b.progress[shard]
	if e.last() >= p.scanned {
		return true
	}
	for _, lane := range p.lanes {
		if intersects(&lane.Positions, e) {
			return true
		}
	}
	return false
}

func (b *broker) anyDead(e entry) bool {
	for _, set := range b.letters {
		if intersects(set, e) {
			return true
		}
	}
	return false
}

// intersects reports whether a position of the run is in the set.
func intersects(set *roaring64.Bitmap, e entry) bool {
	if set.IsEmpty() || set.Minimum() > uint64(e.last()) {
		return false
	}
	it := set.Iterator()
	it.AdvanceIfNeeded(uint64(e.first))
	return it.HasNext() && it.PeekNext() <= uint64(e.last())
}

// dropSegment takes a sealed segment out of everything but the disk. Under Log.mu.
func (l *Log) dropSegment(g *segment) {
	g.dropped = true
	l.sealedBytes -= g.size
	l.garbage = append(l.garbage, garbage{g, l.sequence})
	for _, e := range g.entries {
		s := l.streams[e.stream]
		if s == nil {
			continue
		}
		s.broker.bytes.Add(-e.bytes)
		if e.kind != kindBroker {
			s.drop(g)
		}
		if e.kind == kindDead {
			s.broker.deadBytes -= e.bytes
		}
	}
	g.entries = nil
	for i, o := range l.open {
		if o == g {
			l.open = append(l.open[:i], l.open[i+1:]...)
			break
		}
	}
	if g.refs == 0 {
		g.close()
	}
}

// sweep removes the files that neither kept checkpoint names. Committer only.
func (l *Log) sweep() error {
	left := l.garbage[:0]
	for _, g := range l.garbage {
		if g.after+2 > l.sequence {
			left = append(left, g)
			continue
		}
		if err := l.fs.Remove(segmentName(l.dir, g.segment.number)); err != nil && !isAbsent(err) {
			return fmt.Errorf("remove segment %d: %w", g.segment.number, err)
		}
	}
	l.garbage = left
	return nil
}
