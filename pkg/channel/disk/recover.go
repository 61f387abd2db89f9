package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-events/penstock/pkg/channel"
)

func isAbsent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// stored is what a directory holds.
type stored struct {
	segments, checkpoints []uint64 // ascending
	temps                 []string
}

func (l *Log) list() (s stored, err error) {
	names, err := l.fs.List(l.dir)
	if err != nil {
		return s, fmt.Errorf("list %s: %w", l.dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".tmp") {
			s.temps = append(s.temps, name)
			continue
		}
		for suffix, list := range map[string]*[]uint64{segmentSuffix: &s.segments, checkpointSuffix: &s.checkpoints} {
			if digits, ok := strings.CutSuffix(name, suffix); ok && isNumbered(name, suffix) {
				if n, err := strconv.ParseUint(digits, 10, 64); err == nil {
					*list = append(*list, n)
				}
			}
		}
	}
	slices.Sort(s.segments)
	slices.Sort(s.checkpoints)
	return s, nil
}

// recover brings the log back to its last durable state and makes it ready
// for the committer. It changes nothing before all is verified.
func (l *Log) recover() error {
	if err := l.bound(); err != nil {
		return err
	}
	found, err := l.list()
	if err != nil {
		return err
	}
	if len(found.checkpoints) == 0 {
		if err := l.checkUnused(found); err != nil {
			return err
		}
		return l.create(found)
	}
	c, t, err := l.verify(found)
	if err != nil {
		return err
	}
	if err := l.resume(c, found, t); err != nil {
		return err
	}
	if l.o.Repair {
		err = l.resumeRepaired()
	} else {
		err = l.declareMissing()
	}
	if err != nil || c.version == formatVersion {
		return err
	}
	// An older build must see at once that the store is none of its own, and
	// not when it meets a frame that it takes for damage.
	l.keep(l.checkpoint())
	return l.stopped()
}

// verify reads what recovery must know and changes nothing, so that Check can
// do it too. The file of t is open unless there is an error.
func (l *Log) verify(found stored) (c cover, t torn, err error) {
	if c, err = l.loadCheckpoint(found); err != nil {
		return c, t, err
	}
	l.store = c.store
	if err := l.loadSealed(c); err != nil {
		return c, t, err
	}
	if l.o.Repair {
		t, err = l.replayDamaged(c, found)
	} else {
		t, err = l.replay(c, found)
	}
	return c, t, err
}

