package disk

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// A sealed segment that does not read back as it was written is quarantined:
// what is good and needed of it moves on, what is needed and damaged is declared
// lost, and the file is set aside under another name, never to be read again.
//
// Damaged is what does not verify twice, the second time from the medium. An
// error of reading is no proof: the segment is examined again every
// examineEvery, and only what cannot be read persistAfter is taken for damaged.
// Where there is no room to move, the segment stays and reads report its gaps.
const (
	examineEvery = 10 * time.Second
	persistAfter = time.Minute
)

// suspicion is what is known against a segment. Guarded by Log.mu.
type suspicion struct {
	cause error
	since time.Time                    // zero: from before the start
	next  time.Time                    // not to be examined before
	met   map[uint32]*roaring64.Bitmap // by stream: what readers were told is damaged
}

// suspect hears of a segment that does not read back as it was written. It is
// examined at the next housekeeping.
func (l *Log) suspect(number uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspectLocked(number, err)
}

func (l *Log) suspectLocked(number uint64, err error) *suspicion {
	x := l.suspects[number]
	if x == nil {
		x = &suspicion{cause: err, since: time.Now(), met: make(map[uint32]*roaring64.Bitmap)}
		l.suspects[number] = x
		l.stir()
	}
	return x
}

// doubt is suspect under Log.mu.
func (l *Log) doubt(g *segment, err error) { l.suspectLocked(g.number, err) }

// met notes a record that a reader could not be given: it has gone on without
// it, so that nobody may need it any more when the segment is examined.
func (l *Log) met(s *stream, pos channel.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.active
	if i := s.find(pos); i < len(s.runs) {
		g = s.runs[i].segment
	}
	if x := l.suspects[g.number]; x != nil {
		if x.met[s.id] == nil {
			x.met[s.id] = roaring64.New()
		}
		x.met[s.id].Add(uint64(pos))
	}
}

// due is the next suspect to be examined; nil for none.
func (l *Log) due() (*segment, *suspicion) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for number, x := range l.suspects {
		at, kept := l.sealed(number)
		if !kept {
			if number != l.active.number {
				delete(l.suspects, number) // it is gone, and with it the question
			}
			continue
		}
		if !x.next.After(now) && !l.segments[at].outsized { // what cannot be moved stays, with its gaps
			x.next = now.Add(examineEvery)
			return l.segments[at], x
		}
	}
	return nil, nil
}

// nextQuarantine examines suspects and makes the move that takes a damaged
// one out of the log.
func (l *Log) nextQuarantine(between func()) *move {
	for {
		g, x := l.due()
		if g == nil {
			return nil
		}
		found, err := l.inspect(g, between)
		if err != nil {
			if x.since.IsZero() {
				x.since = time.Now()
			}
			if !found.unreadable || time.Since(x.since) < persistAfter {
				l.log.Warn("suspected segment cannot be read: it is tried again", "dir", l.dir, "segment", g.number, "error", err)
				continue
			}
		}
		if found.damage == nil {
			l.log.Info("suspected segment reads well", "dir", l.dir, "segment", g.number, "error", x.cause)
			l.mu.Lock()
			delete(l.suspects, g.number)
			l.mu.Unlock()
			continue
		}
		if m := l.isolate(g, x, found); m != nil {
			return m
		}
	}
}

// inspect examines a segment of the log.
func (l *Log) inspect(g *segment, between func()) (salvage, error) {
	l.mu.Lock()
	err := l.acquire(g)
	l.mu.Unlock()
	if err != nil {
		return salvage{damage: err, unreadable: !isExhausted(err)}, fmt.Errorf("open segment %d: %w", g.number, err)
	}
	defer l.release(g)
	return examine(g.file, segmentName(l.dir, g.number), g, between)
}

