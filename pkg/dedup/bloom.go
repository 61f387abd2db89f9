package dedup

import "encoding/binary"

// bloom says of a hash that it is not in a file, or that it may be. All bits
// of one hash lie in one block of 64 bytes: one line of the processor's cache.
// With 10 bits for each entry one look in 80 or so is for nothing.
type bloom []byte

const (
	bloomBlock   = 64
	bloomBits    = 10 // for each entry
	bloomProbes  = 6
	bloomPerProb = 9 // bits of the hash that choose one of a block's 512
)

func newBloom(entries int) bloom {
	blocks := max(1, (entries*bloomBits+bloomBlock*8-1)/(bloomBlock*8))
	return make(bloom, blocks*bloomBlock)
}

// block finds a hash's block, and the bits that choose in it. The order in a
// file and its filter use different halves of the hash, so that one says
// nothing of the other.
func (b bloom) block(h *hash) (block []byte, bits uint64) {
	x := binary.LittleEndian.Uint64(h[8:])
	// A second mix, for the block and the bits in it come from one word.
	n := (x >> 32) * uint64(len(b)/bloomBlock) >> 32
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x ^= x >> 27
	return b[n*bloomBlock:][:bloomBlock], x
}

func (b bloom) add(h *hash) {
	block, bits := b.block(h)
	for range bloomProbes {
		block[bits>>3&(bloomBlock-1)] |= 1 << (bits & 7)
		bits >>= bloomPerProb
	}
}

func (b bloom) may(h *hash) bool {
	if len(b) == 0 {
		return false
	}
	block, bits := b.block(h)
	for range bloomProbes {
		if block[bits>>3&(bloomBlock-1)]&(1<<(bits&7)) == 0 {
			return false
		}
		bits >>= bloomPerProb
	}
	return true
}
