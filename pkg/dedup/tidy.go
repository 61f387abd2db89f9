package dedup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// refusal reports whether nothing was stored for certain.
func refusal(err error) bool {
	_, refused := errors.AsType[*channel.Refused](err)
	return refused && !errors.Is(err, channel.ErrUnknown)
}

// flush writes what has become known since the last time, with how far the
// log is covered by it. It reports whether there is more to write before long:
// events under way, or a log that moves, of which each mark counts one flush later.
func (s *set) flush() (busy bool) {
	s.io.Lock()
	defer s.io.Unlock()
	if s.gone.Load() {
		return false
	}
	// First where the log stands, then the change of epoch: an append whose
	// position is below has begun before it.
	marks := covered{}
	for _, shard := range s.log.Shards() {
		_, next := s.log.Range(shard)
		marks[shard] = next
	}
	now := s.a.o.Now()
	s.mu.Lock()
	if len(s.active.entries) > 0 && now.Sub(time.Unix(int64(s.active.oldest), 0)) >= s.span() {
		s.freeze()
	}
	moved := false
	if !s.stuck && s.flying[(s.epoch+1)&1] == 0 {
		moved = !maps.Equal(s.covered, s.marks)
		s.covered, s.marks = s.marks, marks
		s.epoch++
		busy = !maps.Equal(s.covered, s.marks)
	}
	busy = busy || moved || s.flying != [2]int{}
	reached := s.covered
	frozen, active := slices.Clone(s.frozen), s.active
	fresh := make([][]entry, 0, len(frozen)+1)
	for _, g := range append(frozen, active) {
		fresh = append(fresh, g.fresh)
		busy = busy || len(g.fresh) > 0
		g.fresh = nil
	}
	since := s.since(now)
	untidy := len(frozen) > 0 || len(s.tables) > 0 && s.tables[len(s.tables)-1].newest < since
	s.mu.Unlock()
	if untidy {
		busy = true
		select {
		case s.a.frozen <- struct{}{}:
		default:
		}
	}
	if s.dir == "" {
		return busy
	}
	for i, g := range append(frozen, active) {
		is := covered(nil) // what is in a younger generation is not covered by an older
		if g == active {
			is = reached
		}
		if len(fresh[i]) == 0 && (g != active || !moved && g.journal != nil) {
			continue
		}
		if err := s.journalize(g, frozen, is, fresh[i]); err != nil {
			s.wrong("known events cannot be written: after a crash they are read from the log, as far as it has them", err)
			s.mu.Lock()
			for j := i; j < len(fresh); j++ {
				g := append(frozen, active)[j]
				g.fresh = append(fresh[j], g.fresh...)
			}
			s.mu.Unlock()
			return true
		}
	}
	return busy
}

// journalize writes one frame. Before a generation writes its first, those
// before it are synced: what it says to be covered must outlive them.
func (s *set) journalize(g *generation, frozen []*generation, is covered, fresh []entry) error {
	if g.journal == nil {
		for _, before := range frozen {
			if before != g && before.journal != nil {
				if err := before.journal.file.Sync(); err != nil {
					return err
				}
			}
		}
		j, err := createJournal(s.journalPath(g.number))
		if err != nil {
			return err
		}
		g.journal = j
	}
	return g.journal.write(s.mark, is, fresh)
}

// close writes down what is known, for good.
func (s *set) close() error {
	s.flush()
	s.io.Lock()
	defer s.io.Unlock()
	if s.gone.Load() || s.active.journal == nil {
		return nil
	}
	if err := s.active.journal.file.Sync(); err != nil {
		return fmt.Errorf("events known of broker %s: %w", s.name, err)
	}
	return nil
}

// tidy makes tables of generations, merges tables, and lets go what is older
// than the window or more than there is room for.
func (s *set) tidy(ctx context.Context) {
	s.work.Lock()
	defer s.work.Unlock()
	s.mu.Lock()
	lost := s.lost
	s.lost = nil
	s.mu.Unlock()
	s.io.Lock()
	for _, g := range lost {
		s.dropJournal(g)
	}
	s.io.Unlock()
	for ctx.Err() == nil && !s.gone.Load() {
		s.expire()
		g := s.oldestFrozen()
		if g == nil {
			break
		}
		if err := s.seal(g); err != nil {
			s.wrong("known events cannot be written: they stay in memory as long as there is room", err)
			return
		}
	}
	for ctx.Err() == nil && !s.gone.Load() {
		run := s.mergeable()
		if run == nil {
			return
		}
		if err := s.merge(run); err != nil {
			s.wrong("known events cannot be written: their files stay as they are", err)
			return
		}
		s.expire()
	}
}

func (s *set) oldestFrozen() *generation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.frozen) == 0 {
		return nil
	}
	return s.frozen[0]
}

