package channel

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
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
// whichever is shortest.
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
	buf         [256]uint64
	low         []uint16 // ascending, of one stretch
	gaps, spans []byte
}

var packers = sync.Pool{New: func() any { return new(packer) }}

// pack is the shortest form of low, which is not empty.
func (p *packer) pack() string {
	const most = 1 + 1<<stretchBits/8
	p.gaps, p.spans = append(p.gaps[:0], inGaps), append(p.spans[:0], inSpans)
	next := uint64(0) // after the last one
	for i := 0; i < len(p.low); {
		from := uint64(p.low[i])
		j := i + 1
		for j < len(p.low) && p.low[j] == p.low[j-1]+1 {
			j++
		}
		n := uint64(j - i)
		if len(p.gaps) < most {
			p.gaps = binary.AppendUvarint(p.gaps, from-next)
			p.gaps = append(p.gaps, zeros[:min(n-1, most)]...)
		}
		if len(p.spans) < most {
			p.spans = binary.AppendUvarint(p.spans, from-next)
			p.spans = binary.AppendUvarint(p.spans, n-1)
		}
		next, i = from+n, j
	}
	shortest := p.gaps
	if len(p.spans) < len(shortest) {
		shortest = p.spans
	}
	if len(shortest) < most {
		return string(shortest)
	}
	set := slices.Grow(p.gaps[:0], most)[:most]
	clear(set)
	set[0] = inBits
	for _, low := range p.low {
		set[1+low/8] |= 1 << (low % 8)
	}
	p.gaps = set
	return string(set)
}

var zeros [1 + 1<<stretchBits/8]byte
