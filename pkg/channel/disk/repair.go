package disk

import (
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Repair is for a store that Open refuses (Options.Repair, penstock doctor
// --repair): what is good is kept, what is gone is declared lost, and nothing
// that is damaged is thrown away.
//
// Where records are gone from the middle of the log, so may be progress and
// changes of triggers. Progress that moves Scanned names everything below it
// that became pending, so after a hole Scanned stays where it was before: events
// are offered again, and duplicates are what that costs, never an event.

// Repaired says in plain words what a repair has done, in order; nothing
// where there was nothing to do.
func (l *Log) Repaired() []string { return slices.Clone(l.repaired) }

// gaveUp notes what a repair had to do without.
func (l *Log) gaveUp(cause error, format string, args ...any) {
	l.incomplete = errors.Join(l.incomplete, cause)
	l.did(format, args...)
}

func (l *Log) did(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	l.repaired = append(l.repaired, line)
	l.log.Warn("repair", "dir", l.dir, "done", line)
}

// giveUpSealed does without a sealed segment, if this is a repair.
func (l *Log) giveUpSealed(number uint64, err error) error {
	if !l.o.Repair || errors.As(err, new(*VersionError)) {
		return err
	}
	if corrupt, ok := errors.AsType[*CorruptError](err); !ok || !corrupt.missing {
		l.aside = append(l.aside, number)
	}
	l.gaveUp(err, "segment %d is given up: %v", number, err)
	return nil
}

// tailSegment is a segment that a repair replays.
type tailSegment struct {
	*segment
	file   File
	broken bool // its header is
}

// replayDamaged is replay for a repair: it takes every frame that verifies,
// whatever lies between.
func (l *Log) replayDamaged(c cover, found stored) (t torn, err error) {
	l.epoch = c.epoch
	tail, err := l.openTail(c, found)
	defer func() {
		for _, g := range tail {
			if err != nil || g.file != t.file {
				err = errors.Join(err, g.file.Close())
			}
		}
	}()
	if err != nil {
		return torn{}, err
	}
	for i, g := range tail {
		t, err := l.replayAround(g, c, i == len(tail)-1)
		if err != nil || i == len(tail)-1 {
			l.epoch++
			l.again()
			return t, err
		}
	}
	l.epoch++ // nothing is left of it: resume begins anew
	l.again()
	return torn{}, nil
}

// again says what a hole costs beside the events in it.
func (l *Log) again() {
	if l.lossy {
		l.did("progress may be gone with the damaged bytes: events that were delivered since may be delivered again")
	}
}

// openTail opens the segments from the checkpoint's on, as far as they are there.
func (l *Log) openTail(c cover, found stored) ([]tailSegment, error) {
	at, _ := slices.BinarySearch(found.segments, c.active)
	var tail []tailSegment
	want, base := c.active, c.base
	for _, number := range found.segments[at:] {
		name := segmentName(l.dir, number)
		f, err := l.fs.Open(name)
		if err != nil {
			return tail, fmt.Errorf("open segment: %w", err)
		}
		g, err := l.loadSegment(name, f, number)
		var corrupt *CorruptError
		switch {
		case err == nil:
		case !errors.As(err, &corrupt):
			return append(tail, tailSegment{file: f}), err
		case corrupt.foreign || want != number:
			// Where its frames belong in the log is not known.
			l.aside = append(l.aside, number)
			l.gaveUp(err, "segment %d is given up: %v", number, err)
			if err := f.Close(); err != nil {
				return tail, err
			}
			continue
		default:
			size, err := f.Size()
			if err != nil {
				return append(tail, tailSegment{file: f}), fmt.Errorf("size of %s: %w", name, err)
			}
			g = &segment{number: number, base: base, size: size, seed: frameSeed(l.store, number)}
			l.did("segment %d: its header is damaged, its frames are read", number)
			tail = append(tail, tailSegment{g, f, true})
			want, base = number+1, g.end()
			continue
		}
		tail = append(tail, tailSegment{g, f, false})
		for ; want < number; want++ {
			l.lossy = true
			l.gaveUp(&CorruptError{File: segmentName(l.dir, want), Reason: "segment is missing"}, "segment %d is missing: what was only there is lost", want)
		}
		want, base = number+1, g.end()
	}
	if len(tail) == 0 {
		l.lossy = true
		l.gaveUp(&CorruptError{File: segmentName(l.dir, c.active), Reason: "segment is missing"}, "segment %d is missing: what was only there is lost", c.active)
	}
	return tail, nil
}

// replayAround replays one segment around its damage.
func (l *Log) replayAround(g tailSegment, c cover, last bool) (torn, error) {
	name := segmentName(l.dir, g.number)
	t := torn{file: g.file, size: g.size}
	if last {
		if err := g.file.Sync(); err != nil {
			return t, fmt.Errorf("sync %s: %w", name, err)
		}
	}
	if err := g.file.Uncache(); err != nil {
		return t, fmt.Errorf("read %s anew: %w", name, err)
	}
	if g.number == c.active {
		g.moves = c.moves
	}
	l.begin(g.segment, segmentHeader)
	g.refs = 1
	holes := l.rescan(g.segment, g.file, c.lsn, &t)
	if g.broken {
		holes++
	}
	if end := g.base + uint64(t.from); g.number == c.active && end < c.lsn {
		holes++
		l.gaveUp(&CorruptError{File: name, Offset: t.from, Reason: "the end is missing"},
			"segment %d ends at %d: frames up to %d were durable", g.number, t.from, c.lsn-g.base)
	} else if !last && !t.footer {
		holes++
		l.lossy = true
		l.gaveUp(&CorruptError{File: name, Offset: t.from, Reason: "the end is missing"},
			"segment %d ends at %d without its footer", g.number, t.from)
	}
	l.tailOff = t.from
	if holes > 0 {
		l.suspects[g.number] = &suspicion{
			cause: &CorruptError{File: name, Reason: "repaired"}, met: make(map[uint32]*roaring64.Bitmap),
		}
	}
	if last {
		if !t.footer {
			l.holed = holes > 0
			l.enterParts()
			from, err := nonZero(g.file, t.from, t.size)
			t.discarded = from < t.size
			return t, err
		}
		entries, err := loadFooter(name, g.file, t.from, g.number, g.seed)
		l.skipNamed(entries)
		return t, err
	}
	if t.from == segmentHeader {
		delete(l.suspects, g.number)
		l.aside = append(l.aside, g.number) // nothing in it is good
		return t, nil
	}
	entries, err := loadFooter(name, g.file, g.size, g.number, g.seed)
	if g.entries = entries; err != nil {
		g.scanned = true
		g.entries = l.activeEntries()
	}
	l.skipNamed(entries)
	l.retire(g.size)
	return t, nil
}

// skipNamed takes the positions that a footer names: the last frames before it
// may be damaged, and what they hold must not be given to others.
func (l *Log) skipNamed(entries []entry) {
	for i := range entries {
		e := &entries[i]
		if s := l.streams[e.stream]; s != nil && e.kind == s.kind {
			l.skip(s, e.last()+1, true)
		}
	}
}

// rescan applies every frame of a segment that verifies and returns how many
// holes there are between them.
func (l *Log) rescan(g *segment, f File, covered uint64, t *torn) (holes int) {
	var c chunk
	var batch []scanned
	apply := func() {
		for i := range batch {
			if err := l.redo(&batch[i], g.base, covered); err != nil {
				holes++
				l.gaveUp(err, "segment %d: the frame at %d is passed over: %v", g.number, batch[i].off, err)
			}
		}
		batch = batch[:0]
	}
	t.from = segmentHeader
	for off := t.from; off < g.size && !t.footer; {
		h, payload, err := c.frame(f, g.seed, off, g.size, g.size)
		if err == nil && h.witness > g.base+uint64(off) {
			err = errors.New("witness lies in the future")
		}
		if err != nil {
			next := resync(f, g, off+frameAlign)
			if next >= g.size {
				break // nothing follows: a torn write, or zeros
			}
			apply() // of a batch what is left: it was acknowledged
			holes++
			l.lossy = l.lossy || g.base+uint64(next) > covered
			l.gaveUp(&CorruptError{File: segmentName(l.dir, g.number), Offset: off, Reason: err.Error()},
				"segment %d: %d bytes at %d are damaged and passed over: %v", g.number, next-off, off, err)
			c.forget()
			off = next
			continue
		}
		batch = append(batch, scanned{h, off, append([]byte(nil), payload...)})
		if off += h.size(); h.flags&flagMore == 0 {
			apply()
			t.from, t.footer = off, h.kind == kindFooter
		}
	}
	return holes
}

// skip makes room in the stream's index for records that are gone, up to pos.
func (l *Log) skip(s *stream, pos channel.Position, fresh bool) {
	if fresh && pos > s.next {
		if s.kind == kindDead {
			if s.skipped == nil {
				s.skipped = roaring64.New()
			}
			s.skipped.AddRange(uint64(s.next), uint64(pos))
		}
		s.next = pos
	}
	if len(s.offsets) > 0 {
		for s.first+channel.Position(len(s.offsets)) < pos {
			s.offsets = append(s.offsets, 0)
			l.records++
		}
	}
}

// resumeRepaired makes what a repair has found good the log: both checkpoints
// are written after it, so that none speaks of what was given up.
func (l *Log) resumeRepaired() error {
	if err := l.declareMissing(); err != nil {
		return err
	}
	if l.holed {
		// A hole is for sealed segments only. Its good records move on and its
		// file is set aside when the log runs.
		if err := l.roll(); err != nil {
			return err
		}
	}
	if len(l.repaired) == 0 {
		return nil
	}
	for range checkpointsKept {
		if err := l.checkpoint(); err != nil {
			return err
		}
	}
	return nil
}

// beginAnew continues a log of which no segment is left after the checkpoint.
func (l *Log) beginAnew(c cover, found stored) error {
	keep := make(map[uint64]bool)
	for _, g := range l.segments {
		keep[g.number] = true
	}
	if err := l.clean(found, keep, c.damaged); err != nil {
		return err
	}
	for _, s := range l.streams {
		s.assign = s.next
	}
	if err := l.prepare(); err != nil {
		return err
	}
	number := c.active + 1
	if n := len(found.segments); n > 0 {
		number = max(number, found.segments[n-1]+1)
	}
	next, err := l.install(number, c.lsn)
	if err != nil {
		return err
	}
	l.begin(next, segmentHeader)
	if err := l.checkpoint(); err != nil {
		return err
	}
	return l.openEpoch()
}