// checkUnused refuses a directory whose checkpoints are gone: only a first
// segment without a single frame may be there, from a start cut short.
func (l *Log) checkUnused(found stored) error {
	for _, number := range found.segments {
		name := segmentName(l.dir, number)
		lost := &CorruptError{File: name, Reason: "the store has segments but no checkpoint"}
		if number != 1 {
			return lost
		}
		f, err := l.fs.Open(name)
		if err != nil {
			return fmt.Errorf("open %s: %w", name, err)
		}
		size, err := f.Size()
		if err == nil {
			var from int64
			from, err = nonZero(f, segmentHeader, size)
			if err == nil && from < size {
				err = lost
			}
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// create makes a new store.
func (l *Log) create(found stored) error {
	if err := l.clean(found, nil, nil); err != nil {
		return err
	}
	for _, number := range found.segments {
		if err := l.fs.Remove(segmentName(l.dir, number)); err != nil {
			return fmt.Errorf("remove empty segment: %w", err)
		}
	}
	if _, err := rand.Read(l.store[:]); err != nil {
		return fmt.Errorf("make an id for the store: %w", err)
	}
	l.epoch = 1
	if err := l.prepare(); err != nil {
		return err
	}
	active, err := l.install(1, 0)
	if err != nil {
		return err
	}
	l.begin(active, segmentHeader)
	if err := l.checkpoint(); err != nil {
		return err
	}
	return l.openEpoch()
}

// openEpoch makes this owner's epoch durable, before anything is acknowledged
// under it. What was recovered gets its witness.
func (l *Log) openEpoch() error {
	if !l.fits(frameHeader, 0) {
		err := l.roll()
		if errors.Is(err, channel.ErrQuota) {
			return l.openFull(err)
		}
		if err != nil {
			return err
		}
	}
	l.frame(frame{kind: kindOpen, time: l.clock()}, nil)
	l.flush()
	l.unwitnessed = false
	if cause := l.latched.Load(); cause != nil {
		return *cause
	}
	l.provide()
	return nil
}

// openFull opens a log that has not even room to say that it was opened: what
// it holds can only go once it is read and settled. A checkpoint says so where
// there is room for one, else the first that there is room for, or the first
// frame: both carry the epoch, and nothing is acknowledged without either.
func (l *Log) openFull(cause error) error {
	l.log.Warn("the log opens without room for anything: it is read until there is", "dir", l.dir, "error", cause)
	l.keep(l.checkpoint())
	return l.stopped()
}

// loadCheckpoint takes the newest checkpoint that is good.
func (l *Log) loadCheckpoint(found stored) (cover, error) {
	var errs []error
	for _, sequence := range slices.Backward(found.checkpoints) {
		name := checkpointName(l.dir, sequence)
		c, body, err := l.readCheckpoint(name)
		var newer *VersionError
		if errors.As(err, &newer) {
			return c, err
		}
		if err == nil {
			if err = l.decodeState(body, c.version); errors.As(err, new(*readError)) {
				err = fmt.Errorf("read %s: %w", name, err)
			} else if err != nil {
				err = &CorruptError{File: name, Reason: err.Error()}
			}
			if err = errors.Join(err, body.close()); err != nil {
				return c, err
			}
			// Never write over a checkpoint that is damaged: it is evidence.
			l.sequence = found.checkpoints[len(found.checkpoints)-1]
			if len(errs) > 0 {
				l.log.Warn("newest checkpoint is damaged: the one before it is used", "dir", l.dir, "error", errors.Join(errs...))
			}
			return c, nil
		}
		errs = append(errs, err)
	}
	return cover{}, errors.Join(errs...)
}

// loadSealed verifies the footers of the segments that the checkpoint names.
func (l *Log) loadSealed(c cover) error {
	for _, want := range c.segments {
		name := segmentName(l.dir, want.number)
		f, err := l.fs.Open(name)
		if isAbsent(err) {
			if err := l.giveUpSealed(want.number, &CorruptError{File: name, Reason: "segment is missing", missing: true}); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("open segment: %w", err)
		}
		if err = l.openSealed(want, name, f); err != nil {
			err = l.giveUpSealed(want.number, err)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// openSealed verifies the footer of one segment and takes it into the state.
// Where header or footer is damaged the frames are asked instead; where the file
// is not the one that was sealed, or belongs to a later version, it is refused.
func (l *Log) openSealed(want covered, name string, f File) error {
	g, err := l.indexed(want, name, f)
	if err != nil && errors.As(err, new(*readError)) {
		g, err = l.indexed(want, name, f) // perhaps it was for once
	}
	if err == nil {
		l.addSealed(g)
		return nil
	}
	if corrupt, ok := errors.AsType[*CorruptError](err); errors.As(err, new(*VersionError)) || ok && corrupt.foreign {
		return err
	}
	l.incomplete = err
	_, err = l.salvage(want, f, err)
	return err
}

// indexed is a sealed segment with the entries of its footer.
func (l *Log) indexed(want covered, name string, f File) (*segment, error) {
	g, err := l.loadSegment(name, f, want.number)
	if err != nil {
		return nil, err
	}
	if g.base != want.base {
		return nil, &CorruptError{File: name, foreign: true, Reason: fmt.Sprintf(
			"segment from %d is not the one that was sealed from %d", g.base, want.base)}
	}
	if uint64(g.size) != want.size {
		return nil, &CorruptError{File: name, Offset: g.size, Reason: fmt.Sprintf(
			"segment of %d bytes was sealed with %d", g.size, want.size)}
	}
	g.moves = want.moves
	g.entries, err = loadFooter(name, f, g.size, g.number, g.seed)
	return g, err
}

// loadSegment reads a segment's header.
func (l *Log) loadSegment(name string, f File, number uint64) (*segment, error) {
	var h [segmentHeader]byte
	size, err := f.Size()
	if err != nil {
		return nil, fmt.Errorf("size of %s: %w", name, err)
	}
	if size < segmentHeader {
		return nil, &CorruptError{File: name, Offset: size, foreign: true, Reason: "file is too short for a segment"}
	}
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	base, store, err := parseSegmentHeader(name, h[:], number)
	if err != nil {
		return nil, err
	}
	if store != l.store {
		return nil, &CorruptError{File: name, foreign: true, Reason: "segment belongs to another store"}
	}
	return &segment{number: number, base: base, seed: frameSeed(l.store, number), size: size}, nil
}

// addSealed takes a sealed segment's entries into the state.
func (l *Log) addSealed(g *segment) {
	l.segments = append(l.segments, g)
	l.sealedBytes += g.size
	for i := range g.entries {
		e := &g.entries[i]
		s := l.streams[e.stream]
		if s == nil {
			continue // of a broker that was removed
		}
		if e.kind == kindBroker {
			s.broker.bytes.Add(e.bytes)
			continue
		}
		s.charge(e.bytes)
		if e.kind != kindMoved || g.counts(e.move) {
			s.add(runOf(g, e))
		} else {
			e.at = nil
		}
	}
}

// replay verifies every frame from the checkpoint's segment on and applies
// those that the checkpoint does not cover.
func (l *Log) replay(c cover, found stored) (torn, error) {
	at, _ := slices.BinarySearch(found.segments, c.active)
	tail := found.segments[at:]
	if len(tail) == 0 || tail[0] != c.active {
		return torn{}, &CorruptError{File: segmentName(l.dir, c.active), Reason: "segment is missing"}
	}
	l.epoch = c.epoch
	for i, number := range tail {
		if number != c.active+uint64(i) {
			return torn{}, &CorruptError{File: segmentName(l.dir, c.active+uint64(i)), Reason: "segment is missing"}
		}
		last := i == len(tail)-1
		t, err := l.replaySegment(number, c, last)
		if err != nil {
			if t.file != nil {
				t.file.Close()
			}
			return torn{}, err
		}
		if last {
			l.epoch++
			if !t.footer { // else they are entered from the footer
				l.enterParts()
			}
			return t, nil
		}
		g := l.active
		g.entries, err = loadFooter(segmentName(l.dir, number), t.file, g.size, number, g.seed)
		if err = errors.Join(err, t.file.Close()); err != nil {
			return torn{}, err
		}
		l.retire(t.from)
	}
	return torn{}, nil
}

// enterParts gives the streams what was moved into the active segment.
func (l *Log) enterParts() {
	for _, p := range l.active.parts {
		if s := l.streams[p.stream]; s != nil && l.active.counts(p.move) {
			s.add(p.run())
		}
	}
}

// replaySegment scans one segment. Only the last one may end in the middle.
func (l *Log) replaySegment(number uint64, c cover, last bool) (t torn, err error) {
	name := segmentName(l.dir, number)
	if t.file, err = l.fs.Open(name); err != nil {
		return t, fmt.Errorf("open segment: %w", err)
	}
	if last {
		// First the sync, then the reading: what is only in this machine's
		// memory must not be taken for stored.
		if err := t.file.Sync(); err != nil {
			return t, fmt.Errorf("sync %s: %w", name, err)
		}
		if err := t.file.Uncache(); err != nil {
			return t, fmt.Errorf("read %s anew: %w", name, err)
		}
	}
	g, err := l.loadSegment(name, t.file, number)
	if err != nil {
		return t, err
	}
	if number == c.active && g.base > c.lsn {
		return t, &CorruptError{File: name, Reason: "segment begins after the checkpoint that names it"}
	}
	if prev := l.active; prev != nil && g.base != prev.end() {
		return t, &CorruptError{File: name, Reason: fmt.Sprintf("segment begins at %d, the one before it ends at %d", g.base, prev.end())}
	}
	if number == c.active {
		g.moves = c.moves
	}
	t.size = g.size
	l.begin(g, segmentHeader)
	g.refs = 1
	sc := scan{log: l, name: name, file: t.file, segment: g, covered: c.lsn}
	if err := sc.run(); err != nil {
		return t, err
	}
	l.tailOff, t.from, t.footer = sc.end, sc.end, sc.footer
	if end := g.base + uint64(sc.end); end < c.lsn && number == c.active {
		return t, sc.damaged(fmt.Sprintf("frames up to %d were durable", int64(c.lsn-g.base)))
	}
	if !last {
		if !sc.footer || sc.end != g.size {
			return t, sc.damaged("a later segment follows, so this one must be whole")
		}
		return t, nil
	}
	return t, sc.lookAhead(&t)
}

// resume makes the recovered log writable: from here on files change.
func (l *Log) resume(c cover, found stored, t torn) error {
	// The last owner may have died before it had synced the names that were
	// found: nothing may be built on a file that a power cut can still take.
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("sync %s: %w", l.dir, err)
	}
	if t.file == nil {
		return l.beginAnew(c, found)
	}
	l.active.file = t.file
	if err := l.clean(found, l.keeps(c), c.damaged); err != nil {
		return err
	}
	if t.discarded { // after clean: it may have to make the room
		if err := l.saveTorn(t); isFull(err) { // not worth a log that does not open
			l.log.Warn("the last write was cut short: there is no room to keep its bytes, never acknowledged", "dir", l.dir, "error", err)
		} else if err != nil {
			return err
		}
	}
	for _, s := range l.streams {
		s.assign = s.next
	}
	if t.footer {
		return l.resumeSealed(t)
	}
	// Only now is what lies behind the end known to be worth nothing.
	if t.discarded {
		if err := t.blank(); err != nil {
			return fmt.Errorf("cut torn tail of segment %d: %w", l.active.number, err)
		}
	}
	if t.size < l.segmentSize {
		if err := t.file.Allocate(l.segmentSize); err != nil && !isFull(err) {
			return fmt.Errorf("reserve segment %d: %w", l.active.number, err)
		}
	}
	if t.discarded || t.size < l.segmentSize {
		if err := t.file.Sync(); err != nil {
			return fmt.Errorf("sync segment %d: %w", l.active.number, err)
		}
	}
	return l.openEpoch()
}

// resumeSealed finishes a roll that was cut short after the footer. Where there
// is no room for the next segment the log opens without.
func (l *Log) resumeSealed(t torn) error {
	if err := t.file.Truncate(t.from); err != nil {
		return fmt.Errorf("cut sealed segment %d: %w", l.active.number, err)
	}
	if err := t.file.Sync(); err != nil {
		return fmt.Errorf("sync segment %d: %w", l.active.number, err)
	}
	g := l.active
	var err error
	g.entries, err = loadFooter(segmentName(l.dir, g.number), t.file, t.from, g.number, g.seed)
	if err != nil {
		return err
	}
	for i := range g.entries {
		if e := &g.entries[i]; e.kind == kindMoved && g.counts(e.move) {
			if s := l.streams[e.stream]; s != nil {
				s.add(runOf(g, e))
			}
		}
	}
	g.footed = true
	return l.openEpoch()
}

// keeps are the segments that are part of the log.
func (l *Log) keeps(c cover) map[uint64]bool {
	keep := make(map[uint64]bool)
	for _, g := range l.segments {
		keep[g.number] = true
	}
	for n := c.active; n <= l.active.number; n++ {
		keep[n] = !slices.Contains(l.aside, n)
	}
	return keep
}

// clean removes what an earlier owner left half made, and sets aside what a
// repair gives up. What that owner had dropped goes when two more checkpoints
// have done without it.
func (l *Log) clean(found stored, keep map[uint64]bool, damaged []uint64) error {
	for _, name := range found.temps {
		if err := l.fs.Remove(filepath.Join(l.dir, name)); err != nil {
			return fmt.Errorf("remove unfinished file: %w", err)
		}
	}
	if keep == nil {
		return nil
	}
	for _, number := range found.segments {
		if keep[number] {
			continue
		}
		if slices.Contains(l.aside, number) {
			if err := l.setAside(number); err != nil {
				return err
			}
			continue
		}
		// The older checkpoint may name it still, and be needed once more.
		g := &segment{number: number, dropped: true, damaged: slices.Contains(damaged, number)}
		l.garbage = append(l.garbage, garbage{g, l.sequence})
		l.unrecorded = true
	}
	return nil
}
