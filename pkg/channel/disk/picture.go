package disk

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// picture is the state of a moment, to be written without the lock: bytes, and
// between them sets of positions, which share the memory of what is pending and
// become bytes one at a time. So a checkpoint costs no memory that grows with
// the backlog, and keeps nobody from appending while it is encoded.
type picture struct {
	encoder
	strokes []stroke
}

// stroke is bytes and the set behind them.
type stroke struct {
	bytes     []byte
	positions channel.Positions
	set       *roaring64.Bitmap // in place of positions
}

// positions notes a set, which may change from then on.
func (p *picture) positions(set *channel.Positions) {
	if set.IsEmpty() {
		p.uint(0)
		return
	}
	p.strokes = append(p.strokes, stroke{bytes: p.encoder, positions: set.Clone()})
	p.encoder = nil
}

func (p *picture) set(set *roaring64.Bitmap) {
	if set == nil || set.IsEmpty() {
		p.uint(0)
		return
	}
	p.strokes = append(p.strokes, stroke{bytes: p.encoder, set: set.Clone()})
	p.encoder = nil
}

// put writes the picture.
func (p *picture) put(w *pieces) {
	var raw []byte
	for i := range p.strokes {
		it := &p.strokes[i]
		w.put(it.bytes)
		raw = raw[:0]
		var err error
		if it.set != nil {
			raw, err = it.set.MarshalBinary()
		} else {
			raw = it.positions.AppendPortable(raw)
		}
		if err != nil && w.err == nil {
			w.err = err
		}
		w.put(binary.AppendUvarint(nil, uint64(len(raw))))
		w.put(raw)
		*it = stroke{} // its memory goes as it is written
	}
	w.put(p.encoder)
}

// piece is how much of a checkpoint is written or read at a time.
const piece = 128 << 10

// pieces writes to a file from an offset on, and sums up what it writes. After
// an error it writes nothing more.
type pieces struct {
	to  io.WriterAt
	off int64
	buf []byte
	sum uint32
	err error
}

func (w *pieces) put(b []byte) {
	for len(b) > 0 {
		if w.buf == nil {
			w.buf = make([]byte, 0, piece)
		}
		n := min(len(b), piece-len(w.buf))
		w.buf, b = append(w.buf, b[:n]...), b[n:]
		if len(w.buf) == piece {
			w.flush()
		}
	}
}

func (w *pieces) flush() {
	if w.err == nil && len(w.buf) > 0 {
		_, w.err = w.to.WriteAt(w.buf, w.off)
	}
	w.sum = crc32.Update(w.sum, castagnoli, w.buf)
	w.off += int64(len(w.buf))
	w.buf = w.buf[:0]
}

// inMemory is a file for pieces.
type inMemory []byte

func (m *inMemory) WriteAt(b []byte, off int64) (int, error) {
	if end := int(off) + len(b); end > len(*m) {
		*m = append(*m, make([]byte, end-len(*m))...)
	}
	return copy((*m)[off:], b), nil
}

// joinSums is the checksum of two pieces in a row, of their checksums and how
// long the second is. A CRC is linear, but for where it begins: a piece adds the
// same to what came before it, whatever that was.
func joinSums(first, second uint32, size int64) uint32 {
	var none [4096]byte
	after, alone := first, uint32(0)
	for ; size > 0; size -= int64(len(none)) {
		n := min(size, int64(len(none)))
		after = crc32.Update(after, castagnoli, none[:n])
		alone = crc32.Update(alone, castagnoli, none[:n])
	}
	return after ^ alone ^ second
}
