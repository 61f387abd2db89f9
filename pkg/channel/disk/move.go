package disk

import (
	"context"
	"errors"
	"math"
	"slices"
	"sort"
	"time"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Copy-forward: a sealed segment of which little is live has that copied to
// the active one, and goes. One trigger that never acknowledges would otherwise
// keep a whole segment for each of its events. What moves keeps its stream,
// position and time. See docs/adr/0005-copy-forward.md.
//
// A move has a number of its own, which its frames and its runs in footers
// carry. It counts from when a checkpoint names it as counting: in that same
// checkpoint its source is no longer part of the log. A move that was cut short
// leaves frames that no checkpoint will ever name; they are garbage that goes
// with its segment.

const (
	// thinShare is the live part of a segment below which it is worth copying.
	thinShare = 0.10
	// crampedShare is the same while a broker or the volume is full.
	crampedShare = 0.50
	// moveTime is how long one round of housekeeping copies at most: a fifth of
	// the time between two, so that appends keep the rest.
	moveTime = tickEvery / 5
	// moveAtOnce bounds what is copied while an append waits for it.
	moveAtOnce = 4 << 20
)

var (
	// errEnough ends a piece of a move.
	errEnough = errors.New("enough for one commit")
	// errBackfilled is why a copy may not have all that is live.
	errBackfilled = errors.New("events that had been settled were made pending again meanwhile")
)

// move is a copy that is under way. Committer only.
type move struct {
	number   uint32
	source   *segment
	loss     *loss // what quarantine finds; nil for a move that makes room
	portions []portion
	parts    []*part
	views    map[*stream]uint64 // backfills when the positions were listed
	copied   int64
}

// portion is what is to be copied of neighbouring runs of one stream.
type portion struct {
	stream *stream
	number uint16
	at     []channel.Position
	into   *part
}

// part is what one portion has come to in one segment: the run to be.
type part struct {
	entry
	segment *segment
	number  uint16
	offsets []uint32 // until the segment is sealed
}

// run is how the part's stream finds its records.
func (p *part) run() run {
	r := runOf(p.segment, &p.entry)
	r.offsets = p.offsets
	return r
}

// add enters a durable frame. Under Log.mu.
func (p *part) add(pos channel.Position, off, size, time int64) {
	if p.count == 0 {
		p.first, p.from, p.until, p.at = pos, time, time, roaring.New()
	}
	p.count++
	p.span = uint32(pos - p.first)
	p.at.Add(p.span)
	p.offsets = append(p.offsets, uint32(off/frameAlign))
	p.bytes += size
	p.from, p.until = min(p.from, time), max(p.until, time)
}

// moveOn copies until done says that it is enough, a commit's worth at a time.
// between runs after each: somebody may want to append. It is nil while an
// append waits for the room, which damaged segments do not make. Committer
// only, with nothing in the buffer.
func (l *Log) moveOn(done func() bool, between func()) {
	defer func() {
		if l.unrecorded {
			l.record()
		}
	}()
	for l.latched.Load() == nil && !done() {
		if l.moving == nil && !l.nextMove(between) {
			return
		}
		m := l.moving
		if err := l.step(m); err != nil {
			if errors.Is(err, errEnough) {
				if between != nil {
					between()
				}
				continue
			}
			l.log.Warn("segment stays where it is: its live records cannot be moved", "dir", l.dir, "segment", m.source.number, "error", err)
			l.moving = nil
			m.source.outsized = errors.Is(err, channel.ErrTooLarge) // no use in trying again
			return
		}
		l.moving = nil
		if err := l.finish(m); err != nil {
			l.log.Warn("segment stays where it is", "dir", l.dir, "segment", m.source.number, "error", err)
			return
		}
		if between != nil {
			between()
		}
	}
}

// nextMove begins the next move that there is room for.
func (l *Log) nextMove(between func()) bool {
	if between != nil {
		if l.moving = l.nextQuarantine(between); l.moving != nil {
			return true
		}
	}
	for len(l.thin) > 0 {
		v := l.thin[0]
		l.thin = l.thin[1:]
		if !l.roomFor(v.live) {
			continue
		}
		if m := l.listLive(v); m != nil {
			l.moving = m
			return true
		}
	}
	return false
}

// roomFor reports whether so many live bytes may be copied. While events are
// refused the rest of the active segment is for progress and dead letters, a
// quarter of a segment of it in any case.
func (l *Log) roomFor(bytes int64) bool {
	if !l.full.Load() {
		return true
	}
	room := l.segmentSize - l.tailOff - footerSize(l.entries, l.records)
	if l.active.footed {
		room = 0
	}
	if l.spare != nil {
		room += l.segmentSize
	}
	return bytes <= room-l.segmentSize/4
}

// listLive makes a move of a segment's live records, or, to set a damaged segment
// aside, of the retained ones too. Nil if there is none to make.
func (l *Log) listLive(v verdict) *move {
	g := v.segment
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.dropped {
		return nil
	}
	m := &move{number: l.nextMoveNumber, source: g, views: make(map[*stream]uint64)}
	whole := make(map[uint32]map[channel.Position]bool) // of each stream the runs that are retained
	for i := range g.entries {
		e := &g.entries[i]
		s := l.streams[e.stream]
		if s == nil || e.kind == kindBroker {
			continue
		}
		if whole[e.stream] == nil {
			whole[e.stream] = make(map[channel.Position]bool)
		}
		whole[e.stream][e.first] = whole[e.stream][e.first] || v.retained[e] // what a move left unfinished may begin there too
	}
	for id, retained := range whole {
		s := l.streams[id]
		look := s.live()
		m.views[s] = look.backfills
		var at []channel.Position
		number := 0
		flush := func() {
			for len(at) > 0 {
				// A run has its positions as 32 bits from the first.
				n := sort.Search(len(at), func(i int) bool { return at[i]-at[0] > math.MaxUint32 })
				m.portions = append(m.portions, portion{stream: s, number: uint16(number), at: at[:n]})
				at, number = at[n:], number+1
			}
			at = nil
		}
		for i := range s.runs {
			r := &s.runs[i]
			if r.segment != g {
				flush() // what lies between belongs elsewhere
				continue
			}
			at = look.positions(r, retained[r.first], at)
		}
		flush()
		if number > math.MaxUint16 {
			return nil
		}
	}
	slices.SortFunc(m.portions, func(a, b portion) int { return int(a.stream.id) - int(b.stream.id) })
	l.nextMoveNumber++
	return m
}

// step copies a commit's worth of records. Nil means that the move has been
// copied, errEnough that there is more to do.
func (l *Log) step(m *move) error {
	var size int64
	for len(m.portions) > 0 {
		p := &m.portions[0]
		if len(p.at) == 0 {
			m.portions = m.portions[1:]
			continue
		}
		asked := p.at[:min(len(p.at), readOffsets)]
		var stop error
		taken := make(map[channel.Position]bool, len(asked))
		err := l.fetch(context.Background(), p.stream, asked, func(pos channel.Position, nanos int64, payload []byte) error {
			if stop != nil {
				return nil
			}
			if stop = l.makeRoom(len(payload)); stop != nil {
				return nil
			}
			if size += l.putMoved(m, p, pos, nanos, payload); size >= commitBytes {
				stop = errEnough
			}
			taken[pos] = true
			return nil
		})
		if errors.Is(err, channel.ErrNoBroker) {
			m.portions = m.portions[1:]
			continue
		}
		if stop != nil { // what was not taken behind the last is still to be copied
			n := len(asked)
			for n > 0 && !taken[asked[n-1]] {
				n--
			}
			asked = asked[:n]
		}
		if bad := l.bad(p.stream, asked, taken); len(bad) > 0 {
			// What cannot be read just now was read when the segment was examined.
			if m.loss == nil || errors.As(err, new(*readError)) {
				return errors.Join(err, l.flushMoved())
			}
			for _, pos := range bad {
				m.loss.note(p.stream, pos)
			}
		}
		p.at = p.at[len(asked):]
		if stop != nil {
			return errors.Join(stop, l.flushMoved())
		}
	}
	return l.flushMoved()
}

// bad is what was asked for and did not come, but for what is known to be lost.
func (l *Log) bad(s *stream, asked []channel.Position, taken map[channel.Position]bool) []channel.Position {
	var bad []channel.Position
	lost := s.lost.Load()
	for _, pos := range asked {
		if !taken[pos] && (lost == nil || !lost.Contains(uint64(pos))) {
			bad = append(bad, pos)
		}
	}
	return bad
}

// makeRoom sees to it that a record fits the active segment.
func (l *Log) makeRoom(payload int) error {
	size := frameSize(payload)
	if size+footerSize(3, 2) > l.segmentSize-segmentHeader {
		return channel.ErrTooLarge // segments were larger once
	}
	for !l.fits(size, 2) {
		if err := l.flushMoved(); err != nil {
			return err
		}
		if err := l.roll(); err != nil {
			return err
		}
	}
	return l.stopped()
}

// putMoved adds one record to the commit and returns its size.
func (l *Log) putMoved(m *move, p *portion, pos channel.Position, nanos int64, payload []byte) int64 {
	if p.into == nil || p.into.segment != l.active {
		p.into = &part{segment: l.active, number: p.number, entry: entry{kind: kindMoved, stream: p.stream.id, move: m.number}}
		m.parts = append(m.parts, p.into)
		l.entries++
	}
	off := l.end()
	f := frame{kind: kindMoved, stream: p.stream.id, position: uint64(pos), sum: checksum(payload), time: nanos, part: p.number, move: m.number}
	l.frame(f, payload)
	l.records += 2
	size := frameSize(len(payload))
	l.copies = append(l.copies, copied{p.into, p.stream, pos, off, size, nanos})
	m.copied += size
	l.moved += size
	return size
}

// copied is a moved record in the commit, to be entered when it is durable.
type copied struct {
	part      *part
	stream    *stream
	pos       channel.Position
	off, size int64
	time      int64
}

// flushMoved makes durable what was copied so far.
func (l *Log) flushMoved() error {
	l.flush()
	copies := l.copies
	l.copies = l.copies[:0]
	if err := l.stopped(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range copies {
		if c.part.count == 0 {
			c.part.segment.parts = append(c.part.segment.parts, c.part)
		}
		c.part.add(c.pos, c.off, c.size, c.time)
		c.stream.charge(c.size)
	}
	return nil
}

// charge counts bytes of a stream's records for or against its broker. Under Log.mu.
func (s *stream) charge(bytes int64) {
	s.broker.bytes.Add(bytes)
	if s.kind == kindDead {
		s.broker.deadBytes += bytes
	}
}

// finish puts a copied move in the place of its source. All of it is durable;
// the source's file goes when two checkpoints have done without it.
func (l *Log) finish(m *move) error {
	if m.loss != nil {
		if err := l.declareLoss(m); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at, kept := l.sealed(m.source.number)
	if !kept {
		return nil // nothing of it was needed any more
	}
	for s, backfills := range m.views {
		if l.streams[s.id] == s && s.kind == kindEvent && s.broker.progress[s.shard()].backfills != backfills {
			return errBackfilled
		}
	}
	for _, p := range m.parts {
		s := l.streams[p.stream]
		if s == nil || p.count == 0 {
			continue
		}
		if !p.segment.counts(m.number) {
			p.segment.moves = append(p.segment.moves, m.number)
		}
		s.add(p.run())
	}
	l.segments = slices.Delete(l.segments, at, at+1)
	m.source.damaged = m.loss != nil
	l.dropSegment(m.source)
	l.unrecorded = true
	l.log.Debug("live records were moved and their segment goes", "dir", l.dir, "segment", m.source.number, "bytes", m.copied, "freed", m.source.size)
	return nil
}

// tendMoves is housekeeping's part of copy-forward.
func (l *Log) tendMoves() {
	began := time.Now()
	l.moveOn(
		func() bool { return time.Since(began) > moveTime },
		func() { l.commit(l.take()) }) // if only of progress: it must not wait for long
	if l.unwitnessed {
		l.watermark.Reset(watermarkAfter)
	}
}