// isolate makes the move of what is good of a damaged segment. From then on
// its records are found where they verified, for its footer may be wrong.
func (l *Log) isolate(g *segment, x *suspicion, found salvage) *move {
	view := l.survey()
	l.mu.Lock()
	l.refresh(view)
	v := l.judge(g, g.entries, view, l.retained(func(*broker) bool { return false }))
	loss := &loss{cause: found.damage}
	for id, met := range x.met {
		s := l.streams[id]
		for it := met.Iterator(); s != nil && it.HasNext(); {
			if pos := channel.Position(it.Next()); found.offsets[id][pos] == 0 && s.has(g, pos) {
				loss.note(s, pos)
			}
		}
	}
	for id := range g.streams() {
		if s := l.streams[id]; s != nil {
			s.reindex(g, found.offsets[id])
		}
	}
	l.mu.Unlock()
	if !l.roomFor(v.live) {
		l.log.Warn("damaged segment stays until there is room for what is good of it", "dir", l.dir, "segment", g.number, "error", found.damage)
		return nil
	}
	m := l.listLive(v)
	if m != nil {
		m.loss = loss
		l.log.Error("damaged segment: what is good of it is moved, and its file is set aside",
			"dir", l.dir, "segment", g.number, "file", filepath.Base(damagedName(l.dir, g.number)), "error", found.damage)
	}
	return m
}

// streams are the numbers of those that have records in the segment.
func (s *segment) streams() map[uint32]bool {
	ids := make(map[uint32]bool)
	for i := range s.entries {
		if s.entries[i].kind != kindBroker {
			ids[s.entries[i].stream] = true
		}
	}
	return ids
}

// has reports whether a segment is where the position is looked for. Under Log.mu.
func (s *stream) has(g *segment, pos channel.Position) bool {
	i := s.find(pos)
	return i < len(s.runs) && s.runs[i].segment == g && s.runs[i].first <= pos
}

// reindex has the stream's runs in a segment find their records where they
// were seen: 0 is for those that were not. Under Log.mu.
func (s *stream) reindex(g *segment, seen map[channel.Position]uint32) {
	for i := range s.runs {
		if r := &s.runs[i]; r.segment == g {
			r.offsets = make([]uint32, 0, r.count)
			for _, pos := range r.each(r.first, nil) {
				r.offsets = append(r.offsets, seen[pos])
			}
		}
	}
}

// loss is what a quarantine finds damaged.
type loss struct {
	cause error
	of    map[*stream]*roaring64.Bitmap
}

func (x *loss) note(s *stream, pos channel.Position) {
	if x.of == nil {
		x.of = make(map[*stream]*roaring64.Bitmap)
	}
	if x.of[s] == nil {
		x.of[s] = roaring64.New()
	}
	x.of[s].Add(uint64(pos))
}

// declareLoss makes durable what a quarantine has found damaged. Only then may
// the segment go.
func (l *Log) declareLoss(m *move) error {
	var all []declaration
	for s, lost := range m.loss.of {
		if s.kind == kindDead {
			l.mu.Lock()
			lost.And(s.live().set) // what was discarded meanwhile nobody misses
			l.mu.Unlock()
		}
		if s.broker.gone.Load() || lost.IsEmpty() {
			continue
		}
		all = append(all, declaration{stream: s, lost: lost, found: l.o.Now(), cause: oneLine(m.loss.cause)})
	}
	return l.declare(all)
}

// oneLine is an error as it is kept: one line, not without end.
func oneLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), 500)]
}

func damagedName(dir string, number uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d%s", number, damagedSuffix))
}

// setAside takes a dropped segment's file out of the log and keeps it.
func (l *Log) setAside(number uint64) error {
	err := l.fs.Rename(segmentName(l.dir, number), damagedName(l.dir, number))
	if err == nil {
		err = l.fs.SyncDir(l.dir)
	}
	if err != nil && !isAbsent(err) {
		return fmt.Errorf("set damaged segment %d aside: %w", number, err)
	}
	return nil
}
