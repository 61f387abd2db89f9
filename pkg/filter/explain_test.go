package filter

import (
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

func TestExplainNamesTheFirstClauseThatFails(t *testing.T) {
	e := build(t, event.Edit(ev(t, "type", "a", "source", "/shop", "region", "eu")).SetValue("n", event.Value{Text: "5", Kind: event.Integer}))
	exact := func(pairs ...string) Dialect { return Dialect{Exact: m(pairs...)} }
	not := func(d Dialect) Dialect { return Dialect{Not: &d} }
	for _, test := range []struct {
		name string
		spec Spec
		want Explanation
		line string
	}{
		{"no filter", Spec{}, Explanation{Matched: true}, `no filter: every event matches`},
		{"match", list(exact("type", "a")), Explanation{Matched: true}, `every clause matches`},
		{
			"exact", list(exact("type", "b")),
			Explanation{Path: "filters[0].exact", Clause: "exact type", Want: "b", Got: "a"},
			`filters[0].exact: type is "a", want "b"`,
		},
		{
			"exact, second key of second entry", list(exact("type", "a"), exact("region", "eu", "zone", "1")),
			Explanation{Path: "filters[1].exact", Clause: "exact zone", Want: "1", Missing: true},
			`filters[1].exact: zone is missing, want "1"`,
		},
		{
			"prefix", list(Dialect{Prefix: m("source", "/bank")}),
			Explanation{Path: "filters[0].prefix", Clause: "prefix source", Want: "/bank", Got: "/shop"},
			`filters[0].prefix: source is "/shop", want prefix "/bank"`,
		},
		{
			"suffix", list(Dialect{Suffix: m("n", "6")}),
			Explanation{Path: "filters[0].suffix", Clause: "suffix n", Want: "6", Got: "5"},
			`filters[0].suffix: n is "5", want suffix "6"`,
		},
		{
			"attributes", Spec{Attributes: m("source", "/shop", "type", "b")},
			Explanation{Path: "filter.attributes", Clause: "attribute type", Want: "b", Got: "a"},
			`filter.attributes: type is "a", want "b"`,
		},
		{
			"attributes, any value", Spec{Attributes: m("zone", "")},
			Explanation{Path: "filter.attributes", Clause: "attribute zone", Missing: true},
			`filter.attributes: zone is missing, want any value`,
		},
		{
			"nested", list(Dialect{All: []Dialect{exact("type", "a"), {All: []Dialect{{Prefix: m("type", "x")}}}}}),
			Explanation{Path: "filters[0].all[1].all[0].prefix", Clause: "prefix type", Want: "x", Got: "a"},
			`filters[0].all[1].all[0].prefix: type is "a", want prefix "x"`,
		},
		{
			"any", list(Dialect{Any: []Dialect{exact("type", "b"), exact("zone", "1")}}),
			Explanation{Path: "filters[0].any", Clause: "any of 2"},
			`filters[0].any: none of 2 matches: filters[0].any[0].exact: type is "a", want "b"; filters[0].any[1].exact: zone is missing, want "1"`,
		},
		{
			"any of many", list(Dialect{Any: []Dialect{exact("n", "1"), exact("n", "2"), exact("n", "3"), exact("n", "4"), exact("n", "6")}}),
			Explanation{Path: "filters[0].any", Clause: "any of 5"},
			`filters[0].any: none of 5 matches: filters[0].any[0].exact: n is "5", want "1"; filters[0].any[1].exact: n is "5", want "2"; filters[0].any[2].exact: n is "5", want "3"; and 2 more`,
		},
		{
			"not exact", list(not(exact("type", "a"))),
			Explanation{Path: "filters[0].not", Clause: "not exact type", Want: "a", Got: "a"},
			`filters[0].not: type is "a", want not "a"`,
		},
		{
			"not prefix", list(not(Dialect{Prefix: m("source", "/s")})),
			Explanation{Path: "filters[0].not", Clause: "not prefix source", Want: "/s", Got: "/shop"},
			`filters[0].not: source is "/shop", want not prefix "/s"`,
		},
		{
			"not several", list(not(Dialect{Any: []Dialect{exact("type", "a"), exact("zone", "1")}})),
			Explanation{Path: "filters[0].not", Clause: "not any of 2"},
			`filters[0].not: any of 2 matches, want it not to`,
		},
		{
			"not cesql", list(not(Dialect{CESQL: "type = 'a'"})),
			Explanation{Path: "filters[0].not", Clause: "not cesql type = 'a'"},
			`filters[0].not: "type = 'a'" is true (type is "a"), want it not to be`,
		},
		{
			"cesql", sql("type = 'b'"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql type = 'b'", Want: "b", Got: "a"},
			`filters[0].cesql: "type = 'b'" is false (type is "a")`,
		},
		{
			"cesql, second operand of AND", sql("type = 'a' AND (source LIKE '/bank%' OR n > 5) AND region = 'us'"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql source LIKE '/bank%' OR n > 5"},
			`filters[0].cesql: "source LIKE '/bank%' OR n > 5" is false (source is "/shop", n is "5")`,
		},
		{
			"cesql with characters of two bytes", sql("type = 'é' OR (type = 'ü' AND n = 1)"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql type = 'é' OR (type = 'ü' AND n = 1)"},
			`filters[0].cesql: "type = 'é' OR (type = 'ü' AND n = 1)" is false (type is "a", n is "5")`,
		},
		{
			"cesql, missing", sql("zone = 'a'"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql zone = 'a'", Want: "a", Missing: true},
			`filters[0].cesql: "zone = 'a'" cannot be evaluated: attribute zone is missing`,
		},
		{
			"cesql, cast", sql("region > 1"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql region > 1"},
			`filters[0].cesql: "region > 1" cannot be evaluated: cannot cast "eu" to Integer (region is "eu")`,
		},
		{
			"cesql, division", sql("1 / (n - 5) = 1"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql 1 / (n - 5) = 1"},
			`filters[0].cesql: "1 / (n - 5) = 1" cannot be evaluated: division by zero (n is "5")`,
		},
		{
			"cesql, argument", sql("SUBSTRING(region, 9) = 'x'"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql SUBSTRING(region, 9) = 'x'"},
			`filters[0].cesql: "SUBSTRING(region, 9) = 'x'" cannot be evaluated: argument of SUBSTRING is out of range (region is "eu")`,
		},
		{
			"cesql that is no boolean", sql("region"),
			Explanation{Path: "filters[0].cesql", Clause: "cesql region"},
			`filters[0].cesql: "region" cannot be evaluated: cannot cast "eu" to Boolean (region is "eu")`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := mustCompile(t, test.spec).Explain(e)
			if got.String() != test.line {
				t.Errorf("%s\nwant %s", got, test.line)
			}
			got.Reason = ""
			if got != test.want {
				t.Errorf("%+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestExplainStaysOnOneShortLine(t *testing.T) {
	hostile := strings.Repeat("\x1b[31m\n", 10_000) + strings.Repeat("é", 10_000)
	for _, s := range []Spec{
		list(Dialect{Exact: m("subject", strings.Repeat("\n", 3000))}),
		list(Dialect{Not: &Dialect{Prefix: m("subject", "\x1b")}}),
		sql("subject =\n'x'"),
		list(Dialect{Not: &Dialect{Not: &Dialect{Not: &Dialect{CESQL: "subject !=\n'\x1b'"}}}}),
		sql("INT(subject) = 1"),
	} {
		line := mustCompile(t, s).Explain(ev(t, "subject", hostile)).String()
		if len(line) > 4096 || strings.ContainsAny(line, "\n\x1b") {
			t.Errorf("%d bytes: %q", len(line), clip(line))
		}
	}
}
