package channel

import (
	"math/bits"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

const (
	wordBits = 6 // 64 positions a word

	// leastWords and mostWords bound the window of a churn, in words.
	leastWords = 4
	mostWords  = 64
)

// churn is a set of positions of which most come in order and do not stay for
// long. The newest are bits in a small window that moves along with them, so
// that to add and to remove one costs a few instructions and no memory. What the
// window has left behind, and what comes below it, is in a bitmap. The zero
// value is empty.
type churn struct {
	set   *roaring64.Bitmap // all of it below the window, unless loose; nil is empty
	base  uint64            // of words[0], in words
	words []uint64
	n     int32 // positions in words
	loose bool  // the bitmap was given away: it may have anything
}

// some reports whether the bitmap has anything.
func (c *churn) some() bool { return c.set != nil && !c.set.IsEmpty() }

// bitmap is the bitmap, made if there is none.
func (c *churn) bitmap() *roaring64.Bitmap {
	if c.set == nil {
		c.set = roaring64.New()
	}
	return c.set
}

// moor sees to it that the window is above everything in the bitmap.
func (c *churn) moor() {
	if !c.loose {
		return
	}
	c.loose = false
	if c.base = 0; c.some() {
		c.base = c.set.Maximum()>>wordBits + 1
	}
}

// at is the word of a position, and whether that is in the window.
func (c *churn) at(p uint64) (i uint64, in bool) {
	i = p>>wordBits - c.base
	return i, i < uint64(len(c.words))
}

func (c *churn) add(p uint64) (fresh bool) {
	c.moor()
	i, in := c.at(p)
	if !in {
		if p>>wordBits < c.base && (c.n > 0 || c.some()) {
			return c.bitmap().CheckedAdd(p)
		}
		i = c.reach(p >> wordBits)
	}
	bit := uint64(1) << (p & 63)
	if c.words[i]&bit != 0 {
		return false
	}
	c.words[i] |= bit
	c.n++
	return true
}

// reach moves the window so far up that it has a word, and returns where.
func (c *churn) reach(word uint64) uint64 {
	if c.n == 0 {
		c.base = word
		if len(c.words) == 0 {
			c.words = make([]uint64, leastWords)
		}
		return 0
	}
	first := 0
	for c.words[first] == 0 {
		first++
	}
	c.shift(first)
	for word-c.base >= uint64(len(c.words)) {
		switch {
		case len(c.words) < mostWords:
			c.words = append(c.words, make([]uint64, len(c.words))...)
		case c.n == 0:
			c.base = word
		default: // half of it, so that this is seldom
			c.spill(mostWords / 2)
			c.shift(mostWords / 2)
		}
	}
	return word - c.base
}

// shift moves the window up by words that are empty.
func (c *churn) shift(words int) {
	clear(c.words[copy(c.words, c.words[words:]):])
	c.base += uint64(words)
}

// spill moves the positions of the first words to the bitmap.
func (c *churn) spill(words int) {
	var buf [256]uint64
	some := buf[:0]
	for i, w := range c.words[:words] {
		if len(some) > len(buf)-64 {
			c.bitmap().AddMany(some)
			some = buf[:0]
		}
		c.n -= int32(bits.OnesCount64(w))
		for ; w != 0; w &= w - 1 {
			some = append(some, (c.base+uint64(i))<<wordBits+uint64(bits.TrailingZeros64(w)))
		}
		c.words[i] = 0
	}
	if len(some) > 0 {
		c.bitmap().AddMany(some)
	}
}

func (c *churn) remove(p uint64) bool {
	if !c.loose {
		if i, in := c.at(p); in {
			bit := uint64(1) << (p & 63)
			if c.words[i]&bit == 0 {
				return false
			}
			c.words[i] &^= bit
			c.n--
			return true
		}
	}
	return c.some() && c.set.CheckedRemove(p)
}

func (c *churn) contains(p uint64) bool {
	if !c.loose {
		if i, in := c.at(p); in {
			return c.words[i]&(1<<(p&63)) != 0
		}
	}
	return c.some() && c.set.Contains(p)
}

func (c *churn) isEmpty() bool { return c.n == 0 && !c.some() }

func (c *churn) len() uint64 {
	if c.set == nil {
		return uint64(c.n)
	}
	return uint64(c.n) + c.set.GetCardinality()
}

// from is the first position that is not below one.
func (c *churn) from(p uint64) (first uint64, ok bool) {
	if c.some() {
		if first := c.set.Minimum(); p <= first {
			return first, true
		}
		if p <= c.set.Maximum() {
			it := c.set.Iterator()
			it.AdvanceIfNeeded(p)
			return it.Next(), true
		}
	}
	return c.inWindow(p)
}

// inWindow is the first position of the window that is not below one.
func (c *churn) inWindow(p uint64) (first uint64, ok bool) {
	if c.n == 0 {
		return 0, false
	}
	i, mask := uint64(0), ^uint64(0)
	if p>>wordBits >= c.base {
		i, mask = p>>wordBits-c.base, ^uint64(0)<<(p&63)
	}
	for ; i < uint64(len(c.words)); i++ {
		if w := c.words[i] & mask; w != 0 {
			return (c.base+i)<<wordBits + uint64(bits.TrailingZeros64(w)), true
		}
		mask = ^uint64(0)
	}
	return 0, false
}

// next appends the first n positions from one on that are below a limit.
func (c *churn) next(from, limit uint64, n int, to []Position) []Position {
	if c.some() {
		it := c.set.Iterator()
		for it.AdvanceIfNeeded(from); n > 0 && it.HasNext() && it.PeekNext() < limit; n-- {
			to = append(to, Position(it.Next()))
		}
	}
	for p, ok := c.inWindow(from); ok && n > 0 && p < limit; p, ok = c.inWindow(p + 1) {
		to = append(to, Position(p))
		n--
	}
	return to
}

// upTo is a bitmap that has all positions up to one, and perhaps others. The
// caller may change it up to there.
func (c *churn) upTo(last uint64) *roaring64.Bitmap {
	if c.moor(); last>>wordBits < c.base {
		return c.bitmap()
	}
	return c.all()
}

// all is the set as a bitmap, which the caller may change.
func (c *churn) all() *roaring64.Bitmap {
	if c.n > 0 {
		c.spill(len(c.words))
	}
	c.loose = true
	return c.bitmap()
}

// take is all, and leaves the set empty, with its memory.
func (c *churn) take() *roaring64.Bitmap {
	set := c.all()
	*c = churn{words: c.words[:min(len(c.words), leastWords)]}
	return set
}
