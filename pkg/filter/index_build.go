package filter

import "slices"

// NewIndex files the filters. Ordinals are positions in the slice; a nil
// filter has one too and never matches. Building takes time in proportion to
// the clauses there are: some 10 ms for 10,000 filters.
func NewIndex(filters []*Filter) *Index {
	ix := &Index{filters: slices.Clone(filters), decided: make([]bool, len(filters))}
	ords := make([]uint32, 0, len(filters))
	for i, f := range filters {
		if f != nil {
			ords = append(ords, uint32(i))
			ix.decided[i] = f.decides()
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
	c := newCoverer(len(ords))
	covers := make([]cover, 0, len(ords)) // of all filters, one after the other
	spans := make([]span, len(ords))
	for i, ord := range ords {
		before, from := c.choices, len(covers)
		own := c.of(b.filters[ord])
		for _, one := range own {
			c.count(one)
		}
		// Where there is something to choose it is chosen below.
		if spans[i].again = c.choices > before; !spans[i].again {
			covers = append(covers, own...)
		}
		spans[i].from, spans[i].to = from, len(covers)
	}
	c.counting = false

	l := &level{}
	filed := filing{places: make([]uint32, len(c.terms))}
	chosen := make([]cover, len(ords))
	for i, ord := range ords {
		own := covers[spans[i].from:spans[i].to]
		if spans[i].again {
			own = c.of(b.filters[ord])
		}
		if len(used) > 0 {
			own = slices.DeleteFunc(own, func(one cover) bool {
				return slices.ContainsFunc(one, func(t uint32) bool { return slices.Contains(used, c.terms[t]) })
			})
		}
		best := c.lightest(own)
		if best < 0 {
			l.scan = append(l.scan, ord)
			continue
		}
		chosen[i] = own[best]
		filed.announce(chosen[i])
	}
	filed.open()
	for i, ord := range ords {
		filed.add(chosen[i], ord)
	}
	terms := make([]term, len(filed.numbers))
	for i, n := range filed.numbers {
		terms[i] = c.terms[n]
		l.addBucket(b, terms[i], filed.ords[i], used)
	}
	l.buildAttrs(terms)
	return l
}

// span is where in a list the covers of one filter stand.
type span struct {
	from, to int
	again    bool // nowhere: they are to be found again
}

// filing groups filters by term, in order of first use: all covers are
// announced, then added in the same order.
type filing struct {
	places  []uint32 // by number of term, 1 more than its place; 0 for none
	numbers []uint32 // of the terms, by place
	sizes   []uint32
	ords    [][]uint32
}

func (f *filing) announce(c cover) {
	for _, number := range c {
		if f.places[number] == 0 {
			f.numbers, f.sizes = append(f.numbers, number), append(f.sizes, 0)
			f.places[number] = uint32(len(f.numbers))
		}
		f.sizes[f.places[number]-1]++
	}
}

// open makes room for what was announced.
func (f *filing) open() {
	all := uint32(0)
	for _, n := range f.sizes {
		all += n
	}
	memory := make([]uint32, all)
	f.ords = make([][]uint32, len(f.sizes))
	for i, n := range f.sizes {
		f.ords[i], memory = memory[:0:n], memory[n:]
	}
}

func (f *filing) add(c cover, ord uint32) {
	for _, number := range c {
		ords := &f.ords[f.places[number]-1]
		if n := len(*ords); n == 0 || (*ords)[n-1] != ord {
			*ords = append(*ords, ord)
		}
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
	var tables [][opSQL]map[string]uint32
	var sizes [][opSQL]int
	for i := range terms {
		a, ok := slot[terms[i].name]
		if !ok {
			a = len(l.attrs)
			slot[terms[i].name] = a
			l.attrs = append(l.attrs, attrIndex{name: terms[i].name})
			tables, sizes = append(tables, [opSQL]map[string]uint32{}), append(sizes, [opSQL]int{})
		}
		sizes[a][terms[i].op]++
	}
	for i, t := range terms {
		a := slot[t.name]
		if tables[a][t.op] == nil {
			tables[a][t.op] = make(map[string]uint32, sizes[a][t.op])
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
