package disk

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// salvage is what of a segment verifies: enough to do without its footer,
// since each frame names its stream and position.
type salvage struct {
	offsets    map[uint32]map[channel.Position]uint32 // by stream, in units of 8 bytes
	entries    map[runKey]*entry
	frames     int
	damage     error // the first
	unreadable bool  // an error of reading is, or hides, damage
}

// runKey tells the runs of a segment apart.
type runKey struct {
	kind   kind
	stream uint32
	move   uint32
	part   uint16
}

// examine reads a segment whole, from the medium, and again if it is not as
// it was written: a bit may have flipped on the way. An error says that some of
// it could not be read, which is no damage yet. between is called after each
// mebibyte.
func examine(f File, name string, g *segment, between func()) (salvage, error) {
	found, err := readAll(f, name, g, between)
	if found.damage != nil || err != nil {
		found, err = readAll(f, name, g, between)
	}
	return found, err
}

func readAll(f File, name string, g *segment, between func()) (salvage, error) {
	found := salvage{offsets: make(map[uint32]map[channel.Position]uint32), entries: make(map[runKey]*entry)}
	fail := func(err error) error {
		if found.damage == nil {
			found.damage = err
		}
		found.unreadable = true
		return err
	}
	if err := f.Uncache(); err != nil {
		return found, fail(fmt.Errorf("read %s anew: %w", name, err))
	}
	var unread error
	var since int64
	err := walk(f, name, g, func(w walked) error {
		if since += w.size; since >= commitBytes {
			since = 0
			between()
		}
		switch {
		case w.damage == nil:
			found.note(g, &w)
		case errors.As(w.damage, new(*CorruptError)):
			if found.damage == nil {
				found.damage = w.damage
			}
		default:
			if unread == nil {
				unread = w.damage
			}
			fail(w.damage)
		}
		return nil
	})
	if err != nil {
		return found, fail(err)
	}
	return found, unread
}

// note enters a good frame.
func (v *salvage) note(g *segment, w *walked) {
	v.frames++
	key := runKey{kind: w.kind, stream: w.stream}
	switch w.kind {
	case kindEvent, kindDead:
	case kindMoved:
		key.move, key.part = w.move, w.part
	case kindRoutes, kindProgress, kindBroker, kindRemoval, kindGap, kindDiscard:
		key.kind = kindBroker
	default:
		return
	}
	e := v.entries[key]
	if e == nil {
		e = &entry{kind: key.kind, stream: w.stream, move: w.move, first: channel.Position(w.position), from: w.time}
		if key.kind == kindMoved {
			e.at = roaring.New()
		}
		v.entries[key] = e
	}
	e.bytes += w.size
	e.from, e.until = min(e.from, w.time), max(e.until, w.time)
	if key.kind == kindBroker {
		return
	}
	if e.span = uint32(w.position) - uint32(e.first); e.at != nil {
		e.at.Add(e.span)
		e.count++
	} else {
		e.count = e.span + 1 // with those between that are damaged
	}
	if key.kind == kindMoved && !g.counts(w.move) {
		return
	}
	if v.offsets[w.stream] == nil {
		v.offsets[w.stream] = make(map[channel.Position]uint32)
	}
	v.offsets[w.stream][channel.Position(w.position)] = uint32(w.off / frameAlign)
}

// salvage takes a sealed segment whose header or footer is damaged into the
// log by what verifies of it. It is quarantined as soon as the log runs.
func (l *Log) salvage(want covered, f File, cause error) (*segment, error) {
	name := segmentName(l.dir, want.number)
	g := &segment{
		number: want.number, base: want.base, size: int64(want.size), seed: frameSeed(l.store, want.number), moves: want.moves,
	}
	found, err := examine(f, name, g, func() {})
	if found.frames == 0 {
		return nil, errors.Join(cause, err) // perhaps it is no segment at all
	}
	if err != nil && !l.o.Repair {
		// An error of reading may pass, and what is declared lost now stays lost.
		return nil, fmt.Errorf("%w: start again, or if the disk does not give it any more, give up what is lost with penstock doctor --repair", errors.Join(cause, err))
	}
	for _, key := range slices.SortedFunc(maps.Keys(found.entries), func(a, b runKey) int { return int(a.stream) - int(b.stream) }) {
		g.entries = append(g.entries, *found.entries[key])
	}
	l.log.Error("a stored segment has lost its index: it is read by what verifies of it", "dir", l.dir, "segment", g.number, "error", cause)
	l.suspects[g.number] = &suspicion{cause: cause, met: make(map[uint32]*roaring64.Bitmap)}
	l.addSealed(g)
	for id := range g.streams() {
		if s := l.streams[id]; s != nil {
			s.reindex(g, found.offsets[id])
		}
	}
	return g, nil
}

// missing are the positions of a stream that must be there and are in no run;
// nil for none. Under Log.mu.
func (s *stream) missing() *roaring64.Bitmap {
	v := s.live()
	need := v.set
	if v.from < s.next {
		need.AddRange(uint64(v.from), uint64(s.next))
	}
	for i := range s.runs {
		r := &s.runs[i]
		if r.at == nil && r.offsets != nil && s.broker.log.o.Repair {
			for i, off := range r.offsets {
				if off != 0 {
					need.Remove(uint64(r.first) + uint64(i))
				}
			}
			continue
		}
		if r.at == nil {
			need.RemoveRange(uint64(r.first), uint64(r.last)+1)
			continue
		}
		for it := r.at.Iterator(); it.HasNext(); {
			need.Remove(uint64(r.first) + uint64(it.Next()))
		}
	}
	if s.skipped != nil {
		need.Or(s.skipped)
	}
	for i, off := range s.offsets {
		if off != 0 {
			need.Remove(uint64(s.first) + uint64(i))
		}
	}
	if lost := s.lost.Load(); lost != nil {
		need.AndNot(lost)
	}
	if need.IsEmpty() {
		return nil
	}
	return need
}

// declareMissing declares lost what is nowhere, where Open had to do without a
// part of the log. Nobody may read before: he would pass over it in silence.
func (l *Log) declareMissing() error {
	if l.incomplete == nil {
		return nil
	}
	var all []declaration
	for _, s := range l.streams {
		if lost := s.missing(); lost != nil {
			all = append(all, declaration{stream: s, lost: lost, found: l.o.Now(), cause: oneLine(l.incomplete)})
			if l.o.Repair {
				l.did("%s", all[len(all)-1].String())
			}
		}
	}
	return l.declare(all)
}
