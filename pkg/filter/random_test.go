package filter

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// choices turns bytes into decisions, so that a fuzzer steers them. When they
// run out every decision is 0, which each generator makes its simplest case.
type choices struct{ bytes []byte }

func randomChoices(r *rand.Rand, n int) *choices {
	c := &choices{bytes: make([]byte, n)}
	for i := range c.bytes {
		c.bytes[i] = byte(r.Uint32())
	}
	return c
}

func (c *choices) pick(n int) int {
	if len(c.bytes) == 0 {
		return 0
	}
	b := c.bytes[0]
	c.bytes = c.bytes[1:]
	return int(b) % n
}

func pickOf[T any](c *choices, from []T) T { return from[c.pick(len(from))] }

// Few names and values, so that filters and events often meet. The values
// begin and end with each other, and some are other types' string forms.
var (
	someNames  = []string{"type", "source", "subject", "id", "exta", "extb", "extn", "extt", "datacontenttype", "specversion", "time"}
	someValues = []string{"a", "ab", "abc", "b", "bc", "c", "/a/b", "/a", "5", "-7", "true", "false", "abcabc", "text/plain", "1.0", "2020-01-02T03:04:05Z"}
	someURIs   = someValues[:len(someValues)-1] // the SDK takes no colon there
	aliasNames = []string{"dataschema", "schemaurl", "datamediatype"}
)

func (c *choices) event(t testing.TB) event.Event {
	var b event.Builder
	b.Set("id", pickOf(c, someValues)).Set("source", pickOf(c, someURIs)).Set("type", pickOf(c, someValues))
	b.Set("time", "2020-01-02T03:04:05Z")
	version, schema := "1.0", "dataschema"
	if c.pick(8) == 1 {
		version, schema = "0.3", "schemaurl"
	}
	b.Set("specversion", version)
	if c.pick(3) == 1 {
		b.Set(schema, pickOf(c, someURIs))
	}
	if c.pick(2) == 1 {
		b.Set("subject", pickOf(c, someValues))
	}
	if c.pick(3) == 1 {
		b.Set("datacontenttype", pickOf(c, []string{"text/plain", "a", "ab; c=d", "text/plain;charset=utf-8"}))
	}
	for _, name := range []string{"exta", "extb"} {
		if c.pick(2) == 1 {
			b.Set(name, pickOf(c, append(someValues, "", "05", "TRUE", "+5")))
		}
	}
	switch c.pick(3) {
	case 1:
		b.SetValue("extn", event.Value{Text: pickOf(c, []string{"5", "-7", "0"}), Kind: event.Integer})
	case 2:
		b.Set("extn", pickOf(c, someValues))
	}
	if c.pick(2) == 1 {
		b.SetValue("extt", event.Value{Text: pickOf(c, []string{"true", "false"}), Kind: event.Boolean})
	}
	return build(t, &b)
}

func (c *choices) spec() Spec {
	var s Spec
	if c.pick(4) == 1 {
		s.Attributes = c.terms()
		if c.pick(3) == 1 {
			s.Attributes[pickOf(c, someNames)] = ""
		}
	}
	for range c.pick(4) {
		s.Filters = append(s.Filters, c.dialect(3))
	}
	return s
}

func (c *choices) terms() map[string]string {
	out := make(map[string]string)
	for range 1 + c.pick(4)/3 {
		name := pickOf(c, someNames)
		if c.pick(8) == 1 {
			name = pickOf(c, aliasNames)
		}
		out[name] = pickOf(c, someValues)
	}
	return out
}

func (c *choices) dialect(depth int) Dialect {
	kinds := 8
	if depth == 0 {
		kinds = 5
	}
	switch c.pick(kinds) {
	case 0, 1:
		return Dialect{Exact: c.terms()}
	case 2:
		return Dialect{Prefix: c.terms()}
	case 3:
		return Dialect{Suffix: c.terms()}
	case 4:
		return Dialect{CESQL: c.boolean(3)}
	case 5:
		return Dialect{All: c.dialects(depth - 1)}
	case 6:
		return Dialect{Any: c.dialects(depth - 1)}
	default:
		inner := c.dialect(depth - 1)
		return Dialect{Not: &inner}
	}
}

