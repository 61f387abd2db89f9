package memory

import (
	"cmp"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// shard is a row of segments in order of position, and the progress over them.
// It is guarded by its broker's lock.
type shard struct {
	id       channel.ShardID
	next     channel.Position // of the next event
	last     int64            // time of the last, so that the next is not before it
	scanned  channel.Position
	segments []*segment // only the last may be unsealed; each keeps an event
	holds    int        // bytes that all segments are charged with
	lanes    map[channel.UID]*channel.Pending
	touched  []*segment       // events were freed here since the last tidy
	oldest   channel.Position // no retained event is below
	wake     chan struct{}    // closed by the next append; nil where nobody waits
}

// add stores an event at next. It returns the bytes won by sealing the segment
// before, if it did.
func (s *shard) add(e event.Event, nanos int64) (won int) {
	s.last = max(s.last, nanos)
	last := len(s.segments) - 1
	if last < 0 || !s.segments[last].fits(e.Size()) {
		if last >= 0 && !s.segments[last].sealed {
			won = s.seal(s.segments[last])
		}
		s.segments = append(s.segments, newSegment(s.next, e.Size(), s.holds))
		last++
	}
	s.segments[last].add(e, s.last)
	s.holds += e.Size() + indexBytes
	s.next++
	return won
}

// seal seals a segment and returns the bytes won.
func (s *shard) seal(g *segment) (won int) {
	before := g.bytes()
	g.seal()
	won = before - g.bytes()
	s.holds -= won
	return won
}

// announce wakes the reads that wait for an event of this shard.
func (s *shard) announce() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// from is the number of the first segment that ends behind a position.
func (s *shard) from(p channel.Position) int {
	i, _ := slices.BinarySearchFunc(s.segments, p, func(g *segment, p channel.Position) int {
		if g.end() <= p {
			return -1
		}
		return 1
	})
	return i
}

// find is the segment and entry of a position, or nil where it holds no event.
func (s *shard) find(p channel.Position) (*segment, int) {
	i := s.from(p)
	if i == len(s.segments) || p < s.segments[i].base {
		return nil, 0
	}
	g := s.segments[i]
	at := int(p - g.base)
	if g.index[at].size == 0 {
		return nil, 0
	}
	return g, at
}

// earliest is the first position that holds an event, next if none does.
func (s *shard) earliest() channel.Position {
	if len(s.segments) == 0 {
		return s.next
	}
	g := s.segments[0]
	i := slices.IndexFunc(g.index, func(e entry) bool { return e.size > 0 })
	return g.base + channel.Position(i)
}

// unscanned is the lowest position that has not been scanned, next if all have.
func (s *shard) unscanned() channel.Position { return min(max(s.scanned, 1), s.next) }

// read appends events at or after a position until buf is full.
func (s *shard) read(p channel.Position, buf []channel.Record) ([]channel.Record, error) {
	for n := s.from(p); n < len(s.segments) && len(buf) < cap(buf); n++ {
		g := s.segments[n]
		i := 0
		if p > g.base {
			i = int(p - g.base)
		}
		for ; i < len(g.index) && len(buf) < cap(buf); i++ {
			if g.index[i].size == 0 {
				continue
			}
			r, err := g.record(i)
			if err != nil {
				return buf, &channel.GapError{Shard: s.id, From: r.Position, To: r.Position + 1, Cause: err}
			}
			buf = append(buf, r)
		}
	}
	return buf, nil
}

// touch has tidy look at a segment.
func (s *shard) touch(g *segment) {
	if !g.touched {
		g.touched = true
		s.touched = append(s.touched, g)
	}
}

// tidy gives back what freed events held: empty segments go, sparse ones are
// copied together. It runs once per change of progress, since most segments
// that become sparse in one are empty at its end. It returns the bytes won.
func (s *shard) tidy() (won int) {
	for i, g := range s.touched {
		s.touched[i], g.touched = nil, false
		before := g.bytes()
		switch {
		case g.kept == 0:
			at, _ := slices.BinarySearchFunc(s.segments, g.base, func(g *segment, p channel.Position) int { return cmp.Compare(g.base, p) })
			s.remove(at)
			won += before
		case g.sealed && g.sparse():
			g.rewrite()
			won += before - g.bytes()
		}
	}
	s.touched = s.touched[:0]
	s.holds -= won
	return won
}

// remove takes a segment out. Mostly it is the first: this must not move all
// the others.
func (s *shard) remove(at int) {
	if at > 0 {
		s.segments = slices.Delete(s.segments, at, at+1)
		return
	}
	s.segments[0] = nil
	if s.segments = s.segments[1:]; len(s.segments) == 0 {
		s.segments = nil
	}
}
