package filter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/event"
)

// Explanation is why a filter wants an event, or the first clause because of
// which it does not.
type Explanation struct {
	Matched bool   `json:"matched"`
	Path    string `json:"path,omitempty"`   // where the clause stands: filters[0].all[1].exact
	Clause  string `json:"clause,omitempty"` // the clause: exact type
	Want    string `json:"want,omitempty"`   // what it asks for; "" for clauses without one value
	Got     string `json:"got,omitempty"`    // the event's value
	Missing bool   `json:"missing,omitempty"`
	Reason  string `json:"reason"` // one line, without the path; values longer than 256 bytes are cut
}

// String is one line: filters[0].exact: type is "a", want "b".
func (x Explanation) String() string {
	if x.Path == "" {
		return x.Reason
	}
	return x.Path + ": " + x.Reason
}

// Explain tells why Match answers what it does. It is for people: it allocates.
func (f *Filter) Explain(e event.Event) (x Explanation) {
	defer func() {
		if recover() != nil {
			x = Explanation{Reason: "evaluating CESQL panicked: please report the filter"}
		}
	}()
	if len(f.root.kids) == 0 {
		return Explanation{Matched: true, Reason: "no filter: every event matches"}
	}
	path := "filters"
	if f.root.op == opAttributes {
		path = "filter.attributes"
	}
	if f.Match(e) {
		return Explanation{Matched: true, Reason: "every clause matches"}
	}
	if x, failed := f.root.explain(e, path); failed {
		return x
	}
	// Each clause alone stays within the bound, all together do not.
	return Explanation{Path: path, Reason: faultValue(faultCost, "").reason()}
}

// holds is match for one clause on its own.
func (n *node) holds(e event.Event) bool {
	return n.match(&evaluation{event: e, budget: evaluationBudget})
}

// explain returns the first failing clause at or under n, if any.
func (n *node) explain(e event.Event, path string) (Explanation, bool) {
	switch n.op {
	case opFilters, opAll:
		if n.op == opAll {
			path += ".all"
		}
		for i := range n.kids {
			if x, failed := n.kids[i].explain(e, path+"["+strconv.Itoa(i)+"]"); failed {
				return x, true
			}
		}
		return Explanation{}, false
	case opAttributes, opTerms:
		for i := range n.kids {
			if x, failed := n.kids[i].explainTerm(e, path, n.op == opAttributes); failed {
				return x, true
			}
		}
		return Explanation{}, false
	case opAny:
		return n.explainAny(e, path+".any")
	case opNot:
		return n.explainNot(e, path+".not")
	case opSQL:
		return n.sql.explain(e, path+".cesql")
	default:
		return n.explainTerm(e, path, false)
	}
}

// dialect is the name of a comparison's dialect.
func (n *node) dialect() string {
	switch n.op {
	case opPrefix:
		return "prefix"
	case opSuffix:
		return "suffix"
	}
	return "exact"
}

// what names a clause.
func (n *node) what() string {
	switch n.op {
	case opAny:
		return fmt.Sprintf("any of %d", len(n.kids))
	case opAll:
		return fmt.Sprintf("all of %d", len(n.kids))
	case opTerms:
		return fmt.Sprintf("%s of %d attributes", n.kids[0].dialect(), len(n.kids))
	case opNot:
		return "not " + n.kids[0].what()
	case opSQL:
		return "cesql"
	}
	return n.dialect() + " " + n.name
}

// wanted is a comparison's demand, as in: want prefix "a".
func (n *node) wanted() string {
	switch n.op {
	case opPresent:
		return "any value"
	case opExact:
		return quote(n.want)
	}
	return n.dialect() + " " + quote(n.want)
}

func (n *node) explainTerm(e event.Event, path string, legacy bool) (Explanation, bool) {
	if n.holds(e) {
		return Explanation{}, false
	}
	v, ok := lookup(e, n.name)
	x := Explanation{Path: path + "." + n.dialect(), Clause: n.what(), Want: n.want, Got: strings.Clone(v.Text), Missing: !ok}
	if legacy {
		x.Path, x.Clause = path, "attribute "+n.name
	}
	x.Reason = n.name + " is " + got(v, ok) + ", want " + n.wanted()
	return x, true
}

