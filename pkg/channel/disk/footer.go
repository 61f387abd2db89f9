package disk

import (
	"encoding/binary"
	"fmt"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	entrySize   = 64
	trailerSize = 32
	footerMagic = 0xF00750F5

	// footerAtOnce is read from a segment's end to begin with.
	footerAtOnce = 256 << 10
)

// entry sums up one run of a stream in a sealed segment.
type entry struct {
	kind        kind // kindEvent, kindDead or kindMoved, or kindBroker for all else a broker wrote
	stream      uint32
	first       channel.Position
	count       uint32
	bytes       int64 // of all its frames
	from, until int64 // first and last append time
	table       int64 // where in the file count offsets (u32, in units of 8 bytes) stand
	forgiven    int64 // of bytes, not counted against the broker; not on the medium

	// Of a moved run, which need not be dense.
	move uint32
	span uint32          // last position - first
	at   *roaring.Bitmap // positions - first; nil while nobody needs them
}

// last is the position of the run's end.
func (e *entry) last() channel.Position {
	if e.kind == kindMoved {
		return e.first + channel.Position(e.span)
	}
	return e.first + channel.Position(e.count) - 1
}

// tableSize is what the run's offsets take, and after them, where it is a
// moved one, its positions.
func (e *entry) tableSize() int64 {
	if e.kind == kindMoved {
		return 8 * int64(e.count)
	}
	return 4 * int64(e.count)
}

// footerSize bounds the frame that seals a segment. A moved record counts twice.
func footerSize(entries, records int) int64 {
	return frameSize(entries*entrySize + (records*4+7)&^7 + trailerSize)
}

// putFooter is the payload of the frame at offset off that seals a segment:
// entries, then each one's table of offsets (of a moved run its positions too,
// as u32 from the first), then in the file's last bytes
//
//	0 u32 magic
//	4 u32 number of entries
//	8 u64 offset of this frame
//	16 u64 segment number
//	24 u32 0
//	28 u32 CRC32C of the trailer so far
func putFooter(number uint64, off int64, entries []entry, tables [][]uint32) []byte {
	var b []byte
	at := off + frameHeader + int64(len(entries))*entrySize
	for i := range entries {
		e := &entries[i]
		e.table = at
		at += e.tableSize()
		b = append(b, byte(e.kind), 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, e.stream)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.first))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.count))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.bytes))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.from))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.until))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.table))
		b = binary.LittleEndian.AppendUint32(b, e.move)
		b = binary.LittleEndian.AppendUint32(b, e.span)
	}
	for i, t := range tables {
		for _, o := range t {
			b = binary.LittleEndian.AppendUint32(b, o)
		}
		if at := entries[i].at; at != nil {
			for it := at.Iterator(); it.HasNext(); {
				b = binary.LittleEndian.AppendUint32(b, it.Next())
			}
		}
	}
	b = pad(b)
	at = int64(len(b))
	b = binary.LittleEndian.AppendUint32(b, footerMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(entries)))
	b = binary.LittleEndian.AppendUint64(b, uint64(off))
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint32(b, 0)
	return binary.LittleEndian.AppendUint32(b, checksum(b[at:]))
}

// parseFooter reads the entries out of a footer's verified payload.
func parseFooter(b []byte, off int64) ([]entry, error) {
	if len(b) < trailerSize {
		return nil, fmt.Errorf("footer of %d bytes", len(b))
	}
	n := int64(binary.LittleEndian.Uint32(b[len(b)-trailerSize+4:]))
	tables := n * entrySize
	if tables > int64(len(b)-trailerSize) {
		return nil, fmt.Errorf("footer of %d bytes claims %d entries", len(b), n)
	}
	entries := make([]entry, n)
	for i := range entries {
		h := b[i*entrySize:]
		entries[i] = entry{
			kind:   kind(h[0]),
			stream: binary.LittleEndian.Uint32(h[4:]),
			first:  channel.Position(binary.LittleEndian.Uint64(h[8:])),
			count:  uint32(binary.LittleEndian.Uint64(h[16:])),
			bytes:  int64(binary.LittleEndian.Uint64(h[24:])),
			from:   int64(binary.LittleEndian.Uint64(h[32:])),
			until:  int64(binary.LittleEndian.Uint64(h[40:])),
			table:  int64(binary.LittleEndian.Uint64(h[48:])),
			move:   binary.LittleEndian.Uint32(h[56:]),
			span:   binary.LittleEndian.Uint32(h[60:]),
		}
		e := &entries[i]
		start := e.table - off - frameHeader
		if start < tables || start+e.tableSize() > int64(len(b)-trailerSize) {
			return nil, fmt.Errorf("footer entry %d points outside the footer", i)
		}
		if e.kind == kindMoved {
			if e.at = positionsAt(b[start+4*int64(e.count):start+e.tableSize()], e.span); e.at == nil {
				return nil, fmt.Errorf("footer entry %d has positions that do not ascend", i)
			}
		}
	}
	return entries, nil
}

// positionsAt reads a moved run's positions; nil if they do not ascend up to span.
func positionsAt(b []byte, span uint32) *roaring.Bitmap {
	at := roaring.New()
	last := int64(-1)
	for ; len(b) > 0; b = b[4:] {
		p := binary.LittleEndian.Uint32(b)
		if int64(p) <= last {
			return nil
		}
		last = int64(p)
		at.Add(p)
	}
	if last != int64(span) {
		return nil
	}
	at.RunOptimize()
	return at
}

// loadFooter verifies a sealed segment's footer, found from the file's end.
func loadFooter(name string, f File, size int64, number uint64, seed uint32) ([]entry, error) {
	damaged := func(off int64, reason string) error {
		return &CorruptError{File: name, Offset: off, Reason: reason}
	}
	if size < segmentHeader+frameHeader+trailerSize {
		return nil, damaged(size, "file is too short for a sealed segment")
	}
	// One read for most: a start has one footer for each 64 MiB to read.
	b := make([]byte, min(size, footerAtOnce))
	at := size - int64(len(b))
	if _, err := f.ReadAt(b, at); err != nil {
		return nil, &readError{fmt.Errorf("read %s at %d: %w", name, at, err)}
	}
	t := b[len(b)-trailerSize:]
	off := int64(binary.LittleEndian.Uint64(t[8:]))
	if binary.LittleEndian.Uint32(t) != footerMagic || binary.LittleEndian.Uint32(t[28:]) != checksum(t[:28]) ||
		binary.LittleEndian.Uint64(t[16:]) != number {
		return nil, damaged(size-trailerSize, "footer is damaged or the file was cut")
	}
	if off < segmentHeader || off > size-frameHeader-trailerSize {
		return nil, damaged(size-trailerSize, "footer begins outside the file")
	}
	if off < at {
		whole := make([]byte, size-off)
		if _, err := f.ReadAt(whole[:at-off], off); err != nil {
			return nil, &readError{fmt.Errorf("read %s at %d: %w", name, off, err)}
		}
		copy(whole[at-off:], b)
		b, at = whole, off
	}
	b = b[off-at:]
	h, ok := parseFrame(b, seed, off)
	if !ok || h.kind != kindFooter || h.size() != int64(len(b)) {
		return nil, damaged(off, "footer is damaged")
	}
	if err := h.check(b[frameHeader:]); err != nil {
		return nil, damaged(off, "footer: "+err.Error())
	}
	entries, err := parseFooter(b[frameHeader:frameHeader+h.length], off)
	if err != nil {
		return nil, damaged(off, err.Error())
	}
	return entries, nil
}
