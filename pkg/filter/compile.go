package filter

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/event"
)

// Compile checks a Spec and makes it ready to match. It accepts what Knative's
// webhook accepts, except for what would then match everything or nothing by
// accident: entries without a dialect, empty values, CESQL that is no boolean
// or calls a function that does not exist. The error is an *Error and names
// the first fault, in the order of the spec, map keys sorted.
//
// The function KN_VERIFY_CORRELATION_ID does not exist here: see CompileWith.
func Compile(s Spec) (*Filter, error) { return CompileWith(s, Options{}) }

// Options are what a filter may need beside its Spec. The zero value works.
type Options struct {
	// Keys are those of KN_VERIFY_CORRELATION_ID; the filter asks it for as long
	// as it lives. nil: a filter that calls the function does not compile.
	Keys Keys
}

// CompileWith is Compile with Options.
func CompileWith(s Spec, o Options) (*Filter, error) {
	c := compiler{keys: o.Keys}
	attributes := c.attributes(s.Attributes)
	filters := node{op: opFilters}
	c.nodes = 0 // only one of the two lists is in force
	filters.kids = c.list(s.Filters, "filters", 1)
	if c.err != nil {
		return nil, c.err
	}
	if len(s.Filters) == 0 {
		return &Filter{root: attributes}, nil
	}
	return &Filter{root: filters, sql: c.sql}, nil
}

// compiler keeps the first error; after it, what is built is thrown away.
type compiler struct {
	keys  Keys
	nodes int
	sql   bool
	err   *Error
}

func (c *compiler) fail(path, format string, args ...any) {
	if c.err == nil {
		c.err = &Error{Path: path, Reason: fmt.Sprintf(format, args...)}
	}
}

// count takes n nodes from the filter's allowance.
func (c *compiler) count(path string, n int) {
	if c.nodes += n; c.nodes > MaxNodes {
		c.fail(path, "filter is too large: more than %d clauses and operators", MaxNodes)
	}
}

// attributes compiles filter.attributes, where the value "" stands for any.
func (c *compiler) attributes(m map[string]string) node {
	n := node{op: opAttributes}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		path := "filter.attributes"
		c.count(path, 1)
		c.name(path, name)
		c.text(path+key(name), m[name])
		kid := node{op: opExact, name: name, want: m[name]}
		if kid.want == "" {
			kid.op = opPresent
		}
		n.kids = append(n.kids, kid)
	}
	return n
}

func (c *compiler) list(dialects []Dialect, path string, depth int) []node {
	kids := make([]node, 0, len(dialects))
	for i := range dialects {
		if c.err != nil {
			return nil
		}
		kids = append(kids, c.dialect(&dialects[i], path+"["+strconv.Itoa(i)+"]", depth))
	}
	return kids
}

func (c *compiler) dialect(d *Dialect, path string, depth int) node {
	if depth > MaxDepth {
		c.fail(path, "filter is nested too deep: more than %d levels", MaxDepth)
		return node{}
	}
	if set := d.set(); len(set) != 1 {
		if len(set) == 0 {
			c.fail(path, "no dialect: want one of exact, prefix, suffix, all, any, not, cesql, and not empty")
		} else {
			c.fail(path, "more than one dialect: %s; put each into its own entry", strings.Join(set, ", "))
		}
		return node{}
	}
	switch {
	case len(d.Exact) > 0:
		return c.terms(opExact, d.Exact, path+".exact")
	case len(d.Prefix) > 0:
		return c.terms(opPrefix, d.Prefix, path+".prefix")
	case len(d.Suffix) > 0:
		return c.terms(opSuffix, d.Suffix, path+".suffix")
	case len(d.All) > 0:
		c.count(path+".all", 1)
		return node{op: opAll, kids: c.list(d.All, path+".all", depth+1)}
	case len(d.Any) > 0:
		c.count(path+".any", 1)
		return node{op: opAny, kids: c.list(d.Any, path+".any", depth+1)}
	case d.Not != nil:
		c.count(path+".not", 1)
		return node{op: opNot, kids: []node{c.dialect(d.Not, path+".not", depth+1)}}
	default:
		return c.cesql(d.CESQL, path+".cesql")
	}
}

// set names the dialects of one entry. Knative's webhook, too, takes an empty
// map or list for one that is not there.
func (d *Dialect) set() []string {
	var names []string
	for _, dialect := range []struct {
		name string
		set  bool
	}{
		{"exact", len(d.Exact) > 0},
		{"prefix", len(d.Prefix) > 0},
		{"suffix", len(d.Suffix) > 0},
		{"all", len(d.All) > 0},
		{"any", len(d.Any) > 0},
		{"not", d.Not != nil},
		{"cesql", d.CESQL != ""},
	} {
		if dialect.set {
			names = append(names, dialect.name)
		}
	}
	return names
}

func (c *compiler) terms(op op, m map[string]string, path string) node {
	n := node{op: opTerms, kids: make([]node, 0, len(m))}
	for _, name := range sorted(m) {
		c.count(path, 1)
		c.name(path, name)
		switch want := m[name]; {
		case want == "":
			c.fail(path+key(name), "value is empty")
		case !fine(want):
			c.text(path+key(name), want)
		}
		n.kids = append(n.kids, node{op: op, name: name, want: m[name]})
	}
	if len(n.kids) == 1 {
		return n.kids[0]
	}
	return n
}

func (c *compiler) cesql(expression, path string) node {
	c.text(path, expression)
	if c.err != nil {
		return node{}
	}
	expr, err := compileSQL(expression, c.keys)
	if err != nil {
		c.fail(path, "%v", err)
		return node{}
	}
	c.count(path, expr.nodes)
	c.sql = true
	return node{op: opSQL, sql: expr}
}

// name checks an attribute name as Knative's webhook does: ^[a-z][a-z0-9]*$.
func (c *compiler) name(path, name string) {
	if !validName(name) || name[0] < 'a' {
		c.fail(path+key(name), "not an attribute name: want lower case letters and digits, beginning with a letter")
	} else if len(name) > event.MaxNameBytes {
		c.fail(path+key(name), "attribute name is longer than %d bytes", event.MaxNameBytes)
	}
}

// key is a map key as part of a path, quoted where it is no plain word: it
// comes from a stranger's YAML, and the path goes into one line of a status.
func key(name string) string {
	if len(name) <= event.MaxNameBytes && validName(strings.ToLower(name)) && utf8.RuneCountInString(name) == len(name) {
		return "[" + name + "]"
	}
	return "[" + strconv.Quote(clip(name)) + "]"
}

// validName reports whether CloudEvents allows the name (1.0, 3.1.1). It may
// begin with a digit.
func validName(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// sorted are the keys of a map, which nearly always has one.
func sorted(m map[string]string) []string {
	if len(m) == 1 {
		for name := range m {
			return []string{name}
		}
	}
	return slices.Sorted(maps.Keys(m))
}

// fine reports whether c.text finds no fault.
func fine(text string) bool { return len(text) <= MaxTextBytes && utf8.ValidString(text) }

func (c *compiler) text(path, text string) {
	if len(text) > MaxTextBytes {
		c.fail(path, "%d bytes: at most %d", len(text), MaxTextBytes)
	} else if !utf8.ValidString(text) {
		c.fail(path, "not valid UTF-8")
	}
}
