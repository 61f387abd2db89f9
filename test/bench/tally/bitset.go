package tally

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sync/atomic"
)

const (
	chunkWords = 1 << 12 // 262,144 ids, 32 KiB
	chunkBits  = chunkWords * 64
	maxChunks  = 1 << 12

	// MaxID is the largest id a Bitset takes.
	MaxID = maxChunks*chunkBits - 1
)

type chunk [chunkWords]atomic.Uint64

// Bitset is a set of ids up to MaxID. The zero value is empty. Memory follows
// the ranges in use: 32 KiB for 262,144 ids.
type Bitset struct {
	chunks [maxChunks]atomic.Pointer[chunk]
}

// Add puts id into the set and reports whether it is new there. An id above
// MaxID is not taken, and not new.
func (b *Bitset) Add(id uint64) bool {
	if id > MaxID {
		return false
	}
	at := &b.chunks[id/chunkBits]
	c := at.Load()
	if c == nil {
		at.CompareAndSwap(nil, new(chunk))
		c = at.Load()
	}
	bit := uint64(1) << (id % 64)
	return c[id%chunkBits/64].Or(bit)&bit == 0
}

// Len is how many ids there are.
func (b *Bitset) Len() int {
	n := 0
	for i := range b.chunks {
		if c := b.chunks[i].Load(); c != nil {
			for w := range c {
				n += bits.OnesCount64(c[w].Load())
			}
		}
	}
	return n
}

// Missing is how many ids of b are not in other.
func (b *Bitset) Missing(other *Bitset) int {
	n := 0
	for i := range b.chunks {
		mine, theirs := b.chunks[i].Load(), other.chunks[i].Load()
		if mine == nil {
			continue
		}
		for w := range mine {
			word := mine[w].Load()
			if theirs != nil {
				word &^= theirs[w].Load()
			}
			n += bits.OnesCount64(word)
		}
	}
	return n
}

// WriteTo writes the set: for each chunk in use its number and its words,
// little endian. Nothing may be added meanwhile.
func (b *Bitset) WriteTo(w io.Writer) (int64, error) {
	var written int64
	buf := make([]byte, 8+chunkWords*8)
	for i := range b.chunks {
		c := b.chunks[i].Load()
		if c == nil {
			continue
		}
		binary.LittleEndian.PutUint64(buf, uint64(i))
		for j := range c {
			binary.LittleEndian.PutUint64(buf[8+j*8:], c[j].Load())
		}
		n, err := w.Write(buf)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// ReadFrom adds what WriteTo has written. After an error the set holds a part.
func (b *Bitset) ReadFrom(r io.Reader) (int64, error) {
	var read int64
	buf := make([]byte, 8+chunkWords*8)
	for {
		n, err := io.ReadFull(r, buf)
		read += int64(n)
		if err == io.EOF {
			return read, nil
		}
		if err != nil {
			return read, fmt.Errorf("set of ids: %w", err)
		}
		i := binary.LittleEndian.Uint64(buf)
		if i >= maxChunks {
			return read, fmt.Errorf("set of ids: chunk %d: want less than %d", i, maxChunks)
		}
		b.chunks[i].CompareAndSwap(nil, new(chunk))
		c := b.chunks[i].Load()
		for j := range c {
			c[j].Or(binary.LittleEndian.Uint64(buf[8+j*8:]))
		}
	}
}
