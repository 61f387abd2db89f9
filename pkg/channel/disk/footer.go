package disk

import (
	"encoding/binary"
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	entrySize   = 64
	trailerSize = 32
	footerMagic = 0xF00750F5
)

// entry sums up one stream's part of a sealed segment.
type entry struct {
	kind        kind // kindEvent or kindDead, or kindBroker for all else a broker wrote
	stream      uint32
	first       channel.Position // of a dense run
	count       uint32
	bytes       int64 // of all its frames
	from, until int64 // first and last append time
	table       int64 // where in the file count offsets (u32, in units of 8 bytes) stand
}

// last is the position of the run's end.
func (e *entry) last() channel.Position { return e.first + channel.Position(e.count) - 1 }

// footerSize bounds the frame that seals a segment.
func footerSize(entries, records int) int64 {
	return frameSize(entries*entrySize + (records*4+7)&^7 + trailerSize)
}

// putFooter is the payload of the frame at offset off that seals a segment:
// entries, then each one's table of offsets, then in the file's last bytes
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
		at += int64(e.count) * 4
		b = append(b, byte(e.kind), 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, e.stream)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.first))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.count))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.bytes))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.from))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.until))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.table))
		b = binary.LittleEndian.AppendUint64(b, 0)
	}
	for _, t := range tables {
		for _, o := range t {
			b = binary.LittleEndian.AppendUint32(b, o)
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
		}
		e := &entries[i]
		start := e.table - off - frameHeader
		if start < tables || start+int64(e.count)*4 > int64(len(b)-trailerSize) {
			return nil, fmt.Errorf("footer entry %d points outside the footer", i)
		}
	}
	return entries, nil
}

// loadFooter verifies a sealed segment's footer, found from the file's end.
func loadFooter(name string, f File, size int64, number uint64, seed uint32) ([]entry, error) {
	damaged := func(off int64, reason string) error {
		return &CorruptError{File: name, Offset: off, Reason: reason}
	}
	if size < segmentHeader+frameHeader+trailerSize {
		return nil, damaged(size, "file is too short for a sealed segment")
	}
	var t [trailerSize]byte
	if _, err := f.ReadAt(t[:], size-trailerSize); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", name, size-trailerSize, err)
	}
	off := int64(binary.LittleEndian.Uint64(t[8:]))
	if binary.LittleEndian.Uint32(t[:]) != footerMagic || binary.LittleEndian.Uint32(t[28:]) != checksum(t[:28]) ||
		binary.LittleEndian.Uint64(t[16:]) != number {
		return nil, damaged(size-trailerSize, "footer is damaged or the file was cut")
	}
	if off < segmentHeader || off > size-frameHeader-trailerSize {
		return nil, damaged(size-trailerSize, "footer begins outside the file")
	}
	b := make([]byte, size-off)
	if _, err := f.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("read %s at %d: %w", name, off, err)
	}
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
