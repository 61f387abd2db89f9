package config

import (
	"testing"

	"github.com/penstock-events/penstock/pkg/filter"
)

// A source that resolves by itself (a controller) is believed and never asked
// twice: what it has not found yet is matched and not delivered.
func TestURLsThatTheSourceHasFoundAreTakenAsTheyAre(t *testing.T) {
	ref := &Destination{Ref: &Reference{Kind: "Service", Name: "orders"}}
	for name, c := range map[string]struct {
		found            Resolved
		reason           string
		subscriber, sink string
	}{
		"both":          {Resolved{"bad://uri", "http://sink/"}, "", "bad://uri", "http://sink/"},
		"no subscriber": {Resolved{"", "http://sink/"}, ReasonSubscriberNotResolved, "", "http://sink/"},
		"no sink":       {Resolved{"http://orders/", ""}, ReasonDeadLetterNotResolved, "http://orders/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := aTrigger("a", "default", &DeliverySpec{DeadLetterSink: ref})
			o.Trigger.Subscriber, o.Resolved = ref, &c.found
			tr := only(t, Compile([]*Object{aBroker("default", nil), o}, Options{Resolve: func(Reference) (string, error) {
				t.Error("asked again")
				return "http://other/", nil
			}}))
			if tr.Reason != c.reason || tr.Subscriber != c.subscriber || tr.DeadLetterSink != c.sink || tr.Filter == nil {
				t.Errorf("got %+v, want %+v", tr, c)
			}
		})
	}
}

func TestABrokersSinkComesFromItsOwnStatus(t *testing.T) {
	b, a := aBroker("default", &DeliverySpec{DeadLetterSink: &Destination{Ref: &Reference{Kind: "Service", Name: "graveyard"}}}), aTrigger("a", "default", nil)
	b.Resolved, a.Resolved = &Resolved{DeadLetterSink: "http://graveyard/"}, &Resolved{Subscriber: "http://orders/"}
	if tr := only(t, Compile([]*Object{b, a}, Options{})); !tr.Ready || tr.DeadLetterSink != "http://graveyard/" {
		t.Errorf("got %+v", tr)
	}
}

// brokerRef reaches into another namespace only where the source says so.
func TestATriggerBelongsToABrokerOfAnotherNamespaceOnlyIfPermitted(t *testing.T) {
	for _, permitted := range []bool{true, false} {
		o := aTrigger("a", "", nil)
		o.Namespace, o.Trigger.BrokerRef = "shop", &Reference{Kind: "Broker", Namespace: "default", Name: "main"}
		if permitted {
			o.BrokerNamespace = "default"
		}
		s := Compile([]*Object{aBroker("main", nil), o}, Options{})
		tr := only(t, s)
		if of := s.TriggersOf("default", "main"); tr.Ready != permitted || (len(of) == 1) != permitted {
			t.Errorf("permitted %v: %+v, %d Triggers of the Broker", permitted, tr, len(of))
		}
		if permitted && tr.BrokerName() != "default/main" {
			t.Errorf("broker %s", tr.BrokerName())
		}
	}
}

func TestVersionsOfTheSourceArePassedOn(t *testing.T) {
	b, a := aBroker("default", nil), aTrigger("a", "default", nil)
	b.Version, a.Version = "3", "7-abc"
	s := Compile([]*Object{b, a}, Options{})
	if got := s.Brokers()[0].Version + " " + s.Triggers()[0].Version; got != "3 7-abc" {
		t.Errorf("got %s", got)
	}
}

func TestKnativeServicesAreKnownToScaleFromZero(t *testing.T) {
	for _, c := range []struct {
		ref  Reference
		want bool
	}{
		{Reference{APIVersion: "serving.knative.dev/v1", Kind: "Service"}, true},
		{Reference{Group: "serving.knative.dev", Kind: "Service"}, true},
		{Reference{APIVersion: "v1", Kind: "Service"}, false},
		{Reference{APIVersion: "serving.knative.dev/v1", Kind: "Route"}, false},
	} {
		o := aTrigger("a", "default", nil)
		c.ref.Name = "x"
		o.Trigger.Subscriber = &Destination{Ref: &c.ref}
		s := Compile([]*Object{aBroker("default", nil), o}, Options{Resolve: func(Reference) (string, error) { return "http://x/", nil }})
		if tr := only(t, s); tr.ScalesFromZero != c.want || !tr.Ready {
			t.Errorf("%+v: %+v", c.ref, tr)
		}
	}
}

// The function of RequestReply's Triggers exists where its keys do, or where
// nothing is ever matched.
func TestAFilterOfRequestReplyNeedsItsKeys(t *testing.T) {
	for _, keys := range []filter.Keys{nil, filter.NoKeys{}} {
		o := aTrigger("a", "default", nil)
		o.Trigger.Filter = filter.Spec{Filters: []filter.Dialect{{CESQL: `KN_VERIFY_CORRELATION_ID(replyid, "rr", "default", "request-reply-keys", 0, 1)`}}}
		tr := only(t, Compile([]*Object{aBroker("default", nil), o}, Options{Keys: keys}))
		if tr.Ready != (keys != nil) || (tr.Filter != nil) != tr.Ready || !tr.Ready && tr.Reason != ReasonFilterInvalid {
			t.Errorf("with %v: %+v", keys, tr)
		}
	}
}