// seal makes a table of a generation that is frozen.
func (s *set) seal(g *generation) error {
	var t *table
	if g.newest >= s.since(s.a.o.Now()) {
		all := make([]entry, 0, len(g.entries))
		for h, k := range g.entries {
			all = append(all, entry{h, k})
		}
		slices.SortFunc(all, func(a, b entry) int {
			return cmp.Or(cmp.Compare(a.hash.first(), b.hash.first()), bytes.Compare(a.hash[:], b.hash[:]))
		})
		var err error
		t, err = s.write(footer{covered: g.covered}, g.number, len(all), func(yield func(*entry) error) error {
			for i := range all {
				if err := yield(&all[i]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.frozen = slices.DeleteFunc(slices.Clone(s.frozen), func(f *generation) bool { return f == g })
	if t != nil {
		s.tables = append([]*table{t}, s.tables...)
		s.bytes += t.bytes
	}
	s.mu.Unlock()
	s.io.Lock()
	defer s.io.Unlock()
	s.dropJournal(g)
	return nil
}

// dropJournal is called with s.io held.
func (s *set) dropJournal(g *generation) {
	if g.journal != nil {
		_ = g.journal.close()
		_ = os.Remove(g.journal.path)
		g.journal = nil
	}
}

// write makes a table, nil where there is no entry.
func (s *set) write(f footer, number uint64, most int, entries func(yield func(*entry) error) error) (*table, error) {
	f.key = s.mark
	if s.dir == "" {
		var b bytes.Buffer
		if err := writeTable(&b, f, most, entries); err != nil {
			return nil, err
		}
		return openTableBytes(b.Bytes(), number)
	}
	path := s.tablePath(number, f.level)
	if err := replace(path, func(file *os.File) error { return writeTable(file, f, most, entries) }); err != nil {
		return nil, err
	}
	return openTableFile(path, number)
}

// mergeable finds neighbours that are better one table: four that were merged
// equally often, or any that nothing is added to any more. A table never spans
// more than a part of the window, nor of the room: so little goes too early.
func (s *set) mergeable() []*table {
	s.mu.Lock()
	tables := slices.Clone(s.tables)
	s.mu.Unlock()
	slices.Reverse(tables) // the oldest first
	span, room := uint32(s.span()/time.Second), s.a.o.MaxBytes/slicesOf
	old := uint32(max(0, s.a.o.Now().Add(-s.span()).Unix()))
	fits := func(run []*table) bool {
		bytes, oldest, newest := int64(0), run[0].oldest, run[0].newest
		for _, t := range run {
			bytes += t.bytes
			oldest, newest = min(oldest, t.oldest), max(newest, t.newest)
		}
		return bytes <= room && newest-oldest <= span
	}
	const fan = 4
	for i := 0; i+fan <= len(tables); i++ {
		run := tables[i : i+fan]
		if fits(run) && !slices.ContainsFunc(run, func(t *table) bool { return t.level != run[0].level }) {
			return run
		}
	}
	for i := range tables {
		j := i
		for j < len(tables) && tables[j].newest < old && fits(tables[i:j+1]) {
			j++
		}
		if j-i > 1 {
			return tables[i:j]
		}
	}
	return nil
}

// merge makes one table of several neighbours, the oldest first.
func (s *set) merge(run []*table) error {
	last := run[len(run)-1]
	f, most := footer{covered: covered{}}, 0
	for _, t := range run {
		f.level = max(f.level, t.level)
		f.covered.merge(t.covered)
		most += t.count
	}
	f.level = min(f.level+1, 255)
	errGone := errors.New("broker is gone")
	t, err := s.write(f, last.number, most, func(yield func(*entry) error) error {
		return merged(run, s.since(s.a.o.Now()), func(err error) {
			s.wrong("what is known of events cannot be read, some may be stored twice", err)
		}, func(e *entry) error {
			if s.gone.Load() {
				return errGone
			}
			return yield(e)
		})
	})
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	var next []*table
	for _, old := range s.tables {
		if old == last {
			next = append(next, t)
		}
		if slices.Contains(run, old) {
			s.bytes -= old.bytes
			continue
		}
		next = append(next, old)
	}
	s.tables = next
	s.bytes += t.bytes
	s.mu.Unlock()
	for _, old := range run {
		s.drop(old)
	}
	return nil
}

// drop lets a table go that is no longer listed.
func (s *set) drop(t *table) {
	t.release()
	if t.path != "" {
		_ = os.Remove(t.path)
	}
}

// expire lets tables go whose last entry is out of the window, and the oldest
// while there are more than there is room for.
func (s *set) expire() {
	since := s.since(s.a.o.Now())
	s.mu.Lock()
	tables := s.tables
	for n := len(tables); n > 0; n = len(tables) {
		if last := tables[n-1]; last.newest >= since && s.bytes <= s.a.o.MaxBytes {
			break
		} else if last.newest >= since {
			s.shorten(last.newest)
		}
		s.bytes -= tables[n-1].bytes
		tables = tables[:n-1]
	}
	gone := s.tables[len(tables):]
	s.tables = tables[:len(tables):len(tables)]
	s.mu.Unlock()
	for _, t := range gone {
		s.drop(t)
	}
}
