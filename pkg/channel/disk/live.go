package disk

import (
	"maps"
	"math"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// live is what had to stay of one stream when somebody looked: events that
// are pending or not scanned, dead letters that nobody has discarded. What is
// declared lost need not stay: there is nothing to keep.
type live struct {
	set       *roaring64.Bitmap
	from      channel.Position // all from here on, too
	backfills uint64
}

// begin is a look at a stream that has not seen its sets yet. Under Log.mu.
func (s *stream) begin() live {
	if s.kind == kindDead {
		return live{set: roaring64.New(), from: math.MaxUint64}
	}
	p := &s.broker.progress[s.shard()]
	return live{set: roaring64.New(), from: max(1, p.scanned), backfills: p.backfills}
}

// keys names the sets that a look at the stream unites. Under Log.mu.
func (s *stream) keys() []channel.UID {
	if s.kind == kindDead {
		return slices.Collect(maps.Keys(s.broker.letters))
	}
	return slices.Collect(maps.Keys(s.broker.progress[s.shard()].lanes))
}

// seen is what of some sets is yet to be added to a look, without the lock.
type seen struct {
	small []uint64            // the positions of small sets: those of many lanes mostly are
	large []channel.Positions // at rest for the most part, and so in nobody else's memory
}

// see adds some of the sets to the look, or notes them. Under Log.mu.
func (v *live) see(s *stream, keys []channel.UID, to *seen) {
	for _, key := range keys {
		if s.kind == kindDead {
			if set := s.broker.letters[key]; set != nil && set.GetCardinality() > 1024 {
				v.set.Or(set)
			} else if set != nil {
				for it := set.Iterator(); it.HasNext(); {
					to.small = append(to.small, it.Next())
				}
			}
			continue
		}
		lane := s.broker.progress[s.shard()].lanes[key]
		switch {
		case lane == nil:
		case lane.Positions.Len() > 1024:
			to.large = append(to.large, lane.Positions.Clone())
		default:
			to.small = lane.Positions.AppendTo(to.small)
		}
	}
}

// take adds what was noted.
func (v *live) take(from *seen) {
	slices.Sort(from.small)
	v.set.AddMany(slices.Compact(from.small))
	for i := range from.large {
		from.large[i].UniteInto(v.set)
	}
	clear(from.large)
	from.small, from.large = from.small[:0], from.large[:0]
}

// end completes the look. Under Log.mu, or where nobody declares anything lost.
func (v *live) end(s *stream) {
	if lost := s.lost.Load(); lost != nil {
		v.set.AndNot(lost)
	}
}

// live looks at one stream. Under Log.mu.
func (s *stream) live() live {
	v := s.begin()
	var all seen
	v.see(s, s.keys(), &all)
	v.take(&all)
	v.end(s)
	return v
}

// count is how many records of a run are live.
func (v *live) count(e *entry) int64 {
	n := int64(0)
	last := e.last()
	if v.from <= last {
		// Of a moved run about as many as there are positions.
		unscanned := int64(last-max(v.from, e.first)) + 1
		n = unscanned * int64(e.count) / (int64(last-e.first) + 1)
		n, last = max(n, 1), v.from-1
	}
	if last < e.first {
		return n
	}
	below := v.set.Rank(uint64(last))
	below -= v.set.Rank(uint64(e.first) - 1) // no position is 0
	return n + min(int64(below), int64(e.count))
}

// positions appends which of a run's records are live, or all of them.
func (v *live) positions(r *run, all bool, to []channel.Position) []channel.Position {
	if all || v.from <= r.first {
		return r.each(r.first, to)
	}
	it := v.set.Iterator()
	it.AdvanceIfNeeded(uint64(r.first))
	for it.HasNext() {
		p := channel.Position(it.Next())
		if p > r.last || p >= v.from {
			break
		}
		if r.at == nil || r.at.Contains(uint32(p-r.first)) {
			to = append(to, p)
		}
	}
	if v.from <= r.last {
		to = r.each(v.from, to)
	}
	return to
}

// each appends the positions of all the run's records from one on.
func (r *run) each(from channel.Position, to []channel.Position) []channel.Position {
	if r.at == nil {
		for p := from; p <= r.last; p++ {
			to = append(to, p)
		}
		return to
	}
	it := r.at.Iterator()
	it.AdvanceIfNeeded(uint32(from - r.first))
	for it.HasNext() {
		to = append(to, r.first+channel.Position(it.Next()))
	}
	return to
}

// lanesAtOnce is how many sets a survey looks at before it lets appends pass.
const lanesAtOnce = 256

// survey looks at all streams, a part of one at a time, for nobody appends
// meanwhile. What becomes pending between two parts was not scanned when the
// look began, or is a backfill, which refresh notices.
func (l *Log) survey() map[*stream]live {
	l.mu.Lock()
	streams := slices.Collect(maps.Values(l.streams))
	l.mu.Unlock()
	view := make(map[*stream]live, len(streams))
	for _, s := range streams {
		view[s] = l.look(s)
	}
	return view
}

// look looks at one stream, a part of it at a time.
func (l *Log) look(s *stream) live {
	l.mu.Lock()
	v, keys := s.begin(), s.keys()
	l.mu.Unlock()
	var some seen
	for part := range slices.Chunk(keys, lanesAtOnce) {
		l.mu.Lock()
		v.see(s, part, &some)
		l.mu.Unlock()
		v.take(&some)
	}
	v.end(s)
	return v
}

// refresh looks again where events that had been settled became pending since
// (a replay does that), and where the view knows nothing. What else changes
// makes less live, or is newer than anything sealed. Under Log.mu.
func (l *Log) refresh(view map[*stream]live) {
	for _, s := range l.streams {
		v, ok := view[s]
		if !ok || s.kind == kindEvent && v.backfills != s.broker.progress[s.shard()].backfills {
			view[s] = s.live()
		}
	}
}

// verdict is what a segment holds that must stay, in bytes.
type verdict struct {
	segment  *segment
	live     int64             // of all brokers
	of       map[*broker]int64 // each one's part
	retained map[*entry]bool   // runs that stay whole for their events' age
}

// share is the part of so many bytes that is live.
func (v *verdict) share(bytes int64) float64 { return float64(v.live) / float64(max(bytes, 1)) }

// judge weighs entries of a segment. Under Log.mu.
func (l *Log) judge(g *segment, entries []entry, view map[*stream]live, retained map[*entry]bool) verdict {
	v := verdict{segment: g, of: make(map[*broker]int64), retained: retained}
	for i := range entries {
		e := &entries[i]
		s := l.streams[e.stream]
		moving := l.moving != nil && e.kind == kindMoved && e.move == l.moving.number
		if s == nil || e.kind == kindBroker || e.kind == kindMoved && !moving && !g.counts(e.move) {
			continue // of a removed broker, kept in the checkpoint, or of a move that never ended
		}
		bytes := e.bytes
		if !retained[e] && !moving { // what is being moved here counts as soon as the move ends
			look := view[s]
			bytes = look.count(e) * e.bytes / max(int64(e.count), 1)
			if bytes == 0 && look.count(e) > 0 {
				bytes = 1 // accounted for less than it has: it is alive all the same
			}
		}
		v.live += bytes
		v.of[s.broker] += bytes
	}
	return v
}

// retained are the runs of sealed segments that their broker's retention keeps
// whole: the newest settled events, up to its bytes and not beyond its time.
// For a broker that is short of room, or all of them on a full volume, it does
// not hold. Under Log.mu.
func (l *Log) retained(excepted func(*broker) bool) map[*entry]bool {
	now := l.o.Now()
	var runs []*entry
	for _, g := range l.segments {
		for i := range g.entries {
			e := &g.entries[i]
			s := l.streams[e.stream]
			if s == nil || s.kind != kindEvent || e.kind == kindBroker || e.kind == kindMoved && !g.counts(e.move) {
				continue
			}
			info := &s.broker.info
			if info.Retention > 0 && info.RetentionBytes > 0 && now.Sub(time.Unix(0, e.until)) <= info.Retention && !excepted(s.broker) {
				runs = append(runs, e)
			}
		}
	}
	slices.SortStableFunc(runs, func(a, b *entry) int {
		switch { // the newest first
		case a.until > b.until:
			return -1
		case a.until < b.until:
			return 1
		}
		return 0
	})
	kept := make(map[*broker]int64)
	keep := make(map[*entry]bool, len(runs))
	for _, e := range runs {
		b := l.streams[e.stream].broker
		if kept[b] += e.bytes; kept[b] <= b.info.RetentionBytes {
			keep[e] = true
		}
	}
	return keep
}
