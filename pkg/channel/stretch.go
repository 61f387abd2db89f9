package channel

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"sync"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// stretch is the positions of one stretch at rest. set never changes, so
// copies may share it. Its first byte says how the rest is to be read:
//
//	gaps    for each position how many are left out before it, as a varint
//	spans   for each span of positions the gap before it and its length less one
//	bits    a bit for each of the 65,536
//
// whichever is about the shortest.
type stretch struct {
	key uint64
	n   uint32
	set string
}

const (
	inGaps = iota
	inSpans
	inBits
)

// runs goes through the stretch's positions as runs, first and last of each.
func (r *stretch) runs() iter.Seq2[uint64, uint64] {
	base := r.key << stretchBits
	set := r.set[1:]
	next := func() uint64 {
		b := set[0]
		if b < 0x80 {
			set = set[1:]
			return uint64(b)
		}
		v, shift, i := uint64(b&0x7f), 7, 1
		for ; set[i] >= 0x80; i++ {
			v |= uint64(set[i]&0x7f) << shift
			shift += 7
		}
		v |= uint64(set[i]) << shift
		set = set[i+1:]
		return v
	}
	return func(yield func(from, to uint64) bool) {
		switch at := base; r.set[0] {
		case inGaps:
			for len(set) > 0 {
				at += next()
				if !yield(at, at) {
					return
				}
				at++
			}
		case inSpans:
			for len(set) > 0 {
				at += next()
				last := at + next()
				if !yield(at, last) {
					return
				}
				at = last + 1
			}
		case inBits:
			for i := range len(set) {
				for b := set[i]; b != 0; b &= b - 1 {
					if p := base + uint64(8*i+bits.TrailingZeros8(b)); !yield(p, p) {
						return
					}
				}
			}
		}
	}
}

func (r *stretch) contains(low uint16) bool {
	if r.set[0] == inBits {
		return r.set[1+low/8]>>(low%8)&1 != 0
	}
	p := r.key<<stretchBits + uint64(low)
	for from, to := range r.runs() {
		if p <= to {
			return p >= from
		}
	}
	return false
}

// unite adds the stretch to a bitmap.
func (r *stretch) unite(b *roaring64.Bitmap) {
	var many [256]uint64
	n := 0
	for from, to := range r.runs() {
		if from < to {
			b.AddRange(from, to+1)
			continue
		}
		if many[n] = from; n == len(many)-1 {
			b.AddMany(many[:])
			n = -1
		}
		n++
	}
	b.AddMany(many[:n])
}

// packer is what packing uses again and again.
type packer struct {
	buf   [256]uint64
	spans []span // ascending, of one stretch, none touching the next
	n     int    // positions in them
	set   []byte
}

// span is the positions from one to another, less those of the stretch.
type span struct{ from, last uint16 }

var packers = sync.Pool{New: func() any { return new(packer) }}

func (p *packer) reset() { p.spans, p.n = p.spans[:0], 0 }

// add adds the positions after all that were added.
func (p *packer) add(from, last uint16) {
	p.n += int(last-from) + 1
	if n := len(p.spans); n > 0 && p.spans[n-1].last+1 == from {
		p.spans[n-1].last = last
		return
	}
	p.spans = append(p.spans, span{from, last})
}

// pack is about the shortest form of the spans, of which there is one at least, and
// forgets them.
func (p *packer) pack(key uint64) stretch {
	defer p.reset()
	const most = 1 + 1<<stretchBits/8
	set, next := p.set[:0], 0 // after the last one
	if p.n < 2*len(p.spans) {
		set = append(set, inGaps)
		for _, s := range p.spans {
			set = appendVarint(set, int(s.from)-next)
			for at := s.from; at < s.last; at++ {
				set = append(set, 0)
			}
			next = int(s.last) + 1
		}
	} else {
		set = append(set, inSpans)
		for _, s := range p.spans {
			set = appendVarint(appendVarint(set, int(s.from)-next), int(s.last-s.from))
			next = int(s.last) + 1
		}
	}
	if len(set) >= most {
		set = set[:most] // shorter than it was
		clear(set)
		set[0] = inBits
		for _, s := range p.spans {
			for at := int(s.from); at <= int(s.last); at++ {
				set[1+at/8] |= 1 << (at % 8)
			}
		}
	}
	p.set = set
	return stretch{key: key, n: uint32(p.n), set: string(set)}
}

func appendVarint(b []byte, v int) []byte {
	if v < 0x80 {
		return append(b, byte(v))
	}
	return binary.AppendUvarint(b, uint64(v))
}
