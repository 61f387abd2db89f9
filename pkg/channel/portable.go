package channel

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// The form of a set in bytes is that of roaring64 bitmaps, which others read and
// write: https://github.com/RoaringBitmap/RoaringFormatSpec, with its 64-bit
// extension. Stretches go there and come back from there by themselves, for a
// bitmap between the two would cost more than all the rest.
const (
	runCookie      = 12347 // there may be runs
	plainCookie    = 12346
	offsetsFrom    = 4 // containers; with runCookie fewer of them have no offsets
	largestArray   = 4096
	containerBytes = 1 << stretchBits / 8
)

var errPortable = errors.New("not a set of positions")

// AppendPortable appends the set as roaring64's MarshalBinary would. All of it
// comes to rest.
func (s *Positions) AppendPortable(to []byte) []byte {
	s.packBelow(math.MaxUint64)
	high := func(i int) uint64 { return s.rest[i].key >> 16 }
	at := len(to)
	to = binary.LittleEndian.AppendUint64(to, 0)
	groups := uint64(0)
	for i := 0; i < len(s.rest); groups++ {
		j := i + 1
		for j < len(s.rest) && high(j) == high(i) {
			j++
		}
		to = binary.LittleEndian.AppendUint32(to, uint32(high(i)))
		to = appendGroup(to, s.rest[i:j])
		i = j
	}
	binary.LittleEndian.PutUint64(to[at:], groups)
	return to
}

// appendGroup appends a 32-bit bitmap.
func appendGroup(to []byte, all []stretch) []byte {
	begin, n := len(to), len(all)
	to = binary.LittleEndian.AppendUint32(to, runCookie|uint32(n-1)<<16)
	flags := len(to)
	to = append(to, make([]byte, (n+7)/8)...)
	for i := range all {
		to = binary.LittleEndian.AppendUint16(to, uint16(all[i].key))
		to = binary.LittleEndian.AppendUint16(to, uint16(all[i].n-1))
	}
	offsets := len(to)
	if n >= offsetsFrom {
		to = append(to, make([]byte, 4*n)...)
	}
	for i := range all {
		if n >= offsetsFrom {
			binary.LittleEndian.PutUint32(to[offsets+4*i:], uint32(len(to)-begin))
		}
		var run bool
		if to, run = all[i].appendContainer(to); run {
			to[flags+i/8] |= 1 << (i % 8)
		}
	}
	return to
}

// appendContainer appends the shortest of an array, a bitmap and runs.
func (r *stretch) appendContainer(to []byte) (b []byte, run bool) {
	least := 2 * int(r.n)
	if r.n > largestArray {
		least = containerBytes
	}
	base, begin := r.key<<stretchBits, len(to)
	runs := 0
	if r.set[0] == inSpans { // else there are more of them than would be worth it
		to = append(to, 0, 0)
		for from, last := range r.runs() {
			to = binary.LittleEndian.AppendUint16(to, uint16(from-base))
			to = binary.LittleEndian.AppendUint16(to, uint16(last-from))
			runs++
		}
		if len(to)-begin < least {
			binary.LittleEndian.PutUint16(to[begin:], uint16(runs))
			return to, true
		}
		to = to[:begin]
	}
	if r.n > largestArray {
		to = append(to, make([]byte, containerBytes)...)
		set := to[begin:]
		for from, last := range r.runs() {
			for p := from - base; p <= last-base; p++ {
				set[p/8] |= 1 << (p % 8)
			}
		}
		return to, false
	}
	for from, last := range r.runs() {
		for p := from - base; p <= last-base; p++ {
			to = binary.LittleEndian.AppendUint16(to, uint16(p))
		}
	}
	return to, false
}

// ParsePortable reads what AppendPortable or roaring64 has written, and keeps
// nothing of b.
func ParsePortable(b []byte) (Positions, error) {
	var s Positions
	r := portable{rest: b}
	p := packers.Get().(*packer)
	defer packers.Put(p)
	groups := r.u64()
	for i, last := uint64(0), uint64(0); i < groups && !r.bad; i++ {
		high := uint64(r.u32())
		if i > 0 && high <= last {
			return s, errPortable
		}
		last = high
		r.group(high<<16, p, &s)
	}
	if r.bad || len(r.rest) > 0 {
		return Positions{}, errPortable
	}
	if n := len(s.rest); n > 0 {
		s.newest = s.rest[n-1].key
		s.unpack(s.newest) // it goes on growing
	}
	return s, nil
}

// portable reads; bad says that something was not what it must be.
type portable struct {
	rest []byte
	bad  bool
}

func (r *portable) take(n int) []byte {
	if n > len(r.rest) {
		r.rest, r.bad = nil, true
		return make([]byte, min(n, 8))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *portable) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }
func (r *portable) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *portable) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// group reads a 32-bit bitmap.
func (r *portable) group(key uint64, p *packer, s *Positions) {
	n, runs := 0, []byte(nil)
	switch cookie := r.u32(); {
	case cookie&0xffff == runCookie:
		n = int(cookie>>16) + 1
		runs = r.take((n + 7) / 8)
	case cookie == plainCookie:
		n = int(r.u32())
	default:
		r.bad = true
	}
	if n > 1<<16 {
		r.bad = true
	}
	if r.bad {
		return
	}
	heads := r.take(4 * n)
	if runs == nil || n >= offsetsFrom {
		r.take(4 * n)
	}
	if r.bad {
		return
	}
	for i := range n {
		low, count := uint64(binary.LittleEndian.Uint16(heads[4*i:])), int(binary.LittleEndian.Uint16(heads[4*i+2:]))+1
		if i > 0 && low <= uint64(binary.LittleEndian.Uint16(heads[4*i-4:])) {
			r.bad = true
		}
		r.container(runs != nil && runs[i/8]>>(i%8)&1 != 0, count, p)
		if r.bad || p.n != count {
			r.bad = true
			p.reset()
			return
		}
		s.rest = append(s.rest, p.pack(key|low))
		s.packed += uint64(count)
	}
}

// container reads the positions of one stretch.
func (r *portable) container(run bool, count int, p *packer) {
	switch {
	case run:
		next := 0
		for range r.u16() {
			from, more := int(r.u16()), int(r.u16())
			if r.bad || from < next || from+more > math.MaxUint16 {
				r.bad = true
				return
			}
			p.add(uint16(from), uint16(from+more))
			next = from + more + 1
		}
	case count > largestArray:
		set := r.take(containerBytes)
		if r.bad {
			return
		}
		for i := 0; i < containerBytes; i += 8 {
			for w := binary.LittleEndian.Uint64(set[i:]); w != 0; w &= w - 1 {
				at := uint16(8*i + bits.TrailingZeros64(w))
				p.add(at, at)
			}
		}
	default:
		set := r.take(2 * count)
		if r.bad {
			return
		}
		last := -1
		for i := range count {
			at := binary.LittleEndian.Uint16(set[2*i:])
			if int(at) <= last {
				r.bad = true
				return
			}
			p.add(at, at)
			last = int(at)
		}
	}
}
