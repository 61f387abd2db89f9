package memory

import (
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// A slab is as large as makes its fixed costs vanish, and no larger: one
	// pending event can hold two of its size until it is copied out.
	maxSlab = 64 << 10
	minSlab = 4 << 10

	// indexBytes is what an event costs beside its own bytes.
	indexBytes = 24
)

// segment is a run of neighbouring positions: a slab with the bytes of their
// events, and an index. Nothing in it points anywhere else.
//
// Bytes of slab are written once, before anybody can see them, so that views
// of them need no lock.
type segment struct {
	base    channel.Position // of index[0]
	slab    []byte           // grows within its capacity until sealed
	index   []entry
	kept    int // entries that hold an event
	live    int // bytes of these
	settled int // of these, those kept for retention only
	sealed  bool
	touched bool // on its shard's list of segments to look after
}

// entry is one position of a segment.
type entry struct {
	time   int64  // of the append, in nanoseconds of Unix time
	offset uint32 // in the slab
	size   uint32 // 0 where the event is gone
	lanes  uint32 // how many have it pending
	state  state
}

type state uint8

const (
	open     state = iota // pending on a lane, or not yet scanned
	retained              // settled, and kept by retention
)

// newSegment makes room for an event of this size, in a slab that suits a
// shard which holds so many bytes.
func newSegment(base channel.Position, size, holds int) *segment {
	room := minSlab
	for room < maxSlab && room < 2*holds {
		room *= 2
	}
	if size > maxSlab/8 {
		room = size // large events in slabs of their own leave no ends unused
	} else if size > room/8 {
		room = min(8*size, maxSlab)
	}
	return &segment{base: base, slab: make([]byte, 0, room), index: make([]entry, 0, max(1, room/max(size, 64)))}
}

// fits reports whether an event of this size can be added.
func (s *segment) fits(size int) bool { return !s.sealed && size <= cap(s.slab)-len(s.slab) }

func (s *segment) add(e event.Event, nanos int64) {
	s.index = append(s.index, entry{time: nanos, offset: uint32(len(s.slab)), size: uint32(e.Size())})
	s.slab = append(s.slab, e.Raw()...)
	s.kept++
	s.live += e.Size()
}

// end is the position after the last.
func (s *segment) end() channel.Position { return s.base + channel.Position(len(s.index)) }

// bytes is what the segment is charged with. The unused end of a slab is not:
// seal keeps it below an eighth.
func (s *segment) bytes() int { return len(s.slab) + indexBytes*len(s.index) }

// record is the event of an entry that has one.
func (s *segment) record(i int) (channel.Record, error) {
	e := &s.index[i]
	raw := s.slab[e.offset : e.offset+e.size : e.offset+e.size]
	ev, err := event.Parse(raw)
	return channel.Record{Position: s.base + channel.Position(i), Time: time.Unix(0, e.time), Event: ev}, err
}

// free forgets an event. Its bytes stay until the segment is looked after.
func (s *segment) free(i int) {
	e := &s.index[i]
	if e.state == retained {
		s.settled--
	}
	s.kept--
	s.live -= int(e.size)
	*e = entry{time: e.time}
}

// sparse reports whether half of the slab is of no use.
func (s *segment) sparse() bool { return 2*s.live <= len(s.slab) }

// seal ends the growth of a segment that holds an event.
func (s *segment) seal() {
	s.sealed = true
	if s.sparse() || cap(s.slab)-len(s.slab) > cap(s.slab)/8 {
		s.rewrite()
	} else if cap(s.index)-len(s.index) > cap(s.index)/4 {
		s.index = slices.Clone(s.index)
	}
}

// rewrite copies what is kept into a slab of just that size. The old slab goes
// when the last view of it does.
func (s *segment) rewrite() {
	first, last := 0, len(s.index)
	for s.index[first].size == 0 {
		first++
	}
	for s.index[last-1].size == 0 {
		last--
	}
	slab := make([]byte, 0, s.live)
	index := make([]entry, last-first)
	copy(index, s.index[first:last])
	for i := range index {
		e := &index[i]
		if e.size > 0 {
			from := e.offset
			e.offset = uint32(len(slab))
			slab = append(slab, s.slab[from:from+e.size]...)
		}
	}
	s.base += channel.Position(first)
	s.slab, s.index = slab, index
}
