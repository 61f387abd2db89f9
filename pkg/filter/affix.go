package filter

import (
	"slices"
	"strings"
)

// affixes finds which of many prefixes (or suffixes) a text has, at the cost
// of one binary search plus those found. The greatest entry not above a text
// in sorted order begins with every entry that the text begins with: they are
// found by going from it along shorter.
type affixes struct {
	texts   []string // sorted
	shorter []int32  // the longest other entry that texts[i] begins with, -1 if none
	buckets []uint32 // the bucket that belongs to texts[i]
	suffix  bool     // compare from the end
}

// newAffixes returns nil if there are none.
func newAffixes(buckets map[string]uint32, suffix bool) *affixes {
	if len(buckets) == 0 {
		return nil
	}
	a := &affixes{
		texts:   make([]string, 0, len(buckets)),
		shorter: make([]int32, len(buckets)),
		buckets: make([]uint32, len(buckets)),
		suffix:  suffix,
	}
	for text := range buckets {
		a.texts = append(a.texts, text)
	}
	slices.SortFunc(a.texts, a.compare)
	var open []int32 // entries that the current one may begin with, nested
	for i, text := range a.texts {
		for len(open) > 0 && !a.has(text, a.texts[open[len(open)-1]]) {
			open = open[:len(open)-1]
		}
		a.shorter[i] = -1
		if len(open) > 0 {
			a.shorter[i] = open[len(open)-1]
		}
		a.buckets[i] = buckets[text]
		open = append(open, int32(i))
	}
	return a
}

// last is the greatest entry not above text, -1 if there is none.
func (a *affixes) last(text string) int32 {
	low, high := 0, len(a.texts)
	for low < high {
		mid := int(uint(low+high) >> 1)
		if a.compare(a.texts[mid], text) <= 0 {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return int32(low) - 1
}

func (a *affixes) has(text, affix string) bool {
	if a.suffix {
		return strings.HasSuffix(text, affix)
	}
	return strings.HasPrefix(text, affix)
}

func (a *affixes) compare(x, y string) int {
	if !a.suffix {
		return strings.Compare(x, y)
	}
	for i := 1; i <= len(x) && i <= len(y); i++ {
		if p, q := x[len(x)-i], y[len(y)-i]; p != q {
			return int(p) - int(q)
		}
	}
	return len(x) - len(y)
}
