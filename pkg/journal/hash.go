package journal

import (
	"encoding/binary"
	"math/bits"

	"github.com/penstock-events/penstock/pkg/channel"
)

// The hashes are part of the stored format. They need to spread, not to resist
// somebody who wants collisions: each hit is verified, the sort does not get
// slow, and a sender can do no more with them than with equal ids.
const (
	hashA = 0x9e3779b97f4a7c15
	hashB = 0xbf58476d1ce4e5b9
	hashC = 0x94d049bb133111eb

	seedEvent  = 1 // CloudEvents ids
	seedBroker = 2
)

func mix(a, b uint64) uint64 {
	high, low := bits.Mul64(a, b)
	return high ^ low
}

// hashText hashes a text, 8 bytes at a time.
func hashText(seed uint64, s string) uint64 {
	h := mix(seed^hashA, uint64(len(s))^hashB)
	for len(s) >= 8 {
		h = mix(h^load(s), hashC)
		s = s[8:]
	}
	var last [8]byte
	copy(last[:], s)
	return mix(mix(h^binary.LittleEndian.Uint64(last[:]), hashC)^hashA, hashB)
}

func load(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// hashID hashes an event's own id within a broker, whose uid is hashed already.
func hashID(broker uint64, id channel.ID) uint64 {
	h := mix(broker^uint64(id.Position), hashC)
	return mix(h^uint64(id.Shard)^hashA, hashB)
}
