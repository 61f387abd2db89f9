package filter

import "slices"

// term is a condition on one attribute that an index can find without
// looking at the filters that do not state it.
type term struct {
	op   op // opExact, opPrefix, opSuffix, opPresent
	name string
	text string
}

// cover is a set of terms of which at least one holds for every event the
// filter matches. A filter may have several covers, and an index needs one.
type cover []term

// covers lists the covers of a filter. weigh tells which of several covers is
// to be preferred where only one can be used; less is better.
//
// A cover need only be necessary, never sufficient: the index asks the filter
// about each event that satisfies one.
func (n *node) covers(weigh func(cover) int) []cover {
	switch n.op {
	case opExact, opPrefix, opSuffix, opPresent:
		return []cover{{{n.op, n.name, n.want}}}
	case opSQL:
		return n.sql.root.covers(weigh)
	case opNot:
		if inner := &n.kids[0]; inner.op == opNot {
			return inner.kids[0].covers(weigh)
		}
		return nil
	case opAny:
		branches := make([][]cover, len(n.kids))
		for i := range n.kids {
			branches[i] = n.kids[i].covers(weigh)
		}
		return union(branches, weigh)
	default:
		var all []cover
		for i := range n.kids {
			all = append(all, n.kids[i].covers(weigh)...)
		}
		return all
	}
}

// union is the cover of a disjunction: one cover of each branch together.
func union(branches [][]cover, weigh func(cover) int) []cover {
	var whole cover
	for _, covers := range branches {
		c := lightest(covers, weigh)
		if c == nil {
			return nil
		}
		whole = append(whole, c...)
	}
	return []cover{whole}
}

func lightest(covers []cover, weigh func(cover) int) cover {
	var best cover
	least := 0
	for _, c := range covers {
		if w := weigh(c); best == nil || w < least {
			best, least = c, w
		}
	}
	return best
}

// covers of a CESQL expression: what must hold for it to be true and not a
// fault. Comparisons cast, so only those count for which a text comparison
// of the attribute decides the same.
func (n *sqlNode) covers(weigh func(cover) int) []cover {
	switch n.op {
	case sqlAnd:
		// The result is true only if both sides are.
		return slices.Concat(n.args[0].covers(weigh), n.args[1].covers(weigh))
	case sqlOr:
		return union([][]cover{n.args[0].covers(weigh), n.args[1].covers(weigh)}, weigh)
	case sqlExists:
		if !isRequired(n.name) {
			return []cover{{{opPresent, n.name, ""}}}
		}
	case sqlEqual:
		left, right := &n.args[0], &n.args[1]
		if left.op == sqlAttribute && right.op == sqlLiteral && right.literal.kind == kindString {
			// The attribute is cast to String, which is its text.
			return exactly(left.name, right.literal)
		}
		if right.op == sqlAttribute && left.op == sqlLiteral && plain(left.literal) {
			return exactly(right.name, left.literal)
		}
	case sqlIn:
		return n.inCover()
	case sqlLike:
		if n.args[0].op == sqlAttribute {
			return n.like.covers(n.args[0].name)
		}
	}
	return nil
}

func exactly(name string, literal value) []cover {
	return []cover{{{opExact, name, literal.text}}}
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

func (n *sqlNode) inCover() []cover {
	if n.args[0].op != sqlAttribute {
		return nil
	}
	var c cover
	for _, element := range n.args[1:] {
		if element.op != sqlLiteral || !plain(element.literal) {
			return nil
		}
		c = append(c, term{opExact, n.args[0].name, element.literal.text})
	}
	return []cover{c}
}

func (p *likePattern) covers(name string) []cover {
	if p.whole() {
		return []cover{{{opExact, name, p.pieces[0].text}}}
	}
	var covers []cover
	if head := p.head(); head != "" {
		covers = append(covers, cover{{opPrefix, name, head}})
	}
	if tail := p.tail(); tail != "" {
		covers = append(covers, cover{{opSuffix, name, tail}})
	}
	return covers
}
