package journal

import (
	"encoding/binary"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// blockBytes is when a block is full enough. A block is what a look-up reads.
const blockBytes = 32 << 10

// key leads from a hash to a block that may hold a record with that key.
type key struct {
	hash  uint64
	block uint32 // where it begins in the segment
}

// batch is one buffer: blocks of one segment that are not yet in its file.
// Readers may hold what a batch's slices held at some time; what is in them
// does not change, but for the blocks' headers, which readers leave alone.
type batch struct {
	seq       uint64
	segment   uint64
	base      int64 // where data will begin in the segment
	roster    *roster
	data      []byte
	blocks    []int // where blocks begin in data
	time      int64 // of the last block
	keys      []key
	records   int
	first     int64 // time of the earliest record
	last      int64 // and of the latest
	gaps      []Gap
	nameBytes int       // more than what its names take in an index
	since     time.Time // of the first record's writing
	pressed   bool
	shared    bool // with a reader: not to be used again
}

func (b *batch) reset() {
	if b.shared {
		*b = batch{}
	}
	*b = batch{data: b.data[:0], blocks: b.blocks[:0], keys: b.keys[:0]}
}

// roster is what the numbers of one segment stand for. Guarded by Journal.mu
// while its segment is being filled; the list only grows at its end, so readers
// may hold an old slice header.
type roster struct {
	list    []name
	numbers map[identity]uint32
}

// name is what a number stands for; that of list[0] is 1.
type name struct {
	broker uint32 // number of a Trigger's Broker; 0 for a Broker
	uid    channel.UID
	text   string
}

// nameBytes is more than what names take in an index.
func nameBytes(list []name) (sum int) {
	for _, n := range list {
		sum += len(n.uid) + len(n.text) + 3*binary.MaxVarintLen32
	}
	return sum
}

type identity struct {
	broker uint32
	uid    channel.UID
}

func newRoster(list []name) *roster {
	r := &roster{list: list, numbers: make(map[identity]uint32)}
	for i, n := range list {
		r.numbers[identity{n.broker, n.uid}] = uint32(i + 1)
	}
	return r
}

// begin makes ready for one record of at most so many bytes and returns the
// buffer, or nil where it must be dropped. j.mu is held.
func (j *Journal) begin(need int, at int64) *batch {
	b := j.cur
	if j.closed || j.down || len(b.data)+need > j.room {
		j.drop()
		return nil
	}
	j.open(b, at)
	b.records++
	if at < b.first {
		b.first = at
	}
	if at > b.last {
		b.last = at
	}
	return b
}

// open opens a block where there is none or it is full, and sees to it that
// the buffer will be written. j.mu is held.
func (j *Journal) open(b *batch, at int64) {
	switch {
	case len(b.data) == 0:
		b.since, b.first, b.last = j.opts.Now(), at, at
		signal(j.wake)
	case !b.pressed && len(b.data) > j.room/2:
		b.pressed = true
		signal(j.press)
	}
	if n := len(b.blocks); n == 0 || len(b.data)-b.blocks[n-1] >= blockBytes {
		b.blocks = append(b.blocks, len(b.data))
		b.data = appendBlock(b.data, at)
		b.time = at
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drop counts a record that is not kept. j.mu is held.
func (j *Journal) drop() {
	j.dropped++
	if j.closed {
		return
	}
	now := j.opts.Now()
	cause := "more records than could be written"
	if j.down {
		cause = "the disk failed"
	}
	j.missing.merge(Gap{From: now, To: now, Records: 1, Cause: cause})
}

// index leads to the record that comes next, in the open block.
func (b *batch) index(hash uint64) {
	b.keys = append(b.keys, key{hash, uint32(b.base) + uint32(b.blocks[len(b.blocks)-1])})
}

// broker is a Broker's number in this segment. Where it has none yet the
// record that comes next gets one before it.
func (b *batch) broker(br *Broker) uint32 {
	if br.segment != b.segment {
		br.number, br.segment = b.define(0, &br.known), b.segment
	}
	return br.number
}

// trigger is a Trigger's number in this segment.
func (b *batch) trigger(t *Trigger) uint32 {
	if t.segment != b.segment {
		t.number, t.segment = b.define(b.broker(t.broker), &t.known), b.segment
	}
	return t.number
}

func (b *batch) triggers(list []uint32, triggers []*Trigger) []uint32 {
	for _, t := range triggers {
		if t != nil {
			list = append(list, b.trigger(t))
		}
	}
	return list
}

func (b *batch) define(broker uint32, k *known) uint32 {
	r, who := b.roster, identity{broker, k.uid}
	text := k.name
	if len(text) > maxText {
		text = cut(text)
	}
	if n := r.numbers[who]; n != 0 && r.list[n-1].text == text {
		return n
	}
	r.list = append(r.list, name{broker, k.uid, text})
	n := uint32(len(r.list))
	r.numbers[who] = n
	b.data = appendName(b.data, n, broker, k.uid, text)
	b.nameBytes += nameBytes(r.list[n-1:])
	return n
}

// gap writes down what was dropped, at the beginning of an empty buffer. j.mu
// is held.
func (j *Journal) gap() {
	if j.missing.From.IsZero() {
		return
	}
	b, g := j.cur, j.missing
	j.missing = Gap{}
	j.open(b, nanos(g.To))
	b.data = appendGap(b.data, b.time, &g)
	b.gaps = append(b.gaps, g)
}

// swap takes the full buffer and puts an empty one in its place. It returns
// nil where there is nothing to write. next is the segment that is being
// filled from now on.
func (j *Journal) swap() (full *batch, next uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	full = j.cur
	if len(full.data) > 0 {
		j.bytes += int64(len(full.data))
		j.cur, j.spare = j.spare, nil
		if j.cur == nil {
			j.cur = &batch{}
		}
		j.seq++
		j.cur.seq, j.cur.segment, j.cur.roster = j.seq, full.segment, full.roster
		j.writing = full
	} else {
		full = nil
	}
	if j.bytes >= j.opts.SegmentBytes || j.ageing {
		j.turn()
	}
	j.ageing = false
	j.cur.base = j.bytes
	if full != nil {
		j.gap()
	}
	return full, j.cur.segment
}

// turn makes the empty buffer the first of a new segment. j.mu is held.
func (j *Journal) turn() {
	j.cur.segment++
	j.cur.roster = newRoster(nil)
	j.bytes = segmentHeader
	j.cur.base = segmentHeader
}

// done gives back a buffer that is in its file.
func (j *Journal) done(b *batch) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writing = nil
	b.reset()
	j.spare = b
}
