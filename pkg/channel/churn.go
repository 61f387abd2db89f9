package channel

import "github.com/RoaringBitmap/roaring/v2/roaring64"

// churn is a set of positions of which most do not stay for long. A bitmap
// frees its memory with the last position, and takes new with the next: this
// one leaves the last in, as a ghost, until there is another. The zero value is
// empty.
type churn struct {
	set   roaring64.Bitmap
	ghost uint64 // in set and not of the set; no position is 0
}

func (c *churn) add(p uint64) bool {
	if c.ghost == 0 {
		return c.set.CheckedAdd(p)
	}
	ghost := c.ghost
	c.ghost = 0
	if p == ghost {
		return true
	}
	fresh := c.set.CheckedAdd(p)
	c.set.Remove(ghost)
	return fresh
}

func (c *churn) remove(p uint64) bool {
	switch {
	case c.ghost != 0: // there is nothing else
		return false
	case !c.set.Contains(p):
		return false
	case c.set.Minimum() == p && c.set.Maximum() == p:
		c.ghost = p
		return true
	}
	return c.set.CheckedRemove(p)
}

func (c *churn) contains(p uint64) bool { return c.ghost == 0 && c.set.Contains(p) }
func (c *churn) isEmpty() bool          { return c.ghost != 0 || c.set.IsEmpty() }

func (c *churn) len() uint64 {
	if c.ghost != 0 {
		return 0
	}
	return c.set.GetCardinality()
}

// all is the set as a bitmap.
func (c *churn) all() *roaring64.Bitmap {
	if c.ghost != 0 {
		c.set.Remove(c.ghost)
		c.ghost = 0
	}
	return &c.set
}
