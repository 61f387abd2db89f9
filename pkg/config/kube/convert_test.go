package kube

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"sigs.k8s.io/yaml"

	"github.com/penstock-events/penstock/pkg/config"
)

// compile is the verdict on some objects.
func compile(objects ...*config.Object) *config.Snapshot {
	return config.Compile(objects, config.Options{Channels: []string{config.ChannelDisk, config.ChannelMemory}})
}

func TestNothingOfATriggerIsLost(t *testing.T) {
	const text = `
metadata: {namespace: shop, name: orders, uid: 1b4e28ba, generation: 7, annotations: {penstock.dev/concurrency: "3", other: "x"}}
spec:
  brokerRef: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default, namespace: shop}
  filter: {attributes: {type: order}}
  filters:
  - any:
    - exact: {type: a}
    - all: [{prefix: {source: /s}}, {suffix: {subject: .pdf}}]
    - not: {cesql: "EXISTS x"}
  - all: []
  subscriber:
    ref: {apiVersion: serving.knative.dev/v1, kind: Service, name: s, namespace: shop, address: a, group: g}
    uri: /path
  delivery:
    deadLetterSink: {uri: http://dead.shop, CACerts: pem, audience: aud}
    retry: 5
    timeout: PT1S
    backoffPolicy: linear
    backoffDelay: PT2S
    retryAfterMax: PT3S
    format: json
status:
  subscriberUri: http://s.shop/path
  deadLetterSinkUri: http://dead.shop
`
	var tr eventingv1.Trigger
	if err := yaml.UnmarshalStrict([]byte(text), &tr); err != nil {
		t.Fatal(err)
	}
	o := Trigger(&tr)
	got, err := json.Marshal(o.Trigger)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"brokerRef":{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","namespace":"shop","name":"default"},` +
		`"filter":{"attributes":{"type":"order"},"filters":[{"any":[{"exact":{"type":"a"}},{"all":[{"prefix":{"source":"/s"}},{"suffix":{"subject":".pdf"}}]},{"not":{"cesql":"EXISTS x"}}]},{}]},` +
		`"subscriber":{"ref":{"apiVersion":"serving.knative.dev/v1","group":"g","kind":"Service","namespace":"shop","name":"s","address":"a"},"uri":"/path"},` +
		`"delivery":{"deadLetterSink":{"uri":"http://dead.shop","CACerts":"pem","audience":"aud"},"retry":5,"timeout":"PT1S","backoffPolicy":"linear","backoffDelay":"PT2S","retryAfterMax":"PT3S","format":"json"}}`
	if string(got) != want {
		t.Errorf("spec\n%s, want\n%s", got, want)
	}
	if !reflect.DeepEqual(o.Annotations, map[string]string{"penstock.dev/concurrency": "3"}) {
		t.Errorf("annotations %v", o.Annotations)
	}
	if *o.Resolved != (config.Resolved{Subscriber: "http://s.shop/path", DeadLetterSink: "http://dead.shop"}) || o.BrokerNamespace != "" || len(o.Faults) != 0 {
		t.Errorf("%+v %q %v", o.Resolved, o.BrokerNamespace, o.Faults)
	}
	if o.Trigger.Filter.Filters[1].All == nil {
		t.Error("an empty all has become none: the filter would match everything")
	}
}

// A filter of nothing must not become a filter of everything on the way.
func TestAnEmptyDialectIsWrong(t *testing.T) {
	tr := trigger("shop", "orders", "t1", "default")
	tr.Spec.Filters = []eventingv1.SubscriptionsAPIFilter{{}}
	got, _ := compile(Broker(broker("shop", "default", "b1")), Trigger(tr)).Trigger("shop", "orders")
	if got.Filter != nil || got.Reason != config.ReasonFilterInvalid {
		t.Errorf("%+v", got)
	}
}

func TestABrokerOfAnotherNamespaceNeedsThePermissionOfTheController(t *testing.T) {
	tr := trigger("team", "orders", "t1", "")
	tr.Spec.BrokerRef = &duckv1.KReference{Kind: "Broker", Namespace: "shop", Name: "default"}
	// One of the same name beside the Trigger must not be taken instead.
	brokers := []*config.Object{Broker(broker("shop", "default", "b1")), Broker(broker("team", "default", "b2"))}
	verdict := func() *config.Trigger {
		s := compile(append(brokers, Trigger(tr))...)
		if n := len(s.TriggersOf("team", "default")); n != 0 {
			t.Errorf("%d triggers of the Broker beside it", n)
		}
		got, ok := s.Trigger("team", "orders")
		if !ok {
			t.Fatal("no trigger")
		}
		return got
	}
	before := TriggerVersion(tr)
	for _, permission := range []string{"", "shop/other", "team/default", "shop/default "} {
		tr.Status.Annotations = map[string]string{BrokerAnnotation: permission}
		if got := verdict(); got.Ready || got.Filter != nil || got.Reason != config.ReasonSpecInvalid || !strings.Contains(got.Message, "shop/default") {
			t.Errorf("permission %q: ready %v, filter %v, %s", permission, got.Ready, got.Filter, got.Message)
		}
	}
	// What anybody can write who may write the Trigger is no permission.
	tr.Annotations = map[string]string{BrokerAnnotation: "shop/default"}
	tr.Status.Annotations = nil
	if got := verdict(); got.Ready || got.Filter != nil {
		t.Error("a Trigger has permitted itself")
	}
	tr.Annotations = nil
	uid := TriggerUID(tr)
	tr.Status.Annotations = map[string]string{BrokerAnnotation: "shop/default"}
	if got := verdict(); !got.Ready || got.Filter == nil || got.BrokerName() != "shop/default" {
		t.Errorf("permitted, and %+v", got)
	}
	if TriggerUID(tr) != uid {
		t.Error("the permission has made another lane")
	}
	if TriggerVersion(tr) == before {
		t.Error("the permission is not in the version")
	}
}

func TestIdentityIsTheTriggerAtItsBroker(t *testing.T) {
	tr := trigger("shop", "orders", "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "default")
	// Part of the stored format: it never changes.
	if got := TriggerUID(tr); got != "1b4e28ba-2fa1-11d2-883f-0016d3cca427.e6e8e1ee0f6e" {
		t.Errorf("uid %q", got)
	}
	byRef := tr.DeepCopy()
	byRef.Spec.Broker, byRef.Spec.BrokerRef = "", &duckv1.KReference{Name: "default", Namespace: "shop"}
	if TriggerUID(byRef) != TriggerUID(tr) {
		t.Error("the same Broker by reference is another lane")
	}
	other := tr.DeepCopy()
	other.Spec.Broker = "second"
	if TriggerUID(other) == TriggerUID(tr) {
		t.Error("another Broker is the same lane")
	}
}

func TestAVersionIsAllThatTheDataPlaneUses(t *testing.T) {
	base := trigger("shop", "orders", "t1", "default")
	for name, change := range map[string]func(*eventingv1.Trigger){
		"generation": func(tr *eventingv1.Trigger) { tr.Generation++ },
		"annotation": func(tr *eventingv1.Trigger) { tr.Annotations = map[string]string{"penstock.dev/concurrency": "1"} },
		"subscriber": func(tr *eventingv1.Trigger) { tr.Status.SubscriberURI = apis.HTTP("other") },
		"sink":       func(tr *eventingv1.Trigger) { tr.Status.DeadLetterSinkURI = apis.HTTP("orders.shop") },
		"permission": func(tr *eventingv1.Trigger) { tr.Status.Annotations = map[string]string{BrokerAnnotation: "a/b"} },
		"moved": func(tr *eventingv1.Trigger) {
			tr.Status.DeadLetterSinkURI, tr.Status.SubscriberURI = tr.Status.SubscriberURI, nil
		},
	} {
		tr := base.DeepCopy()
		if change(tr); TriggerVersion(tr) == TriggerVersion(base) {
			t.Errorf("%s is not in the version", name)
		}
	}
	same := base.DeepCopy()
	same.ResourceVersion, same.Labels, same.Annotations = "9", map[string]string{"a": "b"}, map[string]string{"a": "b"}
	same.Status.Conditions = duckv1.Conditions{{Type: "Ready"}}
	same.Status.ObservedGeneration = 1
	if TriggerVersion(same) != TriggerVersion(base) {
		t.Error("what the data plane does not use is in the version")
	}
	stripped := same.DeepCopy()
	if _, err := Strip(stripped); err != nil || TriggerVersion(stripped) != TriggerVersion(base) {
		t.Error("a stripped Trigger has another version")
	}

	b := broker("shop", "default", "b1")
	for name, change := range map[string]func(*eventingv1.Broker){
		"generation": func(b *eventingv1.Broker) { b.Generation++ },
		"annotation": func(b *eventingv1.Broker) { b.Annotations["penstock.dev/rate"] = "1" },
		"sink":       func(b *eventingv1.Broker) { b.Status.DeadLetterSinkURI = apis.HTTP("a") },
		"settings":   func(b *eventingv1.Broker) { b.Status.Annotations = map[string]string{SettingsAnnotation: "{}"} },
		"channel":    func(b *eventingv1.Broker) { b.Status.Annotations = map[string]string{ChannelAnnotation: "disk"} },
	} {
		other := b.DeepCopy()
		if change(other); BrokerVersion(other) == BrokerVersion(b) {
			t.Errorf("%s is not in the version of a Broker", name)
		}
	}
}

func TestTheSettingsOfABrokerComeFromTheController(t *testing.T) {
	b := broker("shop", "default", "b1")
	b.Spec.Config = &duckv1.KReference{Kind: "ConfigMap", Name: "settings"}
	verdict := func() *config.Broker {
		got, ok := compile(Broker(b)).Broker("shop", "default")
		if !ok {
			t.Fatal("no broker")
		}
		return got
	}
	if got := verdict(); got.Ready || !strings.Contains(got.Message, "controller") {
		t.Errorf("ready before the controller has looked: %+v", got)
	}
	for data, want := range map[string]string{"memory": config.ChannelMemory, "": config.ChannelDisk} {
		var m map[string]string
		if data != "" {
			m = map[string]string{"channel": data, "channel-template-spec": "x"}
		}
		text, err := EncodeSettings(m)
		if err != nil {
			t.Fatal(err)
		}
		b.Status.Annotations = map[string]string{SettingsAnnotation: text}
		if got := verdict(); !got.Ready || got.Channel != want {
			t.Errorf("%s: %+v", text, got)
		}
	}
	b.Status.Annotations[SettingsAnnotation] = `["x"]`
	if got := verdict(); got.Ready || got.Reason != config.ReasonSpecInvalid {
		t.Errorf("settings that cannot be read: %+v", got)
	}
	if _, err := EncodeSettings(map[string]string{"a": strings.Repeat("x", MaxSettingsBytes)}); err == nil {
		t.Error("endless settings were taken")
	}
	b.Status.Annotations = map[string]string{SettingsAnnotation: `{"channel":"memory"}`, ChannelAnnotation: "disk"}
	if got := verdict(); got.Reason != config.ReasonChannelImmutable {
		t.Errorf("a changed channel: %+v", got)
	}
}

func TestStripKeepsWhatCounts(t *testing.T) {
	b := broker("shop", "default", "b1")
	b.Annotations["other"] = "x"
	b.Spec.Config = &duckv1.KReference{Kind: "ConfigMap", Name: "settings"}
	b.Status.Annotations = map[string]string{SettingsAnnotation: `{"rate":"5"}`}
	b.Status.Address = &duckv1.Addressable{URL: apis.HTTP("x")}
	before := Broker(b.DeepCopy())
	if _, err := Strip(b); err != nil {
		t.Fatal(err)
	}
	if after := Broker(b); !reflect.DeepEqual(before, after) {
		t.Errorf("%+v became %+v", before, after)
	}
	other := broker("shop", "kafka", "b2")
	other.Annotations[config.ClassAnnotation] = "Kafka"
	other.Spec.Config = &duckv1.KReference{Name: "x"}
	if _, err := Strip(other); err != nil || other.Spec.Config != nil || Ours(other) {
		t.Errorf("%+v", other)
	}
	if got, err := Strip("something else"); err != nil || got != "something else" {
		t.Error(got, err)
	}
}
