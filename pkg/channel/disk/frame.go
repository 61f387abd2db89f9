package disk

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// kind says what a frame holds. Numbers are for ever.
type kind uint8

const (
	kindEvent     kind = 1  // one event
	kindDead      kind = 2  // one dead letter, event included
	kindRoutes    kind = 3  // a change of a broker's trigger set
	kindProgress  kind = 4  // a change of delivery progress
	kindBroker    kind = 5  // a broker made, or its settings changed
	kindRemoval   kind = 6  // a broker gone
	kindWatermark kind = 7  // nothing: carries a witness
	kindOpen      kind = 8  // a new owner epoch begins
	kindFooter    kind = 9  // the index of a sealed segment
	kindMoved     kind = 10 // a record of its stream, copied from an older segment
	kindGap       kind = 11 // records that are declared lost
	kindDiscard   kind = 12 // dead letters that somebody has discarded
)

const (
	frameMagic  = 0xF5A7C1E3
	frameHeader = 56
	frameAlign  = 8

	// flagMore says that the next frame belongs to the same batch: a batch
	// whose last frame is missing was never acknowledged and is dropped whole.
	flagMore = 1 << 0
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is the header of one record. Little endian on the medium:
//
//	 0 u32 magic
//	 4 u8  kind
//	 5 u8  flags
//	 6 u16 of a moved record: which run of its move it belongs to; else 0
//	 8 u32 length of the payload
//	12 u32 stream
//	16 u64 position in the stream
//	24 i64 append time, Unix nanoseconds
//	32 u64 witness: LSN below which all was durable when this was written
//	40 u32 owner epoch
//	44 u32 CRC32C of the payload
//	48 u32 of a moved record: the move's number; else 0
//	52 u32 CRC32C of the above, of where the frame stands and of which store
//	56     payload, zero bytes up to the next multiple of 8
type frame struct {
	kind     kind
	flags    uint8
	length   uint32
	stream   uint32
	position uint64
	time     int64
	witness  uint64
	epoch    uint32
	sum      uint32
	part     uint16 // of a move
	move     uint32
}

// frameSize is what a payload takes in a segment.
func frameSize(payload int) int64 {
	return (int64(payload) + frameHeader + frameAlign - 1) &^ (frameAlign - 1)
}

func (f *frame) size() int64 { return frameSize(int(f.length)) }

// checksum of a payload, as a frame carries it.
func checksum(payload []byte) uint32 { return crc32.Checksum(payload, castagnoli) }

// seal is the checksum of a header. The seed is the segment's own: a frame
// that lies in the wrong segment, at the wrong offset or in another store is
// not valid, and neither is one that a sender smuggled in as a payload, for
// the seed holds the store's id, which no sender knows.
func seal(header []byte, seed uint32, off int64) uint32 {
	return crc32.Update(seed^uint32(off/frameAlign), castagnoli, header[:52])
}

// append adds the header to b for a frame at offset off of a segment.
func (f *frame) append(b []byte, seed uint32, off int64) []byte {
	at := len(b)
	b = append(b, make([]byte, frameHeader)...)
	h := b[at:]
	binary.LittleEndian.PutUint32(h[0:], frameMagic)
	h[4], h[5] = byte(f.kind), f.flags
	binary.LittleEndian.PutUint16(h[6:], f.part)
	binary.LittleEndian.PutUint32(h[8:], f.length)
	binary.LittleEndian.PutUint32(h[12:], f.stream)
	binary.LittleEndian.PutUint64(h[16:], f.position)
	binary.LittleEndian.PutUint64(h[24:], uint64(f.time))
	binary.LittleEndian.PutUint64(h[32:], f.witness)
	binary.LittleEndian.PutUint32(h[40:], f.epoch)
	binary.LittleEndian.PutUint32(h[44:], f.sum)
	binary.LittleEndian.PutUint32(h[48:], f.move)
	binary.LittleEndian.PutUint32(h[52:], seal(h, seed, off))
	return b
}

// pad adds the zero bytes that bring b to a multiple of 8.
func pad(b []byte) []byte {
	for len(b)%frameAlign != 0 {
		b = append(b, 0)
	}
	return b
}

// parseFrame reads the header of a frame at offset off; false if h does not
// begin with one. The length is to be believed only within the segment.
func parseFrame(h []byte, seed uint32, off int64) (frame, bool) {
	if len(h) < frameHeader || binary.LittleEndian.Uint32(h) != frameMagic ||
		binary.LittleEndian.Uint32(h[52:]) != seal(h, seed, off) {
		return frame{}, false
	}
	return frame{
		kind:     kind(h[4]),
		flags:    h[5],
		length:   binary.LittleEndian.Uint32(h[8:]),
		stream:   binary.LittleEndian.Uint32(h[12:]),
		position: binary.LittleEndian.Uint64(h[16:]),
		time:     int64(binary.LittleEndian.Uint64(h[24:])),
		witness:  binary.LittleEndian.Uint64(h[32:]),
		epoch:    binary.LittleEndian.Uint32(h[40:]),
		sum:      binary.LittleEndian.Uint32(h[44:]),
		part:     binary.LittleEndian.Uint16(h[6:]),
		move:     binary.LittleEndian.Uint32(h[48:]),
	}, true
}

// check verifies what follows the header: payload and padding.
func (f *frame) check(body []byte) error {
	if checksum(body[:f.length]) != f.sum {
		return fmt.Errorf("payload of %d bytes has a bad checksum", f.length)
	}
	for _, b := range body[f.length:] {
		if b != 0 {
			return fmt.Errorf("padding after a payload of %d bytes is not zero", f.length)
		}
	}
	return nil
}
