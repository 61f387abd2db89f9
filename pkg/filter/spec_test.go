package filter

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestCanonicalTextIsTheSameForEqualSpecs(t *testing.T) {
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"nothing", Spec{}, `{}`},
		{"empty is nothing", Spec{Attributes: m(), Filters: []Dialect{}}, `{}`},
		{"keys are sorted", Spec{Attributes: m("type", "<a&b>", "source", "")}, `{"attributes":{"source":"","type":"<a&b>"}}`},
		{"overridden attributes are left out", Spec{Attributes: m("type", "a"), Filters: []Dialect{{CESQL: "TRUE"}}}, `{"filters":[{"cesql":"TRUE"}]}`},
		{
			"every dialect",
			list(Dialect{Exact: m("a", "1")}, Dialect{Prefix: m("a", "1")}, Dialect{Suffix: m("a", "1")},
				Dialect{All: []Dialect{{Exact: m("a", "1")}}}, Dialect{Any: []Dialect{{Exact: m("a", "1")}}}, Dialect{Not: &Dialect{Exact: m("a", "1")}}),
			`{"filters":[{"exact":{"a":"1"}},{"prefix":{"a":"1"}},{"suffix":{"a":"1"}},{"all":[{"exact":{"a":"1"}}]},{"any":[{"exact":{"a":"1"}}]},{"not":{"exact":{"a":"1"}}}]}`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.spec.Canonical()
			if string(got) != test.want {
				t.Fatalf("%s\nwant %s", got, test.want)
			}
			again, err := ParseSpec(got)
			if err != nil {
				t.Fatal(err)
			}
			if string(again.Canonical()) != test.want {
				t.Fatalf("after a round trip %s", again.Canonical())
			}
		})
	}
}

