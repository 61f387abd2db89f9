package filter

import "slices"

// NewIndex files the filters. Ordinals are positions in the slice; a nil
// filter has one too and never matches. Building takes time in proportion to
// the clauses there are: a few milliseconds for 1,000 filters.
func NewIndex(filters []*Filter) *Index {
	ix := &Index{filters: slices.Clone(filters)}
	ords := make([]uint32, 0, len(filters))
	for i, f := range filters {
		if f != nil {
			ords = append(ords, uint32(i))
		}
	}
	b := builder{filters: ix.filters}
	ix.root = *b.level(ords, nil)
	return ix
}

type builder struct {
	filters []*Filter
}

const (
	// smallBucket is how many filters are asked one by one rather than filed
	// once more.
	smallBucket = 8
	// maxLevels bounds how often that may be repeated.
	maxLevels = 4
)

// level files filters by conditions other than used, which all of them share.
func (b *builder) level(ords []uint32, used []term) *level {
	counts := b.count(ords)
	weigh := func(c cover) int { return weight(c, counts, len(ords)) }
	l := &level{}
	filed := newFiling()
	for _, ord := range ords {
		covers := b.filters[ord].root.covers(weigh)
		covers = slices.DeleteFunc(covers, func(c cover) bool {
			return slices.ContainsFunc(c, func(t term) bool { return slices.Contains(used, t) })
		})
		c := lightest(covers, weigh)
		if c == nil {
			l.scan = append(l.scan, ord)
			continue
		}
		for _, t := range c {
			filed.add(t, ord)
		}
	}
	for i := range filed.terms {
		l.addBucket(b, filed.terms[i], filed.ords[i], used)
	}
	l.buildAttrs(filed.terms)
	return l
}

// count tells in how many of the filters' covers each term stands.
func (b *builder) count(ords []uint32) map[term]int {
	counts := make(map[term]int, len(ords))
	seen := func(c cover) int {
		for _, t := range c {
			counts[t]++
		}
		return 0
	}
	for _, ord := range ords {
		for _, c := range b.filters[ord].root.covers(seen) {
			seen(c)
		}
	}
	return counts
}

// weight estimates how many filters an event finds under a cover that it
// satisfies. What other filters ask for is taken as a sign of what events
// have: a condition that all filters share tells no two of them apart.
func weight(c cover, counts map[term]int, all int) int {
	sum := 0
	for _, t := range c {
		switch t.op {
		case opExact:
			sum += counts[t]
		case opPresent:
			sum += counts[t] + all
		default:
			// A short affix fits many values.
			sum += counts[t] + 1 + all/(1+len(t.text)*len(t.text))
		}
	}
	return sum
}

// filing groups filters by term, in order of first use.
type filing struct {
	slot  map[term]int
	terms []term
	ords  [][]uint32
}

func newFiling() *filing { return &filing{slot: make(map[term]int)} }

func (f *filing) add(t term, ord uint32) {
	i, ok := f.slot[t]
	if !ok {
		i = len(f.terms)
		f.slot[t] = i
		f.terms = append(f.terms, t)
		f.ords = append(f.ords, nil)
	}
	if n := len(f.ords[i]); n == 0 || f.ords[i][n-1] != ord {
		f.ords[i] = append(f.ords[i], ord)
	}
}

// addBucket appends the bucket of one term: a run of ordinals, or a level of
// its own where that at least halves what has to be asked.
func (l *level) addBucket(b *builder, t term, ords []uint32, used []term) {
	bk := bucket{from: uint32(len(l.ords))}
	if len(ords) > smallBucket && len(used)+1 < maxLevels {
		if sub := b.level(ords, append(slices.Clip(used), t)); 2*sub.worst() <= len(ords) {
			bk.sub = sub
		}
	}
	if bk.sub == nil {
		l.ords = append(l.ords, ords...)
	}
	bk.to = uint32(len(l.ords))
	l.buckets = append(l.buckets, bk)
}

// worst is the most filters that one term leads to, with those always asked.
func (l *level) worst() int {
	most := 0
	for i := range l.buckets {
		n := int(l.buckets[i].to - l.buckets[i].from)
		if sub := l.buckets[i].sub; sub != nil {
			n = sub.worst()
		}
		most = max(most, n)
	}
	return most + len(l.scan)
}

// buildAttrs makes the tables that lead from values to buckets; bucket i
// belongs to terms[i].
func (l *level) buildAttrs(terms []term) {
	slot := make(map[string]int)
	var tables []map[op]map[string]uint32
	for i, t := range terms {
		a, ok := slot[t.name]
		if !ok {
			a = len(l.attrs)
			slot[t.name] = a
			l.attrs = append(l.attrs, attrIndex{name: t.name})
			tables = append(tables, make(map[op]map[string]uint32))
		}
		if tables[a][t.op] == nil {
			tables[a][t.op] = make(map[string]uint32)
		}
		tables[a][t.op][t.text] = uint32(i)
	}
	for i := range l.attrs {
		a := &l.attrs[i]
		a.exact = tables[i][opExact]
		a.prefixes = newAffixes(tables[i][opPrefix], false)
		a.suffixes = newAffixes(tables[i][opSuffix], true)
		a.present, a.any = tables[i][opPresent][""]
		if aliased(a.name) {
			l.aliases = append(l.aliases, uint32(i))
		}
	}
	if len(l.attrs) > fewAttrs {
		l.byName = make(map[string]uint32, len(l.attrs))
		for i := range l.attrs {
			l.byName[l.attrs[i].name] = uint32(i)
		}
	}
}
