package channel

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

// Positions is a set of positions that may be large and is then mostly at
// rest: what a trigger has pending. Where nothing has changed for a while, which
// is below the newest stretch of 65,536 positions, it keeps a packed form: about a
// byte and a quarter for each of scattered positions, next to nothing where they
// lie side by side. The rest is a roaring bitmap; a stretch that is changed goes
// back there. What comes and goes at once costs next to nothing. The zero value is
// empty. It is not safe for concurrent use, and must not be copied but by Clone.
type Positions struct {
	recent churn
	rest   []stretch // ascending; recent has nothing of them
	packed uint64    // positions in rest
	newest uint64    // stretch that anything was added to; none above it is in rest
}

// stretchBits is how many low bits of a position tell it from others of its stretch.
const stretchBits = 16

func stretchOf(p uint64) uint64 { return p >> stretchBits }

// Len counts them.
func (s *Positions) Len() uint64 { return s.packed + s.recent.len() }

// AtRest counts those that are at rest.
func (s *Positions) AtRest() uint64 { return s.packed }

// IsEmpty reports whether there are none.
func (s *Positions) IsEmpty() bool { return s.packed == 0 && s.recent.isEmpty() }

// Clear removes all.
func (s *Positions) Clear() { *s = Positions{} }

// Add reports whether the position is new.
func (s *Positions) Add(p Position) bool {
	s.touch(stretchOf(uint64(p)))
	return s.recent.add(uint64(p))
}

// Remove reports whether the position was there.
func (s *Positions) Remove(p Position) bool {
	if s.recent.remove(uint64(p)) {
		return true
	}
	if i, ok := s.find(stretchOf(uint64(p))); !ok || !s.rest[i].contains(uint16(p)) {
		return false
	}
	s.unpack(stretchOf(uint64(p)))
	return s.recent.remove(uint64(p))
}

// Contains reports whether the position is there.
func (s *Positions) Contains(p Position) bool {
	if s.recent.contains(uint64(p)) {
		return true
	}
	i, ok := s.find(stretchOf(uint64(p)))
	return ok && s.rest[i].contains(uint16(p))
}

// First is the lowest position, 0 for none.
func (s *Positions) First() Position {
	first, _ := s.recent.from(0)
	if len(s.rest) > 0 && (first == 0 || s.rest[0].key <= stretchOf(first)) {
		for from := range s.rest[0].runs() {
			return Position(from)
		}
	}
	return Position(first)
}

// Next appends to to the first n positions above one. What it comes by is
// taken to be about to change.
func (s *Positions) Next(above Position, n int, to []Position) []Position {
	for from := uint64(above) + 1; n > 0 && from > uint64(above); {
		first, ok := s.recent.from(from)
		i, _ := s.find(stretchOf(from))
		if i < len(s.rest) && (!ok || s.rest[i].key <= stretchOf(first)) {
			s.unpack(s.rest[i].key)
			continue
		}
		if !ok {
			return to
		}
		limit := ^uint64(0)
		if i < len(s.rest) {
			limit = s.rest[i].key << stretchBits
		}
		had := len(to)
		to = s.recent.next(from, limit, n, to)
		n -= len(to) - had
		from = limit
	}
	return to
}

// oneByOne is up to how many positions of a set are cheaper to take singly.
const oneByOne = 1024

// AddAll adds a set, which it does not keep.
func (s *Positions) AddAll(set *roaring64.Bitmap) {
	if set == nil || set.IsEmpty() {
		return
	}
	if set.GetCardinality() <= oneByOne {
		for it := set.Iterator(); it.HasNext(); {
			s.Add(Position(it.Next()))
		}
		return
	}
	if len(s.rest) > 0 {
		for key := range stretches(set) {
			s.unpack(key)
		}
	}
	s.recent.upTo(set.Maximum()).Or(set)
	s.touch(stretchOf(set.Maximum()))
}

// RemoveAll removes a set.
func (s *Positions) RemoveAll(set *roaring64.Bitmap) {
	if set == nil || set.IsEmpty() {
		return
	}
	if set.GetCardinality() <= oneByOne {
		for it := set.Iterator(); it.HasNext(); {
			s.Remove(Position(it.Next()))
		}
		return
	}
	if len(s.rest) > 0 {
		for key := range stretches(set) {
			s.unpack(key)
		}
	}
	s.recent.upTo(set.Maximum()).AndNot(set)
}

// Among is which of a set are there.
func (s *Positions) Among(set *roaring64.Bitmap) *roaring64.Bitmap {
	among := roaring64.And(set, s.recent.all())
	if len(s.rest) > 0 {
		for key := range stretches(set) {
			if i, ok := s.find(key); ok {
				part := roaring64.New()
				s.rest[i].unite(part)
				part.And(set)
				among.Or(part)
			}
		}
	}
	return among
}

