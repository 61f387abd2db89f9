package filter

import (
	"bytes"
	"slices"

	"github.com/penstock-events/penstock/pkg/event"
)

// Index finds which of many filters want an event. It is immutable.
//
// Each filter is filed under one condition it cannot do without, the rarest
// among all filters; an event is looked up under the attributes it has, and
// the filters found are asked, those excepted that have no other condition.
// CESQL is filed under what must hold for it to be true: =, IN, LIKE and EXISTS
// of an attribute, and what AND and OR make of them. Filters that have no such
// condition, such as those with nothing but a not, are asked about every event.
type Index struct {
	filters []*Filter
	decided []bool // to be found is to match; scanned filters are none of these
	root    level
}

// Scratch is the memory one goroutine uses to match. Its zero value is ready;
// it grows to what the largest answer needs and is then used again.
type Scratch struct {
	candidates []uint32
	matches    []int
}

// level is an index over some of the filters by the conditions they are filed
// under. A bucket of many filters that share their condition is a level of
// its own, by the conditions they do not share.
type level struct {
	attrs   []attrIndex
	byName  map[string]uint32 // into attrs; nil while they are few
	aliases []uint32          // those of attrs that go by more than one name
	buckets []bucket
	ords    []uint32 // what buckets point into
	scan    []uint32 // filters without a usable condition, ascending
}

// bucket is a run of level.ords, or a level where that would be long.
type bucket struct {
	from, to uint32
	sub      *level
}

// attrIndex finds buckets by the value of one attribute.
type attrIndex struct {
	name     string
	exact    map[string]uint32
	prefixes *affixes
	suffixes *affixes
	present  uint32
	any      bool // present is a bucket
}

// Match returns the ordinals of the filters that want the event, ascending:
// their positions in the slice that NewIndex was given. The answer is valid
// until s is used again.
func (ix *Index) Match(e event.Event, s *Scratch) []int {
	s.candidates = ix.root.collect(e, s.candidates[:0])
	s.matches = s.matches[:0]
	found := s.candidates
	if len(found) > 1 {
		// A filter filed under several conditions may turn up more than once.
		slices.Sort(found)
		found = slices.Compact(found)
	}
	scan := ix.root.scan
	for len(found) > 0 || len(scan) > 0 {
		var ord uint32
		if len(scan) == 0 || len(found) > 0 && found[0] < scan[0] {
			ord, found = found[0], found[1:]
		} else {
			ord, scan = scan[0], scan[1:]
		}
		if ix.decided[ord] || ix.filters[ord].Match(e) {
			s.matches = append(s.matches, int(ord))
		}
	}
	return s.matches
}

// fewAttrs is how many attributes are looked for one by one in the event.
// With more, walking the event once is cheaper.
const fewAttrs = 6

// collect appends the filters whose condition the event satisfies.
func (l *level) collect(e event.Event, to []uint32) []uint32 {
	if l.byName == nil {
		for i := range l.attrs {
			if v, ok := lookup(e, l.attrs[i].name); ok {
				to = l.collectValue(&l.attrs[i], v.Text, e, to)
			}
		}
		return to
	}
	for name, v := range e.Attributes() {
		if i, ok := l.byName[name]; ok {
			to = l.collectValue(&l.attrs[i], v.Text, e, to)
		}
	}
	for _, i := range l.aliases {
		if _, own := e.Attribute(l.attrs[i].name); own {
			continue // walked by above
		}
		if v, ok := alias(e, l.attrs[i].name); ok {
			to = l.collectValue(&l.attrs[i], v.Text, e, to)
		}
	}
	return to
}

func (l *level) collectValue(a *attrIndex, text string, e event.Event, to []uint32) []uint32 {
	if a.any {
		to = l.collectBucket(a.present, e, to)
	}
	// No filter asks for a longer text, and hashing one takes time.
	if a.exact != nil && len(text) <= MaxTextBytes {
		if b, ok := a.exact[text]; ok {
			to = l.collectBucket(b, e, to)
		}
	}
	if a.prefixes != nil {
		to = l.collectAffixes(a.prefixes, text, e, to)
	}
	if a.suffixes != nil {
		to = l.collectAffixes(a.suffixes, text, e, to)
	}
	return to
}

// collectAffixes walks the tree; see affixes.
func (l *level) collectAffixes(a *affixes, text string, e event.Event, to []uint32) []uint32 {
	n := &a.nodes[0] // no affix is empty
	for depth := 0; depth < len(text); {
		kid := bytes.IndexByte(a.firsts[n.from:n.to], a.at(text, depth))
		if kid < 0 {
			break
		}
		n = &a.nodes[int(n.from)+kid]
		end := depth + len(n.label)
		if end > len(text) || a.cut(text, depth, end) != n.label {
			break
		}
		if depth = end; n.bucket >= 0 {
			to = l.collectBucket(uint32(n.bucket), e, to)
		}
	}
	return to
}

func (l *level) collectBucket(b uint32, e event.Event, to []uint32) []uint32 {
	bucket := &l.buckets[b]
	if bucket.sub != nil {
		return bucket.sub.collect(e, append(to, bucket.sub.scan...))
	}
	return append(to, l.ords[bucket.from:bucket.to]...)
}
