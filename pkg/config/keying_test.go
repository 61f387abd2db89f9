package config

import (
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

func TestDedupWindow(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"10m": 10 * time.Minute, "PT10M": 10 * time.Minute, "6h": 6 * time.Hour, "168h": 168 * time.Hour, "7d": 168 * time.Hour, "1s": time.Second,
		"": -1, "0": -1, "0s": -1, "500ms": -1, "169h": -1, "8d": -1, "-1h": -1, "10": -1, "soon": -1,
	} {
		annotated := &Object{Kind: KindBroker, Namespace: "shop", Name: "orders", UID: "b", Broker: &BrokerSpec{},
			Annotations: map[string]string{AnnotationPrefix + "dedup-window": value}}
		configured := &Object{Kind: KindBroker, Namespace: "shop", Name: "orders", UID: "b",
			Broker: &BrokerSpec{Config: &Reference{Kind: "ConfigMap", Name: "c"}}, Settings: map[string]string{"dedup-window": value}}
		for _, o := range []*Object{annotated, configured} {
			b, ok := Compile([]*Object{o}, Options{}).Broker("shop", "orders")
			switch {
			case !ok:
				t.Fatal("there is no Broker")
			case want < 0 && (b.Ready || b.Reason != ReasonAnnotationInvalid):
				t.Errorf("%q: ready %v, %s", value, b.Ready, b.Reason)
			case want > 0 && (!b.Ready || b.DedupWindow != want || b.Info().Keying != channel.KeyIdentity):
				t.Errorf("%q: ready %v (%s), window %v, keying %d", value, b.Ready, b.Message, b.DedupWindow, b.Info().Keying)
			}
		}
	}
}

func TestABrokerIsOrderedWhileOneOfItsTriggersIs(t *testing.T) {
	broker := &Object{Kind: KindBroker, Namespace: "shop", Name: "orders", UID: "b", Broker: &BrokerSpec{}}
	trigger := func(order, of string) *Object {
		return &Object{Kind: KindTrigger, Namespace: "shop", Name: "t" + order + of, UID: channel.UID(order + of), Trigger: &TriggerSpec{Broker: of},
			Annotations: map[string]string{OrderAnnotation: order}}
	}
	for _, c := range []struct {
		triggers []*Object
		want     channel.Keying
	}{
		{nil, 0},
		{[]*Object{trigger("none", "orders"), trigger("key", "others")}, 0},
		{[]*Object{trigger("none", "orders"), trigger("key", "orders")}, channel.KeySubject},
	} {
		b, _ := Compile(append([]*Object{broker}, c.triggers...), Options{}).Broker("shop", "orders")
		if b.Keying() != c.want {
			t.Errorf("%v: keying %d, want %d", c.triggers, b.Keying(), c.want)
		}
	}
}