// Bitmap is the set as a bitmap of the caller's own.
func (s *Positions) Bitmap() *roaring64.Bitmap {
	b := s.recent.all().Clone()
	for i := range s.rest {
		s.rest[i].unite(b)
	}
	return b
}

// Take is Bitmap, and leaves the set empty: it costs no copy of what is not at rest.
func (s *Positions) Take() *roaring64.Bitmap {
	b := s.recent.take()
	for i := range s.rest {
		s.rest[i].unite(b)
	}
	*s = Positions{recent: s.recent}
	return b
}

// AppendTo appends the positions, in no order.
func (s *Positions) AppendTo(to []uint64) []uint64 {
	for it := s.recent.all().Iterator(); it.HasNext(); {
		to = append(to, it.Next())
	}
	for i := range s.rest {
		for from, last := range s.rest[i].runs() {
			for ; from <= last; from++ {
				to = append(to, from)
			}
		}
	}
	return to
}

// UniteInto adds the set to another.
func (s *Positions) UniteInto(b *roaring64.Bitmap) {
	b.Or(s.recent.all())
	for i := range s.rest {
		s.rest[i].unite(b)
	}
}

// Clone is a copy that shares the memory of what is at rest.
func (s *Positions) Clone() Positions {
	return Positions{recent: churn{set: s.recent.all().Clone(), loose: true}, rest: slices.Clone(s.rest), packed: s.packed, newest: s.newest}
}

// Share makes what is at rest here and the same there one piece of memory.
func (s *Positions) Share(with *Positions) {
	for i, j := 0, 0; i < len(s.rest) && j < len(with.rest); {
		switch a, b := &s.rest[i], &with.rest[j]; {
		case a.key < b.key:
			i++
		case a.key > b.key:
			j++
		default:
			if a.set == b.set {
				a.set = b.set
			}
			i, j = i+1, j+1
		}
	}
}

// find is where a stretch is in rest, or would be.
func (s *Positions) find(key uint64) (int, bool) {
	if len(s.rest) == 0 || key > s.rest[len(s.rest)-1].key {
		return len(s.rest), false
	}
	return slices.BinarySearchFunc(s.rest, key, func(r stretch, key uint64) int {
		switch {
		case r.key < key:
			return -1
		case r.key > key:
			return 1
		}
		return 0
	})
}

// touch makes a stretch ready for something to be added. A new one lets those
// below it come to rest.
func (s *Positions) touch(key uint64) {
	switch {
	case key > s.newest:
		s.newest = key
		s.pack()
	case key < s.newest && len(s.rest) > 0:
		s.unpack(key)
	}
}

// pack brings everything below the newest stretch to rest.
func (s *Positions) pack() { s.packBelow(s.newest << stretchBits) }

func (s *Positions) packBelow(limit uint64) {
	if first, ok := s.recent.from(0); !ok || first >= limit {
		return
	}
	set := s.recent.upTo(limit - 1)
	p := packers.Get().(*packer)
	defer packers.Put(p)
	many := set.ManyIterator()
	var key uint64
	end := func() {
		if p.n == 0 {
			return
		}
		r := p.pack(key)
		i, _ := s.find(key)
		s.rest = slices.Insert(s.rest, i, r)
		s.packed += uint64(r.n)
	}
packing:
	for {
		n := many.NextMany(p.buf[:])
		for _, pos := range p.buf[:n] {
			if pos >= limit {
				break packing
			}
			if k := stretchOf(pos); k != key {
				end()
				key = k
			}
			p.add(uint16(pos), uint16(pos))
		}
		if n == 0 {
			break
		}
	}
	end()
	set.RemoveRange(0, limit)
}

// unpack takes a stretch back among those that change.
func (s *Positions) unpack(key uint64) {
	i, ok := s.find(key)
	if !ok {
		return
	}
	s.packed -= uint64(s.rest[i].n)
	s.rest[i].unite(s.recent.upTo(key<<stretchBits | (1<<stretchBits - 1)))
	s.rest = slices.Delete(s.rest, i, i+1)
}

// stretches goes through those that a set has anything in.
func stretches(set *roaring64.Bitmap) func(yield func(uint64) bool) {
	return func(yield func(uint64) bool) {
		for it := set.Iterator(); it.HasNext(); {
			key := stretchOf(it.PeekNext())
			if !yield(key) || key == stretchOf(^uint64(0)) {
				return
			}
			it.AdvanceIfNeeded((key + 1) << stretchBits)
		}
	}
}
