package disk

import (
	"sort"

	"github.com/penstock-events/penstock/pkg/channel"
)

// stream is one dense sequence of positions in the log: the events of one
// shard, or a broker's dead letters. Guarded by Log.mu but for assign.
type stream struct {
	id     uint32
	kind   kind
	broker *broker

	runs []run // in sealed segments, by first position

	// Of the active segment. offsets grows only at the end and never past len,
	// so readers may hold an old slice header without a lock.
	first       channel.Position
	offsets     []uint32 // in units of 8 bytes
	bytes       int64
	from, until int64

	next   channel.Position // after the last durable record
	assign channel.Position // after the last record given a position; committer only
	touch  uint64           // segment that has room for this stream's entry; committer only

	tail tail
	wake chan struct{} // closed at the next change; nil while nobody waits
}

// run is a stretch of a stream in one sealed segment.
type run struct {
	segment *segment
	first   channel.Position
	count   uint32
	table   int64
}

func (r *run) end() channel.Position { return r.first + channel.Position(r.count) }

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

// find is the first run that ends after pos; len(runs) if none does.
func (s *stream) find(pos channel.Position) int {
	return sort.Search(len(s.runs), func(i int) bool { return s.runs[i].end() > pos })
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
func (s *stream) sealed() (entry, []uint32, bool) {
	if len(s.offsets) == 0 {
		return entry{}, nil, false
	}
	e := entry{
		kind: s.kind, stream: s.id, first: s.first, count: uint32(len(s.offsets)),
		bytes: s.bytes, from: s.from, until: s.until,
	}
	return e, s.offsets, true
}

// add enters a sealed segment's run.
func (s *stream) add(g *segment, e entry) {
	r := run{segment: g, first: e.first, count: e.count, table: e.table}
	i := sort.Search(len(s.runs), func(i int) bool { return s.runs[i].first > r.first })
	s.runs = append(s.runs, run{})
	copy(s.runs[i+1:], s.runs[i:])
	s.runs[i] = r
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
