package conformance

import (
	"net/http"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
)

type (
	eventOf = event.Event
	dialect = eventingv1.SubscriptionsAPIFilter
)

func exact(typ string) dialect  { return dialect{Exact: map[string]string{"type": typ}} }
func prefix(typ string) dialect { return dialect{Prefix: map[string]string{"type": typ}} }
func suffix(typ string) dialect { return dialect{Suffix: map[string]string{"type": typ}} }
func cesql(text string) dialect { return dialect{CESQL: text} }

// typed is events by their type, and whether they must come.
func typed(want map[string]bool) map[*event.Event]bool {
	m := make(map[*event.Event]bool, len(want))
	for typ, comes := range want {
		e := kube.Small(typ)
		m[&e] = comes
	}
	return m
}

// TestMTChannelBrokerNewTriggerFilters has Knative's name; the class is that under test.
func TestMTChannelBrokerNewTriggerFilters(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	full := kube.Full()
	wrong := kube.Small("org.wrong.type")
	wrong.SetSource("org.wrong.source")
	single := map[*event.Event]bool{&full: true, &wrong: false}
	plain, extended := kube.Small("missing"), kube.Small("missing")
	extended.SetExtension("extensionattribute", "extensionvalue")
	four := []dialect{exact("exact.prefix.suffix.event.type"), prefix("exact.prefix"), suffix("suffix.event.type"), cesql("type LIKE 'exact.prefix.suffix%'")}
	fours := func() map[*event.Event]bool {
		return typed(map[string]bool{
			"not.event.type": false, "exact.prefix.suffix.event": false,
			"exact.prefix.suffix.event.suffix.event.type": false, "exact.prefix.suffix.event.type": true,
		})
	}
	both := func(attribute func(typ, source string) dialect, typ, source string) []dialect {
		return []dialect{attribute(typ, source)}
	}
	for name, c := range map[string]struct {
		text    string
		filters []dialect
		filter  string // type of the older filter
		events  map[*event.Event]bool
	}{
		"exact": {text: "Exact filter", events: single, filters: both(func(typ, source string) dialect {
			return dialect{Exact: map[string]string{"type": typ, "source": source}}
		}, full.Type(), full.Source())},
		"prefix": {text: "Prefix filter", events: single, filters: both(func(typ, source string) dialect {
			return dialect{Prefix: map[string]string{"type": typ, "source": source}}
		}, full.Type()[:4], full.Source()[:4])},
		"suffix": {text: "Suffix filter", events: single, filters: both(func(typ, source string) dialect {
			return dialect{Suffix: map[string]string{"type": typ, "source": source}}
		}, full.Type()[5:], full.Source()[5:])},
		"cesql": {text: "CloudEvents SQL filter", events: single, filters: []dialect{cesql("type = '" + full.Type() + "' AND source = '" + full.Source() + "'")}},
		"any": {text: "Any filter", events: typed(map[string]bool{
			"exact.event.type": true, "prefix.event.type": true, "event.type.suffix": true,
			"not.type.event": true, "cesql.event.type": true, "not.event.type": false,
		}), filters: []dialect{{Any: []dialect{
			exact("exact.event.type"), prefix("prefix"), suffix("suffix"),
			{Not: &dialect{CESQL: "type LIKE '%event.type%'"}}, cesql("type = 'cesql.event.type'"),
		}}}},
		"any-exact": {text: "Any filter of several exact filters", events: typed(map[string]bool{
			"dev.knative.apiserver.resource.update": true, "dev.knative.apiserver.resource.add": true,
			"dev.knative.apiserver.resource.delete": true, "prefix.event.type": false,
		}), filters: []dialect{{Any: []dialect{
			exact("dev.knative.apiserver.resource.update"), exact("dev.knative.apiserver.resource.add"), exact("dev.knative.apiserver.resource.delete"),
		}}}},
		"all":     {text: "All filter", events: fours(), filters: []dialect{{All: four}}},
		"several": {text: "Several filters", events: fours(), filters: four},
		"missing": {text: "Missing attributes", events: map[*event.Event]bool{&plain: false, &extended: true}, filters: []dialect{{All: []dialect{
			{Exact: map[string]string{"extensionattribute": "extensionvalue"}}, {Prefix: map[string]string{"extensionattribute": "extension"}},
			{Suffix: map[string]string{"extensionattribute": "value"}}, cesql("extensionattribute LIKE '%value'"),
		}}}},
		"empty": {text: "Empty filters do not override filter", filters: []dialect{}, filter: "filter.attribute.event.type",
			events: typed(map[string]bool{"filter.attribute.event.type": true, "some.other.type": false})},
		"override": {text: "Filters override filter", filters: []dialect{exact("subscriptionapi.filters.override.event.type")}, filter: "filter.check.event.type",
			events: typed(map[string]bool{"subscriptionapi.filters.override.event.type": true, "filter.check.event.type": false})},
	} {
		in(t, s, "New Trigger Filters").must(c.text+": deliver matched events, not unmatched ones", func(s *kube.Space) {
			sink := s.Receiver(name)
			change := []func(*eventingv1.Trigger){kube.Filters(c.filters...)}
			if c.filter != "" {
				change = append(change, kube.Attributes("type", c.filter))
			}
			s.ReadyTrigger(name, "broker", sink.Ref(), change...)
			sends(s, url, sink, c.events)
		})
	}
	in(t, s, "New Trigger Filters").must("Several Triggers and sinks: deliver matched events, not unmatched ones", func(s *kube.Space) {
		one, two := s.Receiver("one"), s.Receiver("two")
		s.ReadyTrigger("one", "broker", one.Ref(), kube.Filters(dialect{Any: []dialect{exact("type1"), prefix("both")}}))
		s.ReadyTrigger("two", "broker", two.Ref(), kube.Filters(dialect{Any: []dialect{exact("type2"), prefix("both")}}))
		sends(s, url, one, typed(map[string]bool{"type1": true, "both.should.match": true, "type2": false, "type3": false}))
		sends(s, url, two, typed(map[string]bool{"type1": false, "both.should.match": true, "type2": true, "type3": false}))
	})
}

// sends posts the events and sees which come.
func sends(s *kube.Space, url string, sink *kube.Receiver, events map[*event.Event]bool) {
	s.T().Helper()
	for e := range events {
		s.Post(http.StatusAccepted, kube.Binary(url, *e))
	}
	for e, comes := range events {
		if comes {
			sink.Await(e.ID(), 1)
		}
	}
	s.Quiet(500 * time.Millisecond)
	got := sink.Got()
	for e, comes := range events {
		if !comes && len(kube.With(got, e.ID())) > 0 {
			s.T().Errorf("an event of type %s came", e.Type())
		}
	}
}