func (n *node) explainAny(e event.Event, path string) (Explanation, bool) {
	const shown = 3
	var reasons []string
	for i := range n.kids {
		x, failed := n.kids[i].explain(e, path+"["+strconv.Itoa(i)+"]")
		if !failed {
			return Explanation{}, false
		}
		if i < shown {
			reasons = append(reasons, x.String())
		}
	}
	if more := len(n.kids) - shown; more > 0 {
		reasons = append(reasons, fmt.Sprintf("and %d more", more))
	}
	return Explanation{
		Path:   path,
		Clause: n.what(),
		Reason: fmt.Sprintf("none of %d matches: %s", len(n.kids), strings.Join(reasons, "; ")),
	}, true
}

func (n *node) explainNot(e event.Event, path string) (Explanation, bool) {
	kid := &n.kids[0]
	if !kid.holds(e) {
		return Explanation{}, false
	}
	x := Explanation{Path: path, Clause: "not " + kid.what()}
	switch kid.op {
	case opExact, opPrefix, opSuffix:
		v, ok := lookup(e, kid.name)
		x.Want = kid.want
		x.Got = strings.Clone(v.Text)
		x.Reason = kid.name + " is " + got(v, ok) + ", want not " + kid.wanted()
	case opSQL:
		x.Clause += " " + kid.sql.root.source
		x.Reason = quote(kid.sql.root.source) + " is true" + kid.sql.root.values(e) + ", want it not to be"
	default:
		x.Reason = kid.what() + " matches, want it not to"
	}
	return x, true
}

// explain narrows a failure down to the first operand of the leading ANDs
// that is not true.
func (x *sqlExpr) explain(e event.Event, path string) (Explanation, bool) {
	v := x.root.alone(e)
	if v.kind == kindBoolean && v.isTrue() {
		return Explanation{}, false
	}
	n := &x.root
	for n.op == sqlAnd {
		if left := n.args[0].alone(e); left.kind != kindBoolean || !left.isTrue() {
			n = &n.args[0]
		} else {
			n = &n.args[1]
		}
	}
	ex := Explanation{Path: path, Clause: "cesql " + n.source}
	if n.op == sqlEqual && n.args[0].op == sqlAttribute && n.args[1].op == sqlLiteral {
		ex.Want = n.args[1].literal.toString().text
		ex.Got = strings.Clone(e.Text(n.args[0].name))
	}
	v = n.alone(e)
	if v.kind == kindFault {
		ex.Missing = v.why == faultMissing
		ex.Reason = quote(n.source) + " cannot be evaluated: " + v.reason()
		if v.why != faultMissing {
			ex.Reason += n.values(e)
		}
		return ex, true
	}
	ex.Reason = quote(n.source) + " is false" + n.values(e)
	return ex, true
}

// alone is the value of one part of an expression.
func (n *sqlNode) alone(e event.Event) value {
	ev := evaluation{event: e, budget: evaluationBudget}
	return ev.evaluate(n)
}

// values lists the attributes that a part of an expression names, with what
// the event has there.
func (n *sqlNode) values(e event.Event) string {
	const shown = 4
	var names, list []string
	n.attributes(&names)
	for _, name := range names {
		if len(list) == shown {
			list = append(list, "...")
			break
		}
		v, ok := e.Attribute(name)
		list = append(list, name+" is "+got(v, ok))
	}
	if len(list) == 0 {
		return ""
	}
	return " (" + strings.Join(list, ", ") + ")"
}

func (n *sqlNode) attributes(names *[]string) {
	if n.op == sqlAttribute || n.op == sqlExists {
		for _, known := range *names {
			if known == n.name {
				return
			}
		}
		*names = append(*names, n.name)
	}
	for i := range n.args {
		n.args[i].attributes(names)
	}
}

func got(v event.Value, ok bool) string {
	if !ok {
		return "missing"
	}
	return quote(v.Text)
}

func quote(s string) string { return strconv.Quote(clip(s)) }

// clip cuts text that others wrote to what fits a line.
func clip(s string) string {
	const most = 256
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > most-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
