package filter

import (
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

func TestEachDialectMatchesWhatKnativeSaysItMatches(t *testing.T) {
	e := ev(t, "type", "com.example.created", "source", "/shop", "subject", "orders/1", "region", "eu", "blank", "",
		"time", "2026-01-02T03:04:05.000Z", "datacontenttype", "application/json; charset=utf-8", "dataschema", "/schema")
	typed := func(name, text string, kind event.Kind) event.Event {
		return build(t, event.Edit(e).SetValue(name, event.Value{Text: text, Kind: kind}))
	}
	exact := func(pairs ...string) Dialect { return Dialect{Exact: m(pairs...)} }
	not := func(d Dialect) Dialect { return Dialect{Not: &d} }
	for _, test := range []struct {
		name  string
		spec  Spec
		event event.Event
		want  bool
	}{
		{"no filter", Spec{}, e, true},
		{"empty maps", Spec{Attributes: m(), Filters: []Dialect{}}, e, true},

		{"attributes equal", Spec{Attributes: m("type", "com.example.created", "region", "eu")}, e, true},
		{"attributes differ in one", Spec{Attributes: m("type", "com.example.created", "region", "us")}, e, false},
		{"attributes differ in case", Spec{Attributes: m("region", "EU")}, e, false},
		{"attributes any value", Spec{Attributes: m("region", "")}, e, true},
		{"attributes any value, missing", Spec{Attributes: m("zone", "")}, e, false},
		{"attributes any value, empty", Spec{Attributes: m("blank", "")}, e, false},
		{"attributes of an integer", Spec{Attributes: m("n", "5")}, typed("n", "5", event.Integer), true},
		{"attributes of a boolean", Spec{Attributes: m("n", "true")}, typed("n", "true", event.Boolean), true},
		{"filters override attributes", Spec{Attributes: m("type", "other"), Filters: []Dialect{exact("region", "eu")}}, e, true},
		{"filters override attributes that match", Spec{Attributes: m("region", "eu"), Filters: []Dialect{exact("region", "us")}}, e, false},

		{"filters are a conjunction", list(exact("region", "eu"), exact("source", "/shop")), e, true},
		{"filters are a conjunction, one fails", list(exact("region", "eu"), exact("source", "/")), e, false},
		{"exact", list(exact("type", "com.example.created")), e, true},
		{"exact of a prefix", list(exact("type", "com.example")), e, false},
		{"exact, all keys", list(exact("type", "com.example.created", "region", "us")), e, false},
		{"exact, missing", list(exact("zone", "eu")), e, false},
		{"exact of an integer", list(exact("n", "5")), typed("n", "5", event.Integer), true},
		{"exact id", list(exact("id", "1")), e, true},
		{"exact specversion", list(exact("specversion", "1.0")), e, true},
		{"prefix", list(Dialect{Prefix: m("type", "com.example.")}), e, true},
		{"prefix of all", list(Dialect{Prefix: m("type", "com.example.created")}), e, true},
		{"prefix, longer", list(Dialect{Prefix: m("type", "com.example.created.")}), e, false},
		{"prefix, missing", list(Dialect{Prefix: m("zone", "e")}), e, false},
		{"suffix", list(Dialect{Suffix: m("type", ".created")}), e, true},
		{"suffix, missing", list(Dialect{Suffix: m("zone", "u")}), e, false},
		{"suffix differs", list(Dialect{Suffix: m("type", ".deleted")}), e, false},
		{"suffix, all keys", list(Dialect{Suffix: m("type", ".created", "region", "x")}), e, false},
		{"all", list(Dialect{All: []Dialect{exact("region", "eu"), {Prefix: m("source", "/")}}}), e, true},
		{"all, last fails", list(Dialect{All: []Dialect{exact("region", "eu"), exact("source", "/")}}), e, false},
		{"any, last", list(Dialect{Any: []Dialect{exact("region", "us"), exact("source", "/shop")}}), e, true},
		{"any, none", list(Dialect{Any: []Dialect{exact("region", "us"), exact("source", "/")}}), e, false},
		{"not", list(not(exact("region", "eu"))), e, false},
		{"not, differs", list(not(exact("region", "us"))), e, true},
		{"not, missing", list(not(exact("zone", "eu"))), e, true},
		{"not any", list(not(Dialect{Any: []Dialect{exact("region", "us"), exact("zone", "1")}})), e, true},
		{"not not", list(not(not(exact("region", "eu")))), e, true},

		{"time as written", list(exact("time", "2026-01-02T03:04:05.000Z")), e, true},
		{"time written otherwise", list(exact("time", "2026-01-02T03:04:05Z")), e, false},
		{"time by day", list(Dialect{Prefix: m("time", "2026-01-02")}), e, true},
		{"missing time", Spec{Attributes: m("time", "")}, ev(t), false},
		{"content type", list(exact("datacontenttype", "application/json; charset=utf-8")), e, true},
		{"media type", list(exact("datamediatype", "application/json")), e, true},
		{"media type of nothing", Spec{Attributes: m("datamediatype", "")}, ev(t), false},
		{"schemaurl finds dataschema", list(exact("schemaurl", "/schema")), e, true},
		{"dataschema finds schemaurl", list(exact("dataschema", "/old")), ev(t, "specversion", "0.3", "schemaurl", "/old"), true},

		{"cesql", sql("type = 'com.example.created' AND subject LIKE 'orders/%'"), e, true},
		{"cesql false", sql("region = 'us'"), e, false},
		{"cesql of an integer extension", sql("n + 1 = 6"), typed("n", "5", event.Integer), true},
		{"cesql of an integer in a string", sql("n + 1 = 6"), ev(t, "n", "5"), true},
		{"cesql boolean extension", sql("urgent"), typed("urgent", "true", event.Boolean), true},
		{"cesql boolean in binary mode", sql("urgent"), ev(t, "urgent", "true"), true},
		{"cesql false boolean", sql("urgent"), typed("urgent", "false", event.Boolean), false},
		{"cesql extension that is no boolean", sql("region"), e, false},
		{"cesql missing attribute", sql("zone = 'a'"), e, false},
		{"cesql missing attribute, unequal", sql("zone != 'a'"), e, false},
		{"cesql cast fails", sql("region < 5"), e, false},
		{"cesql division by zero", sql("1 / n = 1"), ev(t, "n", "0"), false},
		{"cesql error is not looked at", sql("region = 'eu' OR zone = 'a'"), e, true},
		{"cesql error under not", list(not(Dialect{CESQL: "zone = 'a'"})), e, true},
		{"cesql empty extension exists", sql("EXISTS blank AND blank = ''"), e, true},
		{"cesql empty context attribute does not", sql("EXISTS subject"), ev(t, "subject", ""), false},
		{"cesql dataschema of 0.3", sql("dataschema = '/old'"), ev(t, "specversion", "0.3", "schemaurl", "/old"), true},
		{"cesql characters, not bytes", sql("LENGTH(subject) = 2 AND LEFT(subject, 1) = 'é' AND RIGHT(subject, 1) = 'ü' AND subject LIKE '__'"), ev(t, "subject", "éü"), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := mustCompile(t, test.spec)
			if got := f.Match(test.event); got != test.want {
				t.Errorf("match %v, want %v", got, test.want)
			}
			if x := f.Explain(test.event); x.Matched != test.want {
				t.Errorf("explain says %+v, want matched %v", x, test.want)
			}
			var s Scratch
			if got := NewIndex([]*Filter{nil, f}).Match(test.event, &s); (len(got) == 1 && got[0] == 1) != test.want {
				t.Errorf("index says %v, want matched %v", got, test.want)
			}
		})
	}
}

