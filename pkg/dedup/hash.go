package dedup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"github.com/penstock-events/penstock/pkg/event"
)

// hash stands for a source and an id. It is AES-CBC-MAC of both, with their
// lengths in the first block so that no message begins another: a keyed
// function with 128 bits, for which two events with one hash are as good as
// impossible among any number that a disk holds, and cannot be made by who
// does not know the key. It is part of what is stored.
type hash [aes.BlockSize]byte

func (h *hash) less(o *hash) bool { return bytes.Compare(h[:], o[:]) < 0 }

// first is where in the order of all hashes h stands.
func (h *hash) first() uint64 { return binary.BigEndian.Uint64(h[:]) }

const keySize = 16

// hasher makes hashes. It may be used by any number of goroutines.
type hasher struct{ block cipher.Block }

func newHasher(key []byte) (*hasher, error) {
	block, err := aes.NewCipher(key)
	return &hasher{block}, err
}

// of writes the hash of an event's source and id to h, which must be on the
// heap already: the cipher is behind an interface.
func (s *hasher) of(e event.Event, h *hash) {
	source, id := e.Source(), e.ID()
	binary.LittleEndian.PutUint64(h[:], uint64(len(source)))
	binary.LittleEndian.PutUint64(h[8:], uint64(len(id)))
	s.block.Encrypt(h[:], h[:])
	n := s.mix(h, 0, source)
	if n = s.mix(h, n, id); n > 0 {
		s.block.Encrypt(h[:], h[:])
	}
}

// mix takes text into h, from byte n of the current block on.
func (s *hasher) mix(h *hash, n int, text string) int {
	for len(text) > 0 {
		k := min(len(text), len(h)-n)
		for i := range k {
			h[n+i] ^= text[i]
		}
		text = text[k:]
		if n += k; n == len(h) {
			s.block.Encrypt(h[:], h[:])
			n = 0
		}
	}
	return n
}
