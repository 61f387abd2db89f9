package filter

import (
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// m is a map of name, value, name, value, ...
func m(pairs ...string) map[string]string {
	out := make(map[string]string)
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

func list(dialects ...Dialect) Spec { return Spec{Filters: dialects} }

func sql(expression string) Spec { return list(Dialect{CESQL: expression}) }

// ev is a valid event with the given attributes over the required ones.
func ev(tb testing.TB, pairs ...string) event.Event {
	tb.Helper()
	var b event.Builder
	b.Set("id", "1").Set("source", "/source").Set("specversion", "1.0").Set("type", "type")
	for i := 0; i < len(pairs); i += 2 {
		b.Set(pairs[i], pairs[i+1])
	}
	return build(tb, &b)
}

func build(tb testing.TB, b *event.Builder) event.Event {
	tb.Helper()
	e, err := b.Build()
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func mustCompile(tb testing.TB, s Spec) *Filter {
	tb.Helper()
	f, err := Compile(s)
	if err != nil {
		tb.Fatalf("compile %s: %v", s.Canonical(), err)
	}
	return f
}
