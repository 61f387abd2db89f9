// Package filter decides which events a Trigger wants. It compiles Knative's
// filters (filter.attributes and the dialects exact, prefix, suffix, all, any,
// not and cesql), matches events against one of them or against all of a
// Broker's at once, and explains a single decision.
//
// It promises that a filter which is invalid, or a CESQL expression which
// cannot be evaluated, never matches everything: the first does not compile,
// the second does not match. Matching starts no goroutine, takes no lock,
// writes no log line, and allocates nothing unless a CESQL function builds a
// new string or verifies a correlation id. An Index answers in time proportional to the number of filters
// that match, not to the number there are.
//
// It does not promise Knative's results where Knative departs from the
// CloudEvents specifications; the differential fuzz test lists each case.
//
// A Filter and an Index never change once made: any number of goroutines may
// use one. A Scratch belongs to one goroutine.
package filter

import (
	"strings"

	"github.com/penstock-events/penstock/pkg/event"
)

// Filter is a compiled Spec. Compile makes one.
type Filter struct {
	root node
	sql  bool // there is CESQL in it
}

type op uint8

const (
	opFilters    op = iota // the list filters: all kids
	opAttributes           // the map filter.attributes: all kids
	opTerms                // the map of one exact, prefix or suffix: all kids
	opAll
	opAny
	opNot
	opExact
	opPrefix
	opSuffix
	opPresent // filter.attributes with value "": any value
	opSQL
)

// node is one step of a filter. What it uses of the fields is its op's matter.
type node struct {
	op   op
	name string // attribute
	want string
	kids []node
	sql  *sqlExpr
}

// Match reports whether the filter wants the event. Values are compared as
// their string form, byte for byte as the sender wrote it; this includes
// time, so that 10:00:00Z and 10:00:00.000Z differ. Attributes are found by
// name, with Knative's three aliases: dataschema (1.0) and schemaurl (0.3) find
// each other, and datamediatype is datacontenttype without its parameters.
//
// A missing attribute fails exact, prefix, suffix and filter.attributes, and
// therefore passes a not around them. A CESQL expression that cannot be
// evaluated counts as false in the same way.
func (f *Filter) Match(e event.Event) bool {
	if f.sql {
		return f.matchContained(e)
	}
	return f.root.match(&evaluation{event: e})
}

// matchContained answers false if evaluating CESQL panics or costs too much,
// and no not around the expression turns that into a match. The evaluator has
// no path to a panic that we know of; but events come from outside, and one of
// them must not take the process down.
func (f *Filter) matchContained(e event.Event) (matched bool) {
	defer func() {
		if recover() != nil {
			matched = false
		}
	}()
	ev := evaluation{event: e, budget: evaluationBudget}
	return f.root.match(&ev) && ev.budget >= 0
}

func (n *node) match(ev *evaluation) bool {
	switch n.op {
	case opExact:
		v, ok := lookup(ev.event, n.name)
		return ok && v.Text == n.want
	case opPrefix:
		v, ok := lookup(ev.event, n.name)
		return ok && strings.HasPrefix(v.Text, n.want)
	case opSuffix:
		v, ok := lookup(ev.event, n.name)
		return ok && strings.HasSuffix(v.Text, n.want)
	case opPresent:
		v, _ := lookup(ev.event, n.name)
		return v.Text != ""
	case opSQL:
		return n.sql.match(ev)
	case opNot:
		return !n.kids[0].match(ev)
	case opAny:
		for i := range n.kids {
			if n.kids[i].match(ev) {
				return true
			}
		}
		return false
	default:
		for i := range n.kids {
			if !n.kids[i].match(ev) {
				return false
			}
		}
		return true
	}
}

// mediaType is a name that only filters know: Knative derives its value from
// datacontenttype.
const mediaType = "datamediatype"

// lookup finds an attribute under the name a filter gives it.
func lookup(e event.Event, name string) (event.Value, bool) {
	v, ok := e.Attribute(name)
	if !ok {
		return alias(e, name)
	}
	return v, ok
}

func alias(e event.Event, name string) (event.Value, bool) {
	switch name {
	case event.AttrDataSchema:
		return e.Attribute(event.AttrSchemaURL)
	case event.AttrSchemaURL:
		return e.Attribute(event.AttrDataSchema)
	case mediaType:
		v, ok := e.Attribute(event.AttrDataContentType)
		if text, _, parameters := strings.Cut(v.Text, ";"); parameters {
			v.Text = strings.TrimSpace(text)
		}
		return v, ok
	}
	return event.Value{}, false
}

// aliased reports whether lookup may find name where Event.Attribute does not.
func aliased(name string) bool {
	return name == event.AttrDataSchema || name == event.AttrSchemaURL || name == mediaType
}
