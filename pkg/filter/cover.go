package filter

// term is a condition on one attribute that an index can find without
// looking at the filters that do not state it.
type term struct {
	op   op // opExact, opPrefix, opSuffix, opPresent
	name string
	text string
}

// cover is a set of terms, by number, of which at least one holds for every
// event the filter matches. A filter may have several covers, and an index
// needs one.
//
// A cover need only be necessary, never sufficient: the index asks the filter
// about each event that satisfies one. See decides for when it need not.
type cover []uint32

// coverer finds covers. It numbers the terms that it comes by.
type coverer struct {
	numbers map[term]uint32
	terms   []term
	counts  []int // in how many covers each term stands
	all     int   // filters

	// Of the alternatives inside a disjunction one has to be chosen, by weight:
	// only once all terms are counted.
	counting bool
	choices  int // how many disjunctions there were

	covers []cover  // of the filter at hand
	memory []uint32 // that covers are cut from
}

func newCoverer(filters int) *coverer {
	return &coverer{
		numbers: make(map[term]uint32, filters), terms: make([]term, 0, filters), counts: make([]int, 0, filters),
		all: filters, counting: true, memory: make([]uint32, 0, 2*filters),
	}
}

func (c *coverer) number(t term) uint32 {
	n, ok := c.numbers[t]
	if !ok {
		n = uint32(len(c.terms))
		c.numbers[t] = n
		c.terms = append(c.terms, t)
		c.counts = append(c.counts, 0)
	}
	return n
}

// cut is a cover of n terms to be filled in.
func (c *coverer) cut(n int) cover {
	if len(c.memory)+n > cap(c.memory) {
		c.memory = make([]uint32, 0, max(1024, n))
	}
	from := len(c.memory)
	c.memory = c.memory[:from+n]
	return c.memory[from : from+n : from+n]
}

// add appends the cover of one term.
func (c *coverer) add(op op, name, text string) {
	one := c.cut(1)
	one[0] = c.number(term{op, name, text})
	c.covers = append(c.covers, one)
}

// of lists the covers of a filter.
func (c *coverer) of(f *Filter) []cover {
	c.covers = c.covers[:0]
	c.node(&f.root)
	return c.covers
}

func (c *coverer) node(n *node) {
	switch n.op {
	case opExact, opPrefix, opSuffix, opPresent:
		c.add(n.op, n.name, n.want)
	case opSQL:
		c.sql(&n.sql.root)
	case opNot:
		if inner := &n.kids[0]; inner.op == opNot {
			c.node(&inner.kids[0])
		}
	case opAny:
		u := c.union()
		for i := range n.kids {
			c.node(&n.kids[i])
			u.branch()
		}
		u.end()
	default:
		for i := range n.kids {
			c.node(&n.kids[i])
		}
	}
}

// union makes the cover of a disjunction: one cover of each branch together.
type union struct {
	c    *coverer
	base int
	open bool // a branch has no cover, so the whole has none
	ids  cover
}

func (c *coverer) union() *union {
	c.choices++
	return &union{c: c, base: len(c.covers)}
}

// branch takes the covers that were appended since the last.
func (u *union) branch() {
	covers := u.c.covers[u.base:]
	if u.c.counting {
		for _, one := range covers {
			u.c.count(one)
		}
	}
	if i := u.c.lightest(covers); i >= 0 {
		u.ids = append(u.ids, covers[i]...)
	} else {
		u.open = true
	}
	u.c.covers = u.c.covers[:u.base]
}

func (u *union) end() {
	if !u.open {
		u.c.covers = append(u.c.covers, u.ids)
	}
}

func (c *coverer) count(one cover) {
	for _, t := range one {
		c.counts[t]++
	}
}

// lightest tells which of several covers is to be preferred, -1 if there is none.
func (c *coverer) lightest(covers []cover) int {
	best, least := -1, 0
	for i, one := range covers {
		if c.counting {
			return i
		}
		if w := c.weight(one); best < 0 || w < least {
			best, least = i, w
		}
	}
	return best
}

// weight estimates how many filters an event finds under a cover that it
// satisfies. What other filters ask for is taken as a sign of what events
// have: a condition that all filters share tells no two of them apart.
func (c *coverer) weight(one cover) int {
	sum := 0
	for _, n := range one {
		switch t := &c.terms[n]; t.op {
		case opExact:
			sum += c.counts[n]
		case opPresent:
			sum += c.counts[n] + c.all
		default:
			// A short affix fits many values.
			sum += c.counts[n] + 1 + c.all/(1+len(t.text)*len(t.text))
		}
	}
	return sum
}

// sql appends covers of a CESQL expression: what must hold for it to be true
// and not a fault. Comparisons cast, so only those count for which a text
// comparison of the attribute decides the same.
func (c *coverer) sql(n *sqlNode) {
	switch n.op {
	case sqlAnd:
		// The result is true only if both sides are.
		c.sql(&n.args[0])
		c.sql(&n.args[1])
	case sqlOr:
		u := c.union()
		for i := range n.args {
			c.sql(&n.args[i])
			u.branch()
		}
		u.end()
	case sqlExists:
		if !isRequired(n.name) {
			c.add(opPresent, n.name, "")
		}
	case sqlEqual:
		left, right := &n.args[0], &n.args[1]
		if left.op == sqlAttribute && right.op == sqlLiteral && right.literal.kind == kindString {
			// The attribute is cast to String, which is its text.
			c.add(opExact, left.name, right.literal.text)
		} else if right.op == sqlAttribute && left.op == sqlLiteral && plain(left.literal) {
			c.add(opExact, right.name, left.literal.text)
		}
	case sqlIn:
		c.in(n)
	case sqlLike:
		if n.args[0].op == sqlAttribute {
			c.like(n.like, n.args[0].name)
		}
	}
}

// plain reports whether a value equals the literal only if its text does,
// even when the literal is cast to the value's type. Not so '05' and 'TRUE',
// which equal the Integer 5 and the Boolean true.
func plain(literal value) bool {
	if literal.kind != kindString {
		return false
	}
	_, isInteger := parseInteger(literal.text)
	return !isInteger && !equalFold(literal.text, "true") && !equalFold(literal.text, "false")
}

func (c *coverer) in(n *sqlNode) {
	if n.args[0].op != sqlAttribute {
		return
	}
	elements := n.args[1:]
	for i := range elements {
		if elements[i].op != sqlLiteral || !plain(elements[i].literal) {
			return
		}
	}
	one := c.cut(len(elements))
	for i := range elements {
		one[i] = c.number(term{opExact, n.args[0].name, elements[i].literal.text})
	}
	c.covers = append(c.covers, one)
}

func (c *coverer) like(p *likePattern, name string) {
	if p.whole() {
		c.add(opExact, name, p.pieces[0].text)
		return
	}
	if head := p.head(); head != "" {
		c.add(opPrefix, name, head)
	}
	if tail := p.tail(); tail != "" {
		c.add(opSuffix, name, tail)
	}
}

// decides reports whether a filter is no more than its cover: one exact,
// prefix or suffix, or any of several. What is found under it need not be asked.
func (f *Filter) decides() bool {
	n := &f.root
	for len(n.kids) == 1 && (n.op == opFilters || n.op == opAttributes || n.op == opAll || n.op == opAny || n.op == opTerms) {
		n = &n.kids[0]
	}
	if n.op != opAny {
		return n.affirms()
	}
	for i := range n.kids {
		if !n.kids[i].affirms() {
			return false
		}
	}
	return true
}

func (n *node) affirms() bool { return n.op == opExact || n.op == opPrefix || n.op == opSuffix }
