// Package crowd makes many Triggers of one Broker, with filters as they are
// mixed in a large installation, and the events that they want. All of it is
// decided by a number, so that tests and benchmarks of different packages mean
// the same Triggers.
package crowd

import (
	"fmt"
	"strings"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Exact is the filter of Trigger i where all have the same kind: exact on a
// type that no other has.
func Exact(i int) filter.Spec { return is(filter.Dialect{Exact: m("type", kind(i))}) }

// ExactEvent is an event that the Trigger of Exact(i) wants and no other.
func ExactEvent(i int) event.Event { return newEvent("type", kind(i)) }

// Mixed is the filter of Trigger i of a mixed crowd. Of each hundred 60 are exact
// on a type of their own, 15 exact on source and type, neither of which is theirs
// alone, 10 a prefix, 3 a suffix, 5 any of three types, 4 a not beside an exact,
// and 3 CESQL: one each with an equality, IN and LIKE.
func Mixed(i int) filter.Spec {
	switch place := i % 100; {
	case place < 60:
		return is(filter.Dialect{Exact: m("type", kind(i))})
	case place < 75:
		return is(filter.Dialect{All: []filter.Dialect{{Exact: m("source", shop(i))}, {Exact: m("type", shared(i))}}})
	case place < 85:
		return is(filter.Dialect{Prefix: m("type", fmt.Sprintf("com.example.%06d.", i))})
	case place < 88:
		return is(filter.Dialect{Suffix: m("type", fmt.Sprintf(".%06d.failed", i))})
	case place < 93:
		return is(filter.Dialect{Any: []filter.Dialect{{Exact: m("type", kind(i))}, {Exact: m("type", kind(i)+".v2")}, {Exact: m("type", kind(i)+".v3")}}})
	case place < 97:
		return is(filter.Dialect{All: []filter.Dialect{{Not: &filter.Dialect{Exact: m("subject", "test")}}, {Exact: m("type", kind(i))}}})
	case place == 97:
		return is(filter.Dialect{CESQL: fmt.Sprintf("type = '%s' AND NOT (subject = 'test')", kind(i))})
	case place == 98:
		return is(filter.Dialect{CESQL: fmt.Sprintf("EXISTS subject AND type IN ('%s', '%[1]s.v2')", kind(i))})
	default:
		return is(filter.Dialect{CESQL: fmt.Sprintf("type LIKE 'com.example.%06d.%%' AND LENGTH(subject) < 20", i)})
	}
}

// MixedEvent is an event that the Trigger of Mixed(i) wants. Others want it too
// where they have the same source and type.
func MixedEvent(i int) event.Event {
	switch place := i % 100; {
	case place < 60:
		return newEvent("type", kind(i))
	case place < 75:
		return newEvent("type", shared(i), "source", shop(i))
	case place < 85:
		return newEvent("type", fmt.Sprintf("com.example.%06d.shipped", i))
	case place < 88:
		return newEvent("type", fmt.Sprintf("com.example.payment.%06d.failed", i))
	case place < 93:
		return newEvent("type", kind(i)+".v2")
	case place == 99:
		return newEvent("type", fmt.Sprintf("com.example.%06d.paid", i))
	default:
		return newEvent("type", kind(i))
	}
}

// Name is the name of Trigger i.
func Name(i int) string { return fmt.Sprintf("trigger-%05d", i) }

// Document is Trigger i of the Broker default/default as YAML, separator included.
func Document(i int, s filter.Spec, subscriber string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: %s\n  namespace: default\nspec:\n  broker: default\n  filters:\n", Name(i))
	for j := range s.Filters {
		dialect(&b, "    ", &s.Filters[j])
	}
	fmt.Fprintf(&b, "  subscriber:\n    uri: %s\n", subscriber)
	return b.String()
}

// File is n Triggers of a mixed crowd in one file; subscriber has a URL for each.
func File(n int, subscriber func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(Document(i, Mixed(i), subscriber(i)))
	}
	return b.String()
}

// dialect writes an item of a list.
func dialect(b *strings.Builder, indent string, d *filter.Dialect) {
	terms := func(name string, terms map[string]string) {
		fmt.Fprintf(b, "%s- %s:\n", indent, name)
		for attribute, value := range terms {
			fmt.Fprintf(b, "%s    %s: %q\n", indent, attribute, value)
		}
	}
	items := func(name string, dialects []filter.Dialect) {
		fmt.Fprintf(b, "%s- %s:\n", indent, name)
		for i := range dialects {
			dialect(b, indent+"    ", &dialects[i])
		}
	}
	switch {
	case d.Exact != nil:
		terms("exact", d.Exact)
	case d.Prefix != nil:
		terms("prefix", d.Prefix)
	case d.Suffix != nil:
		terms("suffix", d.Suffix)
	case d.All != nil:
		items("all", d.All)
	case d.Any != nil:
		items("any", d.Any)
	case d.Not != nil:
		for attribute, value := range d.Not.Exact { // the only not of a crowd
			fmt.Fprintf(b, "%s- not:\n%[1]s    exact:\n%[1]s      %s: %q\n", indent, attribute, value)
		}
	default:
		fmt.Fprintf(b, "%s- cesql: %q\n", indent, d.CESQL)
	}
}

// kind is a type of one Trigger alone. Neighbours in number are none in order.
func kind(i int) string { return fmt.Sprintf("com.example.order.%06d.created", i*7919%1_000_000) }

func shop(i int) string   { return fmt.Sprintf("/shop/%d", i%37) }
func shared(i int) string { return fmt.Sprintf("com.example.stock.%03d.changed", i%53) }

func is(dialects ...filter.Dialect) filter.Spec { return filter.Spec{Filters: dialects} }

// m is a map of name, value.
func m(name, value string) map[string]string { return map[string]string{name: value} }

func newEvent(pairs ...string) event.Event {
	var b event.Builder
	b.Set("id", "4711").Set("source", "/shop").Set("specversion", "1.0").Set("type", "t")
	b.Set("subject", "orders/1").Set("time", "2026-01-02T03:04:05Z").Set("datacontenttype", "application/json")
	for i := 0; i < len(pairs); i += 2 {
		b.Set(pairs[i], pairs[i+1])
	}
	e, err := b.Build()
	if err != nil {
		panic("crowd: " + err.Error())
	}
	return e
}