func TestDialectOfANewerVersionDoesNotReadAsNoFilter(t *testing.T) {
	for _, text := range []string{
		`{"filters":[{"jsonpath":"$.a"}]}`, `{"filter":{"a":"b"}}`, `{"filters":{}}`, `{} {}`, `{}x`, ``, `[]`, `{"attributes":{"a":1}}`,
	} {
		if s, err := ParseSpec([]byte(text)); err == nil {
			t.Errorf("%s reads as %+v", text, s)
		}
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(`{"attributes":{"type":"a","source":""}}`))
	f.Add([]byte(`{"filters":[{"any":[{"exact":{"type":"a"}},{"not":{"cesql":"source LIKE '/a%'"}}]},{"suffix":{"type":".x"}}]}`))
	f.Add([]byte(`{"filters":[{}]}`))
	f.Add([]byte(`{"filters":[{"all":[{"all":[{"all":[{"exact":{"a":"\u0000"}}]}]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec(text)
		if err != nil {
			return
		}
		again, err := ParseSpec(s.Canonical())
		if err != nil {
			t.Fatalf("%s: %v", s.Canonical(), err)
		}
		if string(again.Canonical()) != string(s.Canonical()) {
			t.Fatalf("%s became %s", s.Canonical(), again.Canonical())
		}
		filter, err := Compile(s)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Path == "" || e.Reason == "" || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("error %#v", err)
			}
			return
		}
		other, err := Compile(again)
		if err != nil {
			t.Fatalf("%s compiles only the first time: %v", s.Canonical(), err)
		}
		e := ev(t, "type", "a", "source", "/ab", "time", "2020-01-01T00:00:00Z")
		if filter.Match(e) != other.Match(e) || filter.Match(e) != filter.Explain(e).Matched {
			t.Fatalf("%s: answers differ", s.Canonical())
		}
	})
}

func TestFilterThatDoesNotCompileSaysWhereAndWhy(t *testing.T) {
	ok := Dialect{Exact: m("type", "a")}
	deep := ok
	for range MaxDepth {
		inner := deep
		deep = Dialect{Not: &inner}
	}
	many := make(map[string]string)
	for i := range MaxNodes + 1 {
		many["a"+strings.Repeat("b", i)] = "x"
	}
	long := strings.Repeat("x", MaxTextBytes+1)
	for _, test := range []struct {
		name string
		spec Spec
		want string
	}{
		{"upper case name", Spec{Attributes: m("Type", "a")}, `filter.attributes[Type]: not an attribute name: want lower case letters and digits, beginning with a letter`},
		{"name with digit first", list(Dialect{Exact: m("1a", "a")}), `filters[0].exact[1a]: not an attribute name: want lower case letters and digits, beginning with a letter`},
		{"empty name", list(ok, Dialect{Prefix: m("", "a")}), `filters[1].prefix[""]: not an attribute name: want lower case letters and digits, beginning with a letter`},
		{"name with a line end", list(Dialect{Suffix: m("a\nb", "a")}), `filters[0].suffix["a\nb"]: not an attribute name: want lower case letters and digits, beginning with a letter`},
		{"long name", list(Dialect{Suffix: m(strings.Repeat("a", 256), "a")}), `attribute name is longer than 255 bytes`},
		{"bad name among overridden attributes", Spec{Attributes: m("a-b", "a"), Filters: []Dialect{ok}}, `filter.attributes["a-b"]: not an attribute name: want lower case letters and digits, beginning with a letter`},
		{"empty exact value", list(Dialect{Exact: m("type", "")}), `filters[0].exact[type]: value is empty`},
		{"empty prefix value", list(Dialect{Prefix: m("type", "")}), `filters[0].prefix[type]: value is empty`},
		{"empty suffix value", list(Dialect{Suffix: m("type", "")}), `filters[0].suffix[type]: value is empty`},
		{"no dialect", list(ok, Dialect{}), `filters[1]: no dialect: want one of exact, prefix, suffix, all, any, not, cesql, and not empty`},
		{"empty all", list(Dialect{All: []Dialect{}}), `filters[0]: no dialect: want one of exact, prefix, suffix, all, any, not, cesql, and not empty`},
		{"not nothing", list(Dialect{Not: &Dialect{}}), `filters[0].not: no dialect: want one of exact, prefix, suffix, all, any, not, cesql, and not empty`},
		{"two dialects", list(Dialect{Exact: m("a", "b"), Suffix: m("c", "d")}), `filters[0]: more than one dialect: exact, suffix; put each into its own entry`},
		{"cesql beside exact", list(Dialect{Exact: m("a", "b"), CESQL: "TRUE"}), `filters[0]: more than one dialect: exact, cesql; put each into its own entry`},
		{"deep inside", list(Dialect{All: []Dialect{ok, {Any: []Dialect{{Not: &Dialect{CESQL: "type ="}}}}}}), `filters[0].all[1].any[0].not.cesql: syntax error at character 7: mismatched input end of expression`},
		{"too deep", list(deep), `filter is nested too deep: more than 32 levels`},
		{"too many clauses", list(Dialect{Exact: many}), `filters[0].exact: filter is too large: more than 200 clauses and operators`},
		{"too many clauses together", list(Dialect{CESQL: "a = 1" + strings.Repeat(" AND a = 1", 40)}, Dialect{CESQL: "a = 1" + strings.Repeat(" AND a = 1", 40)}), `filters[1].cesql: filter is too large: more than 200 clauses and operators`},
		{"long value", list(Dialect{Exact: m("a", long)}), `filters[0].exact[a]: 4097 bytes: at most 4096`},
		{"value of another encoding", list(Dialect{Exact: m("a", "\xff")}), `filters[0].exact[a]: not valid UTF-8`},
		{"long expression", sql("'" + long + "' = a"), `filters[0].cesql: 4103 bytes`},
		{"large expression", sql("a = 1" + strings.Repeat(" AND a = 1", 60)), `filters[0].cesql: expression is too large: more than 200 operators and operands`},
		{"many brackets", sql(strings.Repeat("(", 33) + "a" + strings.Repeat(")", 33)), `filters[0].cesql: expression is nested too deep: more than 32 brackets`},
		{"integer expression", sql("1 + 1"), `filters[0].cesql: expression is of type Integer, want a Boolean`},
		{"string expression", sql("'abc'"), `filters[0].cesql: expression is of type String, want a Boolean`},
		{"context attribute", sql("type"), `filters[0].cesql: expression is of type String, want a Boolean`},
		{"string function", sql("UPPER(type)"), `filters[0].cesql: expression is of type String, want a Boolean`},
		{"unknown function", sql("KN_VERIFY_CORRELATION_ID(correlationid, 'a')"), `filters[0].cesql: no function KN_VERIFY_CORRELATION_ID here: it needs the keys of Knative's RequestReply, which the dispatchers of a cluster have: apply this Trigger to a cluster, or remove the clause`},
		{"wrong number of arguments", sql("LENGTH() = 1"), `filters[0].cesql: no function LENGTH with 0 arguments`},
		{"large integer", sql("a = 2147483648"), `filters[0].cesql: integer 2147483648 does not fit 32 bits`},
		{"unfinished string", sql("type = 'a"), `filters[0].cesql: syntax error at character 8: string does not end`},
		{"stray character", sql("type = 'a' # comment"), `filters[0].cesql: syntax error at character 12: token recognition error at: '#'`},
		{"stray backslash", sql(`type = \'a\'`), `filters[0].cesql: syntax error at character 8: unexpected backslash`},
		{"second line", sql("type = 'a'\n AND"), `filters[0].cesql: syntax error at line 2, character 5: mismatched input end of expression`},
		{"trailing text", sql("type = 'a' 'b'"), `filters[0].cesql: syntax error at character 12: extraneous input ''b'' expecting end of expression`},
		{"name of another alphabet", sql("ſubject = 'a'"), `filters[0].cesql: "ſubject" is not an attribute name`},
		{"blanks", sql("  "), `filters[0].cesql: syntax error at character 3: mismatched input end of expression`},
	} {
		t.Run(test.name, func(t *testing.T) {
			filter, err := Compile(test.spec)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v\nwant  %s", err, test.want)
			}
			if filter != nil {
				t.Fatal("a filter beside the error")
			}
			var e *Error
			if !errors.As(err, &e) || e.Path+": "+e.Reason != err.Error() {
				t.Fatalf("error %#v, want an *Error", err)
			}
		})
	}
}

func TestLargestFiltersStillCompile(t *testing.T) {
	d := Dialect{Exact: m("type", "a")}
	for range MaxDepth - 1 {
		inner := d
		d = Dialect{Not: &inner}
	}
	wide := make([]string, 0, 66)
	for range 66 {
		wide = append(wide, "a = 1")
	}
	for _, s := range []Spec{
		list(d),
		sql("a IN ('x'" + strings.Repeat(", 'y'", 190) + ")"),
		sql(strings.Join(wide[:50], " OR ")),
		sql(strings.Repeat("(", 32) + "a" + strings.Repeat(")", 32)),
		list(Dialect{Exact: m(strings.Repeat("a", 255), strings.Repeat("x", MaxTextBytes))}),
	} {
		mustCompile(t, s)
	}
}

func TestCompileLeavesTheSpecAlone(t *testing.T) {
	make1 := func() Spec {
		return Spec{Attributes: m("a", "b"), Filters: []Dialect{{All: []Dialect{{Exact: m("a", "b", "c", "d")}}}, {Not: &Dialect{CESQL: "a = 1"}}}}
	}
	s := make1()
	mustCompile(t, s)
	if !reflect.DeepEqual(s, make1()) {
		t.Fatalf("%+v", s)
	}
}
