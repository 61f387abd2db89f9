package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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

// freeFor removes what a broker need not keep, retention or not, and copies
// some of what it must from segments that hold little else. Committer only.
func (l *Log) freeFor(b *broker) {
	if l.sealFor(b) {
		if err := l.roll(); err != nil {
			return
		}
	}
	l.collect(b)
	defer l.stir()
	// What does not fit into the time of one append goes on by itself, and the
	// broker is told to come back.
	if limit := l.moved + moveAtOnce; !b.fits() {
		l.moveOn(func() bool { return l.moved >= limit || b.fits() }, nil)
	}
}

// fits reports whether the broker has room for events again.
func (b *broker) fits() bool {
	return b.bytes.Load() <= b.maxBytes.Load()-2*b.log.deadReserve(b)
}

// sealFor reports whether the active segment should be sealed, so that what it
// holds of a broker and nobody needs can go. Where others need most of the
// segment it stays, and what cannot go is not held against the broker.
func (l *Log) sealFor(b *broker) bool {
	view := l.survey()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refresh(view)
	entries := l.activeEntries()
	retained := make(map[*entry]bool)
	var charged int64
	for i := range entries {
		e := &entries[i]
		s := l.streams[e.stream]
		if s == nil {
			continue
		}
		o := s.broker
		if o == b {
			charged += e.bytes - e.forgiven
		}
		retained[e] = e.kind == kindEvent && o != b && o.info.Retention > 0 && o.info.RetentionBytes > 0
	}
	v := l.judge(l.active, entries, view, retained)
	used := l.tailOff - segmentHeader
	switch {
	case charged <= v.of[b]:
		return false
	case v.others(b)*2 < used:
		// Not for a handful of bytes: a segment costs a file.
		return v.live == 0 || v.live*2 < used && (charged-v.of[b])*16 >= b.maxBytes.Load()
	}
	for i := range entries {
		l.forgive(b, &entries[i], view)
	}
	for i := range entries {
		e := &entries[i]
		switch s := l.streams[e.stream]; {
		case s == nil:
		case e.kind == kindBroker:
			s.broker.other.forgiven = e.forgiven
		case e.kind == kindMoved:
			l.active.parts[i+len(l.active.parts)-len(entries)].forgiven = e.forgiven
		default:
			s.forgiven = e.forgiven
		}
	}
	return false
}

// forgive no longer counts against a broker what it does not need of a
// segment that stays for others' sake. Under Log.mu.
func (l *Log) forgive(b *broker, e *entry, view map[*stream]live) {
	s := l.streams[e.stream]
	if s == nil || s.broker != b {
		return
	}
	var keep int64
	if e.kind != kindBroker {
		look := view[s]
		keep = (look.count(e)*e.bytes + int64(e.count) - 1) / max(int64(e.count), 1)
	}
	more := e.bytes - e.forgiven - keep
	if more <= 0 {
		return
	}
	e.forgiven += more
	if e.kind == kindBroker {
		b.bytes.Add(-more)
	} else {
		s.charge(-more)
	}
}

// collect removes segments that nobody needs any more, and lists those of
// which little is needed. Retention holds, but not for the broker that is short
// of room, and not while the volume is full. Committer only.
func (l *Log) collect(short *broker) {
	full := l.full.Load()
	if short == nil && !full && time.Since(l.collected) < collectEvery {
		return
	}
	l.collected, l.untended = time.Now(), short != nil
	view := l.survey()
	l.mu.Lock()
	l.refresh(view)
	retained := l.retained(func(b *broker) bool { return full || b == short })
	l.kept = l.firstOver(retained)
	worth := thinShare
	if full || short != nil {
		worth = crampedShare
	}
	l.thin = nil
	left := l.segments[:0]
	dropped := false
	for _, g := range l.segments {
		v := l.judge(g, g.entries, view, retained)
		if v.live == 0 {
			l.dropSegment(g)
			dropped = true
			continue
		}
		left = append(left, g)
		switch {
		case !g.outsized && v.share(g.size) < worth && (full || short == nil || v.helps(l, short)):
			l.thin = append(l.thin, v)
		case short != nil && v.others(short)*2 >= g.size:
			for i := range g.entries {
				l.forgive(short, &g.entries[i], view)
			}
		}
	}
	clear(l.segments[len(left):])
	l.segments = left
	l.mu.Unlock()
	slices.SortFunc(l.thin, func(a, b verdict) int {
		return cmp.Compare(a.share(a.segment.size), b.share(b.segment.size)) // the cheapest first
	})
	if dropped {
		l.record()
	}
}

// firstOver is when the first of the retained runs are retained no longer, zero
// where none are. Under Log.mu.
func (l *Log) firstOver(retained map[*entry]bool) (first time.Time) {
	for e := range retained {
		if at := time.Unix(0, e.until).Add(l.streams[e.stream].broker.info.Retention); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// helps reports whether a broker's bytes become fewer when the segment goes.
func (v *verdict) helps(l *Log, b *broker) bool {
	var charged int64
	for i := range v.segment.entries {
		e := &v.segment.entries[i]
		if s := l.streams[e.stream]; s != nil && s.broker == b {
			charged += e.bytes - e.forgiven
		}
	}
	return charged > v.of[b]
}

// others is the live part of all brokers but one.
func (v *verdict) others(b *broker) int64 { return v.live - v.of[b] }

// record writes down that segments were dropped: twice, so that both kept
// checkpoints know; the files go with the second. Committer only.
func (l *Log) record() {
	l.unrecorded = false
	for range 2 {
		err := l.checkpoint()
		if isFull(err) && l.spare != nil {
			// The next segment's place is worth less than the room that is won.
			l.discardSpare()
			err = l.checkpoint()
		}
		if err != nil {
			l.keep(err)
			l.unrecorded = true // tried again at the next housekeeping
			return
		}
	}
	l.provide()
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
		if e.kind == kindBroker {
			s.broker.bytes.Add(e.forgiven - e.bytes)
			continue
		}
		s.charge(e.forgiven - e.bytes)
		s.drop(g)
	}
	g.entries = nil
	if l.moving != nil && l.moving.source == g {
		l.moving = nil // what it has copied is not needed either
	}
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
		if g.after+2 > l.sequence || l.pinned(g.segment.number) {
			left = append(left, g)
			continue
		}
		if g.segment.damaged {
			if err := l.setAside(g.segment.number); err != nil {
				return err
			}
			continue
		}
		if err := l.fs.Remove(segmentName(l.dir, g.segment.number)); err != nil && !isAbsent(err) {
			return fmt.Errorf("remove segment %d: %w", g.segment.number, err)
		}
	}
	l.garbage = left
	return nil
}
