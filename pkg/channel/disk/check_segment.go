package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// presence is what of one stream's records the segments hold.
type presence struct {
	there *roaring64.Bitmap // and verify
	lost  *roaring64.Bitmap // named by a footer, but damaged
}

func (c *checker) presence(stream uint32) *presence {
	p := c.there[stream]
	if p == nil {
		if c.there == nil {
			c.there = make(map[uint32]*presence)
		}
		p = &presence{roaring64.New(), roaring64.New()}
		c.there[stream] = p
	}
	return p
}

// segments verifies every sealed segment: each frame, the footer, and that
// the footer names all records and no others.
func (c *checker) segments(cover cover) error {
	list := c.log.segments
	if !c.sound { // recovery did not get through: those that the checkpoint names
		list = nil
		for _, s := range cover.segments {
			list = append(list, &segment{number: s.number, base: s.base, size: int64(s.size), seed: frameSeed(cover.store, s.number)})
		}
	}
	var bytes int64
	for _, g := range list {
		c.total += g.size
		bytes += g.size
	}
	bad := 0
	for _, g := range list {
		good, err := c.segment(g)
		if err != nil {
			return err
		}
		if !good {
			bad++
		}
	}
	if bad == 0 {
		c.add(channel.OK, "segments", fmt.Sprintf("%s sealed, %s verified", channel.Count(len(list), "segment"), channel.Amount(bytes)), "", "")
	}
	return nil
}

// sealedCheck is the examination of one sealed segment.
type sealedCheck struct {
	checker *checker
	name    string
	file    File
	segment *segment
	found   map[uint32]located // by offset in units of 8 bytes: the records that verify
	damage  []error
	lost    map[uint32]*roaring64.Bitmap // by stream: records that a footer names and that are not there
	blind   bool                         // there is no footer to say what must be there
}

// located is a record by name.
type located struct {
	stream uint32
	pos    channel.Position
	moved  bool
}

func (c *checker) segment(g *segment) (good bool, err error) {
	subject := fmt.Sprintf("segment %d", g.number)
	name := segmentName(c.dir, g.number)
	f, err := c.log.fs.Open(name)
	if err != nil {
		c.read(g.size)
		cure := lookAtDisk
		if errors.Is(err, fs.ErrNotExist) {
			cure = "put the file back, or mount the volume that has it; " + repairIt
		}
		c.add(channel.Problem, subject, reason(err), "what was in it cannot be delivered", cure)
		return false, c.ctx.Err()
	}
	defer f.Close()
	k := &sealedCheck{
		checker: c, name: name, file: f, segment: g,
		found: make(map[uint32]located), lost: make(map[uint32]*roaring64.Bitmap),
	}
	if err := f.Uncache(); err != nil {
		k.damage = append(k.damage, fmt.Errorf("read %s anew: %w", name, err))
	}
	if err := walk(f, name, g, k.step); c.ctx.Err() != nil {
		return false, c.ctx.Err()
	} else if err != nil {
		k.damage = append(k.damage, err)
	}
	k.compare()
	if len(k.damage) == 0 {
		return true, nil
	}
	k.tell(subject)
	return false, nil
}

func (k *sealedCheck) step(w walked) error {
	if w.damage == nil && (w.kind == kindEvent || w.kind == kindDead || w.kind == kindMoved) {
		if err := k.parse(&w); err != nil {
			w.damage = &CorruptError{File: k.name, Offset: w.off, Reason: err.Error()}
		} else {
			k.found[uint32(w.off/frameAlign)] = located{w.stream, channel.Position(w.position), w.kind == kindMoved}
		}
	}
	if w.damage != nil {
		k.damage = append(k.damage, w.damage)
	}
	return k.checker.read(w.size)
}

// parse looks into a record's payload as a reader will.
func (k *sealedCheck) parse(w *walked) (err error) {
	as := w.kind
	if as == kindMoved {
		s := k.checker.log.streams[w.stream]
		if s == nil {
			return nil // of a broker that was removed
		}
		as = s.kind
	}
	if as == kindEvent {
		_, err = event.Parse(w.payload)
	} else {
		_, err = decodeLetter(w.payload)
	}
	return err
}

// compare holds the footer to the frames.
func (k *sealedCheck) compare() {
	g := k.segment
	entries, err := loadFooter(k.name, k.file, g.size, g.number, g.seed)
	if err != nil {
		if len(k.damage) == 0 {
			k.damage = append(k.damage, err)
		}
		k.blind = true
		k.compareRuns()
		return
	}
	named := make(map[uint32]bool)
	for i := range entries {
		e := &entries[i]
		if e.kind == kindBroker {
			continue
		}
		table := make([]byte, 4*int64(e.count))
		if _, err := k.file.ReadAt(table, e.table); err != nil {
			k.wrong(e.table, "footer of stream %d: %v", e.stream, err)
			continue
		}
		i := 0
		for pos := range e.positions() {
			off := binary.LittleEndian.Uint32(table[4*i:])
			named[off] = true
			k.expect(e.stream, pos, off, k.counts(e))
			i++
		}
	}
	left := 0
	for off, r := range k.found {
		// What a move that was cut short has left behind is nobody's, and neither
		// are the records of a broker that was removed before the footer was written.
		if !named[off] && !r.moved && k.checker.log.streams[r.stream] != nil {
			left++
		}
	}
	if left > 0 {
		k.wrong(g.size, "the footer leaves out %s", channel.Count(left, "record"))
	}
}

