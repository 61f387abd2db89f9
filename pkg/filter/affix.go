package filter

import (
	"slices"
	"strings"
)

// affixes finds which of many prefixes (or suffixes) a text has: it walks a
// tree of them along the text, at a cost that follows the text's length and
// not their number. The tree lies in two arrays, a node's kids side by side.
type affixes struct {
	nodes  []affixNode
	firsts []byte // the first byte of each node's label, as the walk meets it
	suffix bool   // walk from the end
}

// affixNode adds its label to those on the way to it.
type affixNode struct {
	label    string
	bucket   int32 // of the affix that ends here, -1 if none does
	from, to uint32
}

// newAffixes returns nil if there are none.
func newAffixes(buckets map[string]uint32, suffix bool) *affixes {
	if len(buckets) == 0 {
		return nil
	}
	texts := make([]string, 0, len(buckets))
	for text := range buckets {
		texts = append(texts, text)
	}
	a := &affixes{suffix: suffix}
	slices.SortFunc(texts, a.compare)
	// Each node is made before its kids; waiting are those whose kids are to come.
	type branch struct {
		texts []string // that share depth bytes
		depth int
		node  int
	}
	a.nodes, a.firsts = append(a.nodes, affixNode{bucket: -1}), append(a.firsts, 0)
	for waiting := []branch{{texts, 0, 0}}; len(waiting) > 0; {
		b := waiting[0]
		waiting = waiting[1:]
		if len(b.texts[0]) == b.depth {
			a.nodes[b.node].bucket = int32(buckets[b.texts[0]])
			b.texts = b.texts[1:]
		}
		a.nodes[b.node].from = uint32(len(a.nodes))
		for len(b.texts) > 0 {
			first := a.at(b.texts[0], b.depth)
			n := 1
			for n < len(b.texts) && a.at(b.texts[n], b.depth) == first {
				n++
			}
			depth := b.depth + 1
			for depth < len(b.texts[0]) && depth < len(b.texts[n-1]) && a.at(b.texts[0], depth) == a.at(b.texts[n-1], depth) {
				depth++
			}
			waiting = append(waiting, branch{b.texts[:n], depth, len(a.nodes)})
			a.nodes = append(a.nodes, affixNode{label: a.cut(b.texts[0], b.depth, depth), bucket: -1})
			a.firsts = append(a.firsts, first)
			b.texts = b.texts[n:]
		}
		a.nodes[b.node].to = uint32(len(a.nodes))
	}
	return a
}

// at is the byte of text that the walk meets after i others.
func (a *affixes) at(text string, i int) byte {
	if a.suffix {
		return text[len(text)-1-i]
	}
	return text[i]
}

// cut is what the walk meets of text after from bytes, up to to.
func (a *affixes) cut(text string, from, to int) string {
	if a.suffix {
		return text[len(text)-to : len(text)-from]
	}
	return text[from:to]
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
