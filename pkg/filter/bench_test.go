package filter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

// Cost follows matches: within each kind the numbers for 1 and for 100,000
// filters, of which one matches, should be close.
func BenchmarkIndexMatch(b *testing.B) {
	kinds := []struct {
		name string
		spec func(i int) Spec
	}{
		{"exact", func(i int) Spec { return list(Dialect{Exact: m("type", typeName(i))}) }},
		{"prefix", func(i int) Spec { return list(Dialect{Prefix: m("type", typeName(i))}) }},
		{"suffix", func(i int) Spec { return list(Dialect{Suffix: m("type", typeName(i))}) }},
		{"attributes", func(i int) Spec { return Spec{Attributes: m("type", typeName(i), "subject", "")} }},
		{"cesql", func(i int) Spec {
			return list(Dialect{CESQL: "type = '" + typeName(i) + "' AND (subject LIKE 'orders/%' OR source IN ('/a', '/b'))"})
		}},
		{"grid", func(i int) Spec {
			return list(Dialect{Exact: m("source", fmt.Sprint("/s/", i%100))}, Dialect{Exact: m("type", fmt.Sprint("t", i/100))})
		}},
		{"popular", func(i int) Spec {
			return list(Dialect{Exact: m("specversion", "1.0", "source", "/shop")}, Dialect{Prefix: m("type", typeName(i))})
		}},
	}
	for _, kind := range kinds {
		for _, n := range []int{1, 1_000, 10_000, 100_000} {
			if kind.name == "cesql" && n > 1_000 {
				continue // parsing is what would take the time
			}
			b.Run(fmt.Sprintf("%s/%d", kind.name, n), func(b *testing.B) {
				filters := make([]*Filter, n)
				for i := range filters {
					filters[i] = mustCompile(b, kind.spec(i))
				}
				ix := NewIndex(filters)
				events := make([]event.Event, min(n, 1024))
				for j := range events {
					i := j * (n / len(events))
					typ, source := typeName(i), "/shop"
					if kind.name == "grid" {
						typ, source = fmt.Sprint("t", i/100), fmt.Sprint("/s/", i%100)
					}
					events[j] = ev(b, "type", typ, "source", source, "subject", "orders/1", "time", "2026-01-02T03:04:05Z", "datacontenttype", "application/json")
				}
				var s Scratch
				i := 0
				b.ReportAllocs()
				for b.Loop() {
					if got := ix.Match(events[i%len(events)], &s); len(got) != 1 {
						b.Fatalf("%d matches, want 1", len(got))
					}
					i++
				}
			})
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	e := ev(b, "type", "com.example.order.created", "source", "/shop", "subject", "orders/1", "region", "eu")
	for _, test := range []struct {
		name string
		spec Spec
	}{
		{"exact", list(Dialect{Exact: m("type", "com.example.order.created")})},
		{"exact-extension", list(Dialect{Exact: m("region", "eu")})},
		{"suffix", list(Dialect{Suffix: m("type", ".created")})},
		{"not", list(Dialect{Not: &Dialect{Exact: m("type", "x")}})},
		{"cesql", list(Dialect{CESQL: "type = 'com.example.order.created'"})},
		{"cesql-4", list(Dialect{CESQL: "type = 'com.example.order.created' AND EXISTS region AND NOT (source = '/x') AND subject LIKE 'orders/%'"})},
	} {
		b.Run(test.name, func(b *testing.B) {
			f := mustCompile(b, test.spec)
			b.ReportAllocs()
			for b.Loop() {
				if !f.Match(e) {
					b.Fatal("no match")
				}
			}
		})
	}
}

// The worst an author and a sender can do together.
func BenchmarkWorstFilter(b *testing.B) {
	f := mustCompile(b, list(Dialect{Not: &Dialect{CESQL: "subject LIKE '%_" + strings.Repeat("a", 2000) + "b%'"}}))
	e := ev(b, "subject", strings.Repeat("a", 32<<10))
	for b.Loop() {
		if f.Match(e) {
			b.Fatal("match")
		}
	}
}

func BenchmarkNewIndex(b *testing.B) {
	filters := make([]*Filter, 10_000)
	for i := range filters {
		filters[i] = mustCompile(b, list(Dialect{Exact: m("type", typeName(i), "source", fmt.Sprint("/s/", i%10))}))
	}
	b.ReportAllocs()
	for b.Loop() {
		NewIndex(filters)
	}
}

func BenchmarkCompileCESQL(b *testing.B) {
	for b.Loop() {
		mustCompile(b, list(Dialect{CESQL: "type = 'a' AND source LIKE '/shop/%' AND EXISTS region"}))
	}
}

func typeName(i int) string { return fmt.Sprintf("com.example.%06d.created", i*7919%1_000_000) }