// compareRuns does so where there is no good footer, with what recovery has
// found by going through the frames.
func (k *sealedCheck) compareRuns() {
	if !k.checker.sound {
		return
	}
	for _, s := range k.checker.log.streams {
		for i := range s.runs {
			r := &s.runs[i]
			if r.segment != k.segment || r.offsets == nil {
				continue
			}
			j := 0
			for pos := range r.positions() {
				k.expect(s.id, pos, r.offsets[j], true)
				j++
			}
		}
	}
}

// expect looks for a record where an index says that it stands.
func (k *sealedCheck) expect(stream uint32, pos channel.Position, off uint32, counts bool) {
	r, ok := k.found[off]
	switch good := ok && r.stream == stream && r.pos == pos; {
	case ok && !good:
		k.wrong(int64(off)*frameAlign, "position %d of stream %d is said to stand here, and position %d of stream %d does", pos, stream, r.pos, r.stream)
		fallthrough
	case !good && counts:
		if k.lost[stream] == nil {
			k.lost[stream] = roaring64.New()
		}
		k.lost[stream].Add(uint64(pos))
		k.checker.presence(stream).lost.Add(uint64(pos))
	case good && counts:
		k.checker.presence(stream).there.Add(uint64(pos))
	}
}

// counts reports whether an entry's records are part of the log. Those of a
// move that was cut short are not: their source is.
func (k *sealedCheck) counts(e *entry) bool {
	s := k.checker.log.streams[e.stream]
	return s != nil && (e.kind != kindMoved || !k.checker.sound || s.in(k.segment, e.first) != nil)
}

func (k *sealedCheck) wrong(off int64, format string, args ...any) {
	k.damage = append(k.damage, &CorruptError{File: k.name, Offset: off, Reason: fmt.Sprintf(format, args...)})
}

// positions are those of the entry's records, ascending.
func (e *entry) positions() iter.Seq[channel.Position] {
	return positionsOf(e.first, e.count, e.at)
}

func (r *run) positions() iter.Seq[channel.Position] {
	return positionsOf(r.first, r.count, r.at)
}

func positionsOf(first channel.Position, count uint32, at *roaring.Bitmap) iter.Seq[channel.Position] {
	return func(yield func(channel.Position) bool) {
		if at == nil {
			for i := range count {
				if !yield(first + channel.Position(i)) {
					return
				}
			}
			return
		}
		for it := at.Iterator(); it.HasNext(); {
			if !yield(first + channel.Position(it.Next())) {
				return
			}
		}
	}
}

// tell makes one finding of all the damage in a segment.
func (k *sealedCheck) tell(subject string) {
	what := reason(k.damage[0])
	if more := len(k.damage) - 1; more > 0 {
		what += fmt.Sprintf(", and %s more", channel.Count(more, "place"))
	}
	severity, means := channel.Warning, []string{"no event is lost"}
	if k.blind {
		means = []string{"its index is gone, so events that stood at its end and are owed are told of with their broker"}
	}
	if len(k.lost) > 0 {
		severity, means = channel.Problem, nil
		streams := make([]uint32, 0, len(k.lost))
		for stream := range k.lost {
			streams = append(streams, stream)
		}
		slices.Sort(streams)
		for _, stream := range streams {
			means = append(means, k.checker.loss(stream, k.lost[stream]))
		}
	}
	k.checker.add(severity, subject, what, strings.Join(means, "; "), lookAtDisk+
		"; start penstock serve, which takes over what is good and declares the rest lost")
}

// loss says in words what it means that records of a stream are lost.
func (c *checker) loss(stream uint32, lost *roaring64.Bitmap) string {
	s := c.log.streams[stream]
	if s == nil {
		return "nothing that belongs to a broker is lost"
	}
	b := s.broker
	n := lost.GetCardinality()
	if s.kind == kindDead {
		live := roaring64.New()
		for _, set := range b.letters {
			live.Or(set)
		}
		live.And(lost)
		return fmt.Sprintf("%s of broker %s cannot be read any more", channel.Count(live.GetCardinality(), "dead letter"), b.label())
	}
	owed := roaring64.And(lost, b.owedIn(s))
	text := fmt.Sprintf("%s of broker %s cannot be read any more (%s)", channel.Count(n, "event"), b.label(), ranges(s.shard(), lost))
	switch o := owed.GetCardinality(); {
	case o == 0:
		return text + ", all of them delivered before"
	case o == n:
		return text + ", not delivered yet: lost"
	default:
		return text + fmt.Sprintf(", %d of them not delivered yet: lost", o)
	}
}

// label is the broker's name for people.
func (b *broker) label() string {
	if b.info.Name != "" {
		return b.info.Name
	}
	return string(b.uid)
}

// owedIn are the positions of an event stream that have no final state yet,
// those apart that are known to be lost.
func (b *broker) owedIn(s *stream) *roaring64.Bitmap {
	p := &b.progress[s.shard()]
	owed := roaring64.New()
	owed.AddRange(max(1, uint64(p.scanned)), uint64(s.next))
	for _, lane := range p.lanes {
		lane.Positions.UniteInto(owed)
	}
	if lost := s.lost.Load(); lost != nil {
		owed.AndNot(lost)
	}
	return owed
}

// ranges names positions of a shard, the first few of them.
func ranges(shard channel.ShardID, set *roaring64.Bitmap) string {
	var names []string
	it := set.Iterator()
	for it.HasNext() {
		first := it.Next()
		last := first
		for it.HasNext() && it.PeekNext() == last+1 {
			last = it.Next()
		}
		name := channel.ID{Shard: shard, Position: channel.Position(first)}.String()
		if last > first {
			name += " to " + channel.ID{Shard: shard, Position: channel.Position(last)}.String()
		}
		names = append(names, name)
	}
	return few(names)
}