func (c *choices) dialects(depth int) []Dialect {
	var out []Dialect
	for range 1 + c.pick(3) {
		out = append(out, c.dialect(depth))
	}
	return out
}

// boolean writes a CESQL expression that is a Boolean.
func (c *choices) boolean(depth int) string {
	kinds := 12
	if depth == 0 {
		kinds = 7
	}
	depth--
	switch c.pick(kinds) {
	case 0, 1, 2:
		return pickOf(c, someNames) + pickOf(c, []string{" = ", " = ", " != ", " <> "}) + c.literal()
	case 3:
		return pickOf(c, someNames) + pickOf(c, []string{" LIKE ", " NOT LIKE "}) +
			pickOf(c, []string{"'a%'", "'%c'", "'%b%'", "'a_c%'", "'abc'", "'_'", "'%_b'", "''", "'%'"})
	case 4:
		return pickOf(c, someNames) + pickOf(c, []string{" IN (", " NOT IN ("}) + c.literal() + ", " + c.operand(0) + ")"
	case 5:
		return "EXISTS " + pickOf(c, someNames)
	case 6:
		return pickOf(c, []string{"TRUE", "extt", "exta", "false"})
	case 7, 8:
		return "(" + c.boolean(depth) + ") AND " + c.boolean(depth)
	case 9:
		return "(" + c.boolean(depth) + ")" + pickOf(c, []string{" OR ", " XOR "}) + c.boolean(depth)
	case 10:
		return "NOT (" + c.boolean(depth) + ")"
	default:
		return "(" + c.operand(2) + ")" + pickOf(c, []string{" = ", " < ", " >= ", " != ", " <= ", " > "}) + "(" + c.operand(2) + ")"
	}
}

func (c *choices) literal() string {
	switch c.pick(8) {
	case 6:
		return pickOf(c, []string{"5", "-7", "0"})
	case 7:
		return pickOf(c, []string{"TRUE", "FALSE"})
	}
	quote := pickOf(c, []string{"'", `"`})
	return quote + pickOf(c, append(someValues, "05", "TRUE")) + quote
}

func (c *choices) operand(depth int) string {
	kinds := 8
	if depth == 0 {
		kinds = 2
	}
	depth--
	switch c.pick(kinds) {
	case 0:
		return c.literal()
	case 1:
		return pickOf(c, someNames)
	case 2:
		return "(" + c.operand(depth) + ")" + pickOf(c, []string{" + ", " - ", " * ", " / ", " % "}) + "(" + c.operand(depth) + ")"
	case 3:
		return "- (" + c.operand(depth) + ")"
	case 4:
		return pickOf(c, []string{"INT", "BOOL", "STRING", "IS_INT", "IS_BOOL", "ABS", "LENGTH", "LOWER", "UPPER", "TRIM"}) + "(" + c.operand(depth) + ")"
	case 5:
		return pickOf(c, []string{"CONCAT", "CONCAT_WS"}) + "(" + c.operand(depth) + ", " + c.operand(depth) + ", " + c.operand(0) + ")"
	case 6:
		return pickOf(c, []string{"LEFT", "RIGHT", "SUBSTRING"}) + "(" + c.operand(depth) + ", " + pickOf(c, []string{"1", "2", "0", "-1", "9", "extn"}) + ")"
	default:
		return "SUBSTRING(" + c.operand(depth) + ", " + pickOf(c, []string{"1", "2", "-1"}) + ", " + pickOf(c, []string{"0", "1", "9"}) + ")"
	}
}

func TestGeneratedCESQLIsMostlyValid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		text := randomChoices(r, 60).boolean(3)
		if _, err := compileSQL(text, nil); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func describe(e event.Event) string {
	var b strings.Builder
	for name, v := range e.Attributes() {
		fmt.Fprintf(&b, " %s=%q(%d)", name, v.Text, v.Kind)
	}
	return b.String()
}
