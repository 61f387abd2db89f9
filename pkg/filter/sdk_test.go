package filter

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/sql/v2/parser"
	cloudevents "github.com/cloudevents/sdk-go/v2"

	"github.com/penstock-events/penstock/pkg/event"
)

func toSDK(t *testing.T, e event.Event) cloudevents.Event {
	t.Helper()
	out, err := e.SDK()
	if err != nil {
		t.Fatalf("%s: %v", describe(e), err)
	}
	return out
}

// FuzzCESQLAgainstSDK feeds any text as an expression.
func FuzzCESQLAgainstSDK(f *testing.F) {
	for _, text := range []string{
		"type = 'a'", "NOT EXISTS exta AND source LIKE '/a%'", "extn + 1 * 2 - 3 / 4 % 5 >= -6", "exta IN ('a', \"b\", 5, TRUE)",
		"LENGTH(UPPER(CONCAT_WS('-', type, 'x'))) > ABS(-3)", "SUBSTRING(type, 1, 1) = LEFT(source, 1) XOR TRUE", "int(extn) <> 5 or false",
		"a", "5", "''", "'it''s' = 'it\\'s'", "((((TRUE))))", "type = 'a' #", "type =", "NOT NOT NOT extt", "- - -5 = 5", "5abc = 'x'",
		"BOOL(extt) AND IS_INT(extn) AND IS_BOOL('x') AND STRING(5) = '5' AND RIGHT('abc', 2) = 'bc' AND TRIM(' a ') = LOWER('A')",
	} {
		f.Add(text)
	}
	events := make([]event.Event, 6)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range events {
		events[i] = randomChoices(r, 60).event(f)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := Compile(sql(text))
		if err != nil {
			return
		}
		theirs, err := parser.Parse(text)
		if err != nil {
			t.Fatalf("%q compiles, but not in the SDK: %v", text, err)
		}
		expr := filter.root.kids[0].sql
		for _, e := range events {
			got := filter.Match(e)
			if x := filter.Explain(e); x.Matched != got || strings.ContainsAny(x.String(), "\n\r") {
				t.Fatalf("match is %v, explained as %+v", got, x)
			}
			var s Scratch
			if found := len(NewIndex([]*Filter{filter}).Match(e, &s)) == 1; found != got {
				t.Fatalf("%q: match is %v, the index says %v\n%s", text, got, found, describe(e))
			}
			if !comparable(text, &expr.root) {
				continue
			}
			want, ok := evaluateSDK(theirs.Evaluate, toSDK(t, e))
			if ok && got != want {
				t.Fatalf("%q is %v, the SDK says %v\n%s\n%s", text, got, want, describe(e), filter.Explain(e))
			}
		}
	})
}

// comparable leaves out what the list above says the SDK does otherwise.
func comparable(text string, n *sqlNode) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	if n.op == sqlLike && (n.args[0].op != sqlAttribute || strings.Contains(n.source, `\`)) {
		return false
	}
	if n.name == event.AttrSchemaURL {
		return false // an alias here, unknown in the SDK
	}
	for i := range n.args {
		if !comparable(text, &n.args[i]) {
			return false
		}
	}
	return true
}

// evaluateSDK reports false for ok where the result is no Boolean.
func evaluateSDK(evaluate func(cloudevents.Event) (any, error), e cloudevents.Event) (matched, ok bool) {
	defer func() {
		if recover() != nil {
			matched, ok = false, false
		}
	}()
	v, err := evaluate(e)
	if err != nil {
		return false, true
	}
	matched, ok = v.(bool)
	return matched, ok
}
