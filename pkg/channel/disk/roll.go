package disk

import (
	"errors"
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
)

// roll seals the active segment and begins the next. The committer calls it
// with nothing in its buffer. An error before the first byte was written is a
// clean refusal; after that the log is latched.
func (l *Log) roll() error {
	if err := l.stopped(); err != nil {
		return err
	}
	if err := l.prepare(); err != nil {
		return l.unprepared(err)
	}
	sealed, err := l.sealActive()
	if err != nil {
		l.latch(err)
		return l.stopped()
	}
	next, err := l.install(l.active.number+1, l.active.base+uint64(sealed))
	if err != nil {
		l.latch(err)
		return l.stopped()
	}
	l.mu.Lock()
	l.retire(sealed)
	l.begin(next, segmentHeader)
	l.mu.Unlock()
	// Before the first frame: from now on a checkpoint knows of this segment,
	// so that its loss would be noticed.
	l.keep(l.checkpoint())
	return l.stopped()
}

// unprepared turns the want of a next segment into a refusal.
func (l *Log) unprepared(err error) error {
	switch {
	case isFull(err):
		l.unpin()
		l.setFull(err.Error())
		return l.refused(fmt.Errorf("%w: %w", channel.ErrQuota, err))
	case isExhausted(err):
		return l.refused(fmt.Errorf("%w: %w", channel.ErrUnavailable, err))
	default:
		l.latch(err)
		return l.stopped()
	}
}

// sealActive writes the footer behind the last frame, cuts the file there and
// returns its length. The entries stay with the segment.
func (l *Log) sealActive() (int64, error) {
	if l.active.footed {
		return l.tailOff, nil
	}
	l.mu.Lock()
	entries := l.activeEntries()
	tables := make([][]uint32, len(entries))
	for i := range entries {
		if s := l.streams[entries[i].stream]; s != nil && entries[i].kind == s.kind {
			tables[i] = s.offsets
		}
	}
	moved := len(entries) - len(l.active.parts)
	for i, p := range l.active.parts {
		tables[moved+i] = p.offsets
	}
	l.mu.Unlock()
	payload := putFooter(l.active.number, l.tailOff, entries, tables)
	l.frame(frame{kind: kindFooter, sum: checksum(payload), time: l.clock()}, payload)
	size := l.end()
	f := l.active.file
	err := l.spill()
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return 0, fmt.Errorf("seal segment %d: %w", l.active.number, err)
	}
	l.active.entries = entries
	for i, p := range l.active.parts {
		p.table = entries[moved+i].table
	}
	return size, nil
}

// activeEntries sums up what the active segment holds: what was appended to
// each stream, what each broker wrote beside, and last what was moved into it.
// Under Log.mu.
func (l *Log) activeEntries() []entry {
	var entries []entry
	for _, s := range l.streams {
		if e, ok := s.sealed(); ok {
			entries = append(entries, e)
		}
	}
	for _, b := range *l.brokers.Load() {
		if b.other.kind != 0 {
			entries = append(entries, b.other)
		}
	}
	for _, p := range l.active.parts {
		entries = append(entries, p.entry)
	}
	return entries
}

// retire moves the active segment, sealed at a length, to the sealed ones:
// its entries become runs. Under Log.mu.
func (l *Log) retire(size int64) {
	g := l.active
	g.size = size
	for i := range g.entries {
		e := &g.entries[i]
		s := l.streams[e.stream]
		if s == nil || e.kind == kindBroker {
			continue
		}
		if e.kind != kindMoved {
			r := runOf(g, e)
			if g.scanned {
				r.offsets = s.offsets
			}
			s.add(r)
			s.offsets, s.bytes, s.forgiven = nil, 0, 0
			continue
		}
		if !g.counts(e.move) {
			continue
		}
		if r := s.in(g, e.first); r != nil {
			r.table, r.offsets = e.table, nil // the footer has them from now on
		} else if g.scanned {
			s.add(g.parts[i+len(g.parts)-len(g.entries)].run())
		} else {
			s.add(runOf(g, e))
		}
	}
	for _, p := range g.parts {
		p.offsets = nil
	}
	g.parts = nil
	for _, b := range *l.brokers.Load() {
		b.other = entry{}
	}
	g.refs--
	l.segments = append(l.segments, g)
	l.sealedBytes += size
	if g.file != nil {
		l.open = append(l.open, g)
		l.closeSome()
	}
}

// begin makes a segment the active one. Under Log.mu.
func (l *Log) begin(g *segment, off int64) {
	l.active, l.tailOff, l.spilt = g, off, 0
	l.records, l.entries = 0, 0
}

// provide looks ahead: it makes the next segment when the active one is half
// full, and refuses events as long as there cannot be one. The rest of the
// active segment is then the reserve in which progress and dead letters go
// on. Committer only.
func (l *Log) provide() {
	full := l.tight()
	if l.tailOff > l.segmentSize/2 || l.active.footed {
		if err := l.prepare(); isFull(err) {
			full = err.Error()
		} else if err != nil && !isExhausted(err) {
			l.latch(err)
			return
		}
	}
	if full != "" {
		l.unpin()
	}
	if bytes := l.sealedBytes + l.tailOff; l.maxBytes > 0 && bytes > l.maxBytes-l.reserved() {
		full = fmt.Sprintf("the log has %d of the %d bytes it may have", bytes, l.maxBytes)
	}
	l.setFull(full)
}

// setFull makes events refused for a reason, or accepted where why is "".
func (l *Log) setFull(why string) {
	l.vitals.because(why)
	full := why != ""
	if l.full.Swap(full) == full {
		return
	}
	if full {
		l.log.Error("no room for events: they are refused until there is", "dir", l.dir,
			"reason", why, "bytes", l.sealedBytes+l.tailOff, "max-bytes", l.maxBytes)
	} else {
		l.log.Info("there is room for events again", "dir", l.dir)
	}
}

// minSegments is how many segments the log has room for, at least: the
// active one is not removed however settled it is, so it must be a small part.
const minSegments = 8

// bound reads the size of the volume where no bound was given, and makes
// segments small enough for it.
func (l *Log) bound() error {
	if l.maxBytes <= 0 {
		total, _, err := l.fs.Space(l.dir)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("size of the volume of %s: %w", l.dir, err)
		}
		l.maxBytes = total / 5 * 4
	}
	if l.maxBytes > 0 {
		l.segmentSize = max(min(l.segmentSize, l.maxBytes/minSegments&^4095), minSegmentSize)
	}
	return nil
}
