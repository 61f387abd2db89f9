package disk

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// stream is one dense sequence of positions in the log: the events of one
// shard, or a broker's dead letters. Guarded by Log.mu but for assign.
type stream struct {
	id     uint32
	kind   kind
	broker *broker

	// By first position; no two overlap. Those of sealed segments, and of moves
	// into the active one.
	runs []run

	// lost are positions that were declared lost; nil for none. What is stored
	// there is not changed any more.
	lost atomic.Pointer[roaring64.Bitmap]

	// Of the active segment. offsets grows only at the end and never past len,
	// so readers may hold an old slice header without a lock.
	first       channel.Position
	offsets     []uint32 // in units of 8 bytes
	bytes       int64
	forgiven    int64 // of bytes
	from, until int64

	next   channel.Position // after the last durable record
	assign channel.Position // after the last record given a position; committer only
	touch  uint64           // segment that has room for this stream's entry; committer only
	fresh  int              // records that its follower has not been told of; committer only

	skipped *roaring64.Bitmap // dead letters that a repair found gone

	tail tail
	wake chan struct{} // closed at the next change; nil while nobody waits
}

// run is a stretch of a stream in one segment. It is dense, or, where only
// what was live has been moved, sparse: memory then has the positions, about
// two bytes each, and only the offsets are looked up in the file. A wrong
// offset shows, for the frame names its position; a wrong position would not.
type run struct {
	segment     *segment
	first, last channel.Position
	count       uint32
	at          *roaring.Bitmap // positions - first; nil for a dense run
	table       int64           // of the offsets in the footer
	offsets     []uint32        // instead of table where there is no good footer; 0 for a record that is not there
}

func runOf(g *segment, e *entry) run {
	r := run{segment: g, first: e.first, last: e.last(), count: e.count, table: e.table}
	if e.kind == kindMoved {
		r.at = e.at
	}
	return r
}

// locate finds the first n records at or after from: where the first one's
// offset is in the run's table, and their positions, nil if they are dense.
func (r *run) locate(from channel.Position, n int) (index int, first channel.Position, at []channel.Position, count int) {
	first = max(from, r.first)
	if r.at == nil {
		index = int(first - r.first)
		return index, first, nil, min(n, int(r.count)-index)
	}
	it := r.at.Iterator()
	it.AdvanceIfNeeded(uint32(first - r.first))
	for it.HasNext() && len(at) < n {
		at = append(at, r.first+channel.Position(it.Next()))
	}
	if len(at) == 0 {
		return 0, first, nil, 0
	}
	if at[0] > r.first {
		index = int(r.at.Rank(uint32(at[0]-r.first))) - 1
	}
	return index, at[0], at, len(at)
}

// lookUp reads n offsets of the run from its segment's file.
func (r *run) lookUp(f File, index, n int) ([]uint32, error) {
	if r.offsets != nil {
		return r.offsets[index : index+n], nil
	}
	b := make([]byte, 4*n)
	if _, err := f.ReadAt(b, r.table+4*int64(index)); err != nil {
		return nil, &readError{fmt.Errorf("read footer of segment %d: %w", r.segment.number, err)}
	}
	offsets := make([]uint32, n)
	for i := range offsets {
		offsets[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return offsets, nil
}

// earliest is the first position kept, next if there is none.
func (s *stream) earliest() channel.Position {
	if len(s.runs) > 0 {
		return s.runs[0].first
	}
	if len(s.offsets) > 0 {
		return s.first
	}
	return s.next
}

// find is the first run that ends at or after pos; len(runs) if none does.
func (s *stream) find(pos channel.Position) int {
	return sort.Search(len(s.runs), func(i int) bool { return s.runs[i].last >= pos })
}

// note enters a durable record of the active segment.
func (s *stream) note(pos channel.Position, off, size, time int64) {
	if len(s.offsets) == 0 {
		s.first, s.from = pos, time
	}
	s.offsets = append(s.offsets, uint32(off/frameAlign))
	s.bytes += size
	s.until = time
	if pos >= s.next {
		s.next = pos + 1
	}
}

// sealed turns what the active segment holds of the stream into an entry.
func (s *stream) sealed() (entry, bool) {
	if len(s.offsets) == 0 {
		return entry{}, false
	}
	return entry{
		kind: s.kind, stream: s.id, first: s.first, count: uint32(len(s.offsets)),
		bytes: s.bytes, from: s.from, until: s.until, forgiven: s.forgiven,
	}, true
}

// add enters a run.
func (s *stream) add(r run) {
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].first > r.first })
	s.runs = slices.Insert(s.runs, i, r)
}

// in finds the stream's run in a segment that begins at first; nil if there is none.
func (s *stream) in(g *segment, first channel.Position) *run {
	if i := s.find(first); i < len(s.runs) && s.runs[i].segment == g && s.runs[i].first == first {
		return &s.runs[i]
	}
	return nil
}

// drop forgets a removed segment's runs, and the tail's copies of them.
func (s *stream) drop(g *segment) {
	kept := s.runs[:0]
	for _, r := range s.runs {
		if r.segment != g {
			kept = append(kept, r)
		}
	}
	clear(s.runs[len(kept):])
	s.runs = kept
	for first := s.earliest(); s.tail.len() > 0 && s.tail.at(0).Position < first; {
		s.tail.pop()
	}
}

// waiter is closed at the stream's next change.
func (s *stream) waiter() <-chan struct{} {
	if s.wake == nil {
		s.wake = make(chan struct{})
	}
	return s.wake
}

// signal wakes who waits.
func (s *stream) signal() {
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// tail is the newest records of a stream, dense and in order, so that those
// who keep up never read the disk. What it holds in all is bounded by Log.trim.
type tail struct {
	records []channel.Record
	head    int
}

func (t *tail) len() int                 { return len(t.records) - t.head }
func (t *tail) at(i int) *channel.Record { return &t.records[t.head+i] }
func (t *tail) push(r channel.Record)    { t.records = append(t.records, r) }

func (t *tail) pop() {
	t.records[t.head] = channel.Record{}
	t.head++
	if t.head > 64 && t.head > len(t.records)/2 {
		n := copy(t.records, t.records[t.head:])
		clear(t.records[n:])
		t.records, t.head = t.records[:n], 0
	}
}

// tailRef is one record in the order of the log.
type tailRef struct {
	stream *stream
	bytes  int64
}

// recordOverhead is about what a record in the tail takes beside its event.
const recordOverhead = 96

// remember puts a record into its stream's tail. Under Log.mu.
func (l *Log) remember(s *stream, r channel.Record) {
	bytes := int64(r.Event.Size() + recordOverhead)
	s.tail.push(r)
	l.recent = append(l.recent, tailRef{s, bytes})
	l.recentBytes += bytes
}

// trim forgets the oldest records until the tails keep to their bound. Under Log.mu.
func (l *Log) trim() {
	for l.recentBytes > l.o.TailBytes {
		ref := &l.recent[l.recentHead]
		if ref.stream.tail.len() > 0 {
			ref.stream.tail.pop()
		}
		l.recentBytes -= ref.bytes
		*ref = tailRef{}
		l.recentHead++
	}
	if l.recentHead > 1024 && l.recentHead > len(l.recent)/2 {
		n := copy(l.recent, l.recent[l.recentHead:])
		clear(l.recent[n:])
		l.recent, l.recentHead = l.recent[:n], 0
	}
}