func TestLikeMatchesByCharactersAndEscapes(t *testing.T) {
	for _, test := range []struct {
		text, pattern string
		want          bool
	}{
		{"", "", true}, {"a", "", false}, {"", "%", true}, {"abc", "%", true}, {"abc", "%%", true},
		{"abc", "abc", true}, {"abc", "ab", false}, {"abc", "a%", true}, {"abc", "%c", true}, {"abc", "%b%", true}, {"abc", "a%c", true},
		{"abc", "_", false}, {"abc", "___", true}, {"abc", "____", false}, {"abc", "_b_", true}, {"abc", "%_", true}, {"", "%_", false},
		{"abc", "%_c", true}, {"abc", "a_%", true}, {"abc", "%a_c", true}, {"aab", "%a_", true}, {"abab", "%_b%_b", true}, {"ab", "%_b%_b", false},
		{"aXbXc", "a%b%c", true}, {"aXbXc", "a%c%b", false}, {"aba", "ab%ba", false}, {"mississippi", "m%iss%ip%i", true},
		{"aé", "a_", true}, {"é", "_", true}, {"éa", "%_a", true}, {"\xff", "_", true}, {"\xff", "\uFFFD_", false}, {"\xffa", "\uFFFD_", false},
		// The SDK takes a % in the text for the wildcard's own character.
		{"%ab", "%b", true}, {"a%b", `a\%b`, true}, {"axb", `a\%b`, false}, {"a_b", `a\_b`, true}, {"axb", `a\_b`, false},
		// The SDK reads the escape as a plain backslash where it does not fit.
		{`\abc`, `\%`, false}, {`a\b`, `a\b`, true}, {`a\`, `a\`, true}, {`\\`, `\\`, true}, {`\%`, `\\%`, true}, {`\x`, `\\%`, false},
	} {
		budget := 1 << 20
		if got := compileLike(test.pattern).match(test.text, &budget); got != test.want {
			t.Errorf("%q LIKE %q is %v, want %v", test.text, test.pattern, got, test.want)
		}
	}
}

func TestCostlyEvaluationEndsAndDoesNotMatch(t *testing.T) {
	e := ev(t, "subject", strings.Repeat("a", 8<<10))
	costly := "subject LIKE '%_" + strings.Repeat("a", 1000) + "b%'"
	half := "LENGTH(subject) > 1"
	for _, s := range []Spec{
		sql(costly),
		sql("NOT (" + costly + ")"),
		list(Dialect{Not: &Dialect{CESQL: costly}}),
		sql("LENGTH(CONCAT(subject, subject, subject)) > 1"),
		sql("NOT (UPPER(CONCAT(subject, subject)) = 'A')"),
		list(Dialect{CESQL: half}, Dialect{CESQL: half}, Dialect{CESQL: half}),
	} {
		f := mustCompile(t, s)
		if f.Match(e) {
			t.Errorf("%s matches", clip(string(s.Canonical())))
		}
		x := f.Explain(e)
		if line := x.String(); x.Matched || !strings.Contains(line, "too costly") || len(line) > 2000 {
			t.Errorf("explained as %s", clip(line))
		}
	}
	for _, expression := range []string{half, "subject LIKE '%b%' OR subject LIKE '%a_a%'", "UPPER(subject) = LOWER(subject) OR TRUE"} {
		if f := mustCompile(t, sql(expression)); !f.Match(e) {
			t.Errorf("%s is within bounds: %s", expression, f.Explain(e))
		}
	}
}

func TestPanicInCESQLIsNoMatchEvenUnderNot(t *testing.T) {
	broken := sqlExpr{root: sqlNode{op: sqlNot}} // no operand
	f := &Filter{sql: true, root: node{op: opFilters, kids: []node{{op: opNot, kids: []node{{op: opSQL, sql: &broken}}}}}}
	e := ev(t)
	if f.Match(e) {
		t.Error("match")
	}
	if x := f.Explain(e); x.Matched || !strings.Contains(x.Reason, "panicked") {
		t.Errorf("explained as %+v", x)
	}
	var s Scratch
	if got := NewIndex([]*Filter{f, mustCompile(t, Spec{})}).Match(e, &s); len(got) != 1 || got[0] != 1 {
		t.Errorf("index says %v, want the other filter", got)
	}
}

func TestMatchingDoesNotAllocate(t *testing.T) {
	e := build(t, event.Edit(ev(t, "type", "com.example.created", "subject", "orders/1", "region", "eu", "datacontenttype", "a/b; c=d")).
		SetValue("n", event.Value{Text: "5", Kind: event.Integer}))
	var filters []*Filter
	for _, s := range []Spec{
		{},
		{Attributes: m("type", "com.example.created", "region", "")},
		list(Dialect{Prefix: m("type", "com.", "datamediatype", "a")}, Dialect{Not: &Dialect{Suffix: m("region", "x")}}),
		list(Dialect{Any: []Dialect{{Exact: m("n", "5")}, {Exact: m("region", "eu")}}}),
		sql("type = 'com.example.created' AND n < 6 AND NOT (subject LIKE '%/_x') AND region IN ('us', 'eu') AND EXISTS n"),
		sql("zone = 'a' OR region = 5"), // two faults
		sql("LENGTH(subject) = 8 AND LEFT(subject, 6) = 'orders' AND BOOL('true')"),
	} {
		filters = append(filters, mustCompile(t, s))
	}
	for i := range 20 {
		filters = append(filters, mustCompile(t, list(Dialect{Exact: m("ext"+string(rune('a'+i)), "x")})))
	}
	ix := NewIndex(filters)
	var s Scratch
	if got := len(ix.Match(e, &s)); got != 6 {
		t.Fatalf("%d matches, want 6", got)
	}
	if n := testing.AllocsPerRun(100, func() { ix.Match(e, &s) }); n != 0 {
		t.Errorf("the index allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range filters {
			f.Match(e)
		}
	}); n != 0 {
		t.Errorf("the filters allocate %v times", n)
	}
}
