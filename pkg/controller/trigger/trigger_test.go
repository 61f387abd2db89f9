package trigger

import (
	"context"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrs "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	messagingv1 "knative.dev/eventing/pkg/apis/messaging/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	eventingclient "knative.dev/eventing/pkg/client/injection/client"
	triggerreconciler "knative.dev/eventing/pkg/client/injection/reconciler/eventing/v1/trigger"
	"knative.dev/eventing/pkg/duck"
	reconcilertesting "knative.dev/eventing/pkg/reconciler/testing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	"knative.dev/pkg/client/injection/ducks/duck/v1/source"
	"knative.dev/pkg/configmap"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	. "knative.dev/pkg/reconciler/testing"
	"knative.dev/pkg/tracker"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

const (
	key      = "shop/bill"
	eventing = "knative-eventing"
	to       = "http://biller.shop.svc.cluster.local"
)

type (
	tOption = func(*eventingv1.Trigger)
	bOption = func(*eventingv1.Broker)
)

// aBroker is one of our class that is ready, by Knative's own condition set.
func aBroker(change ...bOption) *eventingv1.Broker {
	b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "orders", UID: "b1", Generation: 1,
		Annotations: map[string]string{config.ClassAnnotation: config.BrokerClass},
	}}
	b.Status = *eventingv1.TestHelper.ReadyBrokerStatusWithoutDLS()
	for _, f := range change {
		f(b)
	}
	return b
}

func class(name string) bOption {
	return func(b *eventingv1.Broker) { b.Annotations[config.ClassAnnotation] = name }
}

func brokerFailed(reason, message string) bOption {
	return func(b *eventingv1.Broker) {
		b.Status.GetConditionSet().Manage(&b.Status).MarkFalse(eventingv1.BrokerConditionAddressable, reason, "%s", message)
	}
}

func brokerSink(uri string) bOption {
	return func(b *eventingv1.Broker) {
		b.Spec.Delivery = &eventingduckv1.DeliverySpec{DeadLetterSink: &duckv1.Destination{Ref: &duckv1.KReference{Kind: "Service", Name: "x"}}}
		b.Status.DeliveryStatus = eventingduckv1.DeliveryStatus{}
		if uri != "" {
			b.Status.DeliveryStatus.DeadLetterSinkURI = url(uri)
		}
	}
}

// aTrigger has just been made: for all events of the Broker, to a Service.
func aTrigger(change ...tOption) *eventingv1.Trigger {
	t := &eventingv1.Trigger{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "bill", UID: "t1", Generation: 1},
		Spec: eventingv1.TriggerSpec{
			Broker:     "orders",
			Filter:     &eventingv1.TriggerFilter{},
			Subscriber: duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Namespace: "shop", Name: "biller"}},
		},
	}
	for _, f := range change {
		f(t)
	}
	return t
}

// ready is what becomes of it once it is loaded.
func ready(t *eventingv1.Trigger) {
	t.Status.ObservedGeneration = t.Generation
	t.Status.InitializeConditions()
	t.Status.PropagateBrokerCondition(&apis.Condition{Status: corev1.ConditionTrue})
	t.Status.PropagateSubscriptionCondition(&apis.Condition{Status: corev1.ConditionTrue})
	t.Status.MarkDependencySucceeded()
	t.Status.MarkSubscriberResolvedSucceeded()
	t.Status.MarkDeadLetterSinkNotConfigured()
	t.Status.MarkOIDCIdentityCreatedSucceededWithReason("authentication-oidc feature disabled", "")
	t.Status.SubscriberURI = url(to)
}

// state is what the reconciler notes, last of all.
func state(broker types.UID) tOption { return func(t *eventingv1.Trigger) { note(t, broker) } }

func noted(t *eventingv1.Trigger) { note(t, "b1") }

func delivered(uri string) tOption {
	return func(t *eventingv1.Trigger) { t.Status.SubscriberURI = url(uri) }
}

func subscriber(d duckv1.Destination) tOption {
	return func(t *eventingv1.Trigger) { t.Spec.Subscriber = d }
}

func unresolved(reason, message string) tOption {
	return func(t *eventingv1.Trigger) {
		t.Status.SubscriberURI = nil
		t.Status.MarkSubscriberResolvedFailed(reason, "%s", message)
	}
}

func notSubscribed(reason, message string) tOption {
	return func(t *eventingv1.Trigger) { t.Status.MarkNotSubscribed(reason, "%s", message) }
}

func loading(message string) tOption {
	return func(t *eventingv1.Trigger) {
		t.Status.MarkSubscribedUnknown(controller.ReasonLoading, "not loaded everywhere yet: %s", message)
	}
}

func brokerIs(reason, message string) tOption {
	return func(t *eventingv1.Trigger) { t.Status.MarkBrokerFailed(reason, "%s", message) }
}

func generation(n int64) tOption { return func(t *eventingv1.Trigger) { t.Generation = n } }

func depends(text string) tOption {
	return func(t *eventingv1.Trigger) { t.Annotations = map[string]string{eventingv1.DependencyAnnotation: text} }
}

func annotated(key, value string) tOption {
	return func(t *eventingv1.Trigger) { t.Annotations = map[string]string{key: value} }
}

// abroad makes it a Trigger of a Broker of another namespace.
func abroad(t *eventingv1.Trigger) {
	t.Spec.Broker = ""
	t.Spec.BrokerRef = &duckv1.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Namespace: "hub", Name: "orders"}
}

func inHub(b *eventingv1.Broker) { b.Namespace = "hub" }

func permitted(t *eventingv1.Trigger) { annotate(t, kube.BrokerAnnotation, "hub/orders") }

func url(text string) *apis.URL {
	u, err := apis.ParseURL(text)
	if err != nil {
		panic(err)
	}
	return u
}

func aService(name string) *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
}

func aChannel(address *duckv1.Addressable) *messagingv1.Channel {
	c := &messagingv1.Channel{TypeMeta: metav1.TypeMeta{APIVersion: "messaging.knative.dev/v1", Kind: "Channel"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "next"}}
	c.Status.Address = address
	return c
}

func aSource(observed int64, conditions ...apis.Condition) *sourcesv1.PingSource {
	s := &sourcesv1.PingSource{TypeMeta: metav1.TypeMeta{APIVersion: "sources.knative.dev/v1", Kind: "PingSource"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "clock", Generation: 2}}
	s.Status.ObservedGeneration, s.Status.Conditions = observed, conditions
	return s
}

const dependency = `{"kind":"PingSource","name":"clock","apiVersion":"sources.knative.dev/v1"}`

func flags(data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: eventing, Name: "config-features"}, Data: data}
}

var crossNamespace = flags(map[string]string{feature.CrossNamespaceEventLinks: "enabled"})

func wrote(t *eventingv1.Trigger) []clientgotesting.UpdateActionImpl {
	return []clientgotesting.UpdateActionImpl{{Object: t}}
}

// noWebhook takes updates as an API server does that has no webhook, or had
// none when the object was made: Knative's own would refuse to store it.
var noWebhook = []clientgotesting.ReactionFunc{func(a clientgotesting.Action) (bool, runtime.Object, error) {
	if update, ok := a.(clientgotesting.UpdateAction); ok {
		return true, update.GetObject(), nil
	}
	return false, nil, nil
}}

// lacks is a dispatcher that lacks these.
type lacks map[channel.UID]string

func (l lacks) InForce(uid channel.UID, _ string) []string {
	if why, ok := l[uid]; ok {
		return []string{why}
	}
	return nil
}

// has is a dispatcher that has these versions alone.
type has map[channel.UID]string

func (h has) InForce(uid channel.UID, version string) []string {
	if h[uid] == version {
		return nil
	}
	return []string{"penstock-dispatcher-0 (has " + h[uid] + ")"}
}

const readyEvent = "Normal Ready events of Broker shop/orders that match are delivered to " + to

func TestTriggers(t *testing.T) {
	table := TableTest{{
		Name: "a Trigger that is gone",
		Key:  key,
	}, {
		Name:              "a new Trigger that all dispatchers have loaded",
		Key:               key,
		Objects:           []runtime.Object{aBroker(), aTrigger(), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(ready, noted)),
		WantEvents:        []string{readyEvent},
	}, {
		Name:    "nothing has changed, so nothing is written",
		Key:     key,
		Objects: []runtime.Object{aBroker(), aTrigger(ready, noted), aService("biller")},
	}, {
		Name:              "one that is not loaded yet says by whom",
		Key:               key,
		Objects:           []runtime.Object{aBroker(), aTrigger(), aService("biller")},
		OtherTestData:     map[string]any{"dispatcher": lacks{kube.TriggerUID(aTrigger()): "penstock-dispatcher-1 (not known)"}},
		WantStatusUpdates: wrote(aTrigger(ready, loading("penstock-dispatcher-1 (not known)"), noted)),
	}, {
		Name:    "loaded is the version with what is written now",
		Key:     key,
		Objects: []runtime.Object{aBroker(), aTrigger(), aService("biller")},
		OtherTestData: map[string]any{"dispatcher": has{
			"b1": kube.BrokerVersion(aBroker()), kube.TriggerUID(aTrigger()): kube.TriggerVersion(aTrigger(ready, noted)),
		}},
		WantStatusUpdates: wrote(aTrigger(ready, noted)),
		WantEvents:        []string{readyEvent},
	}, {
		Name:          "an outage un-readies nothing",
		Key:           key,
		Objects:       []runtime.Object{aBroker(), aTrigger(ready, noted), aService("biller")},
		OtherTestData: map[string]any{"dispatcher": lacks{"b1": "none serves", kube.TriggerUID(aTrigger()): "none serves"}},
	}, {
		Name:              "a change of spec is to be loaded again",
		Key:               key,
		Objects:           []runtime.Object{aBroker(), aTrigger(ready, noted, generation(2)), aService("biller")},
		OtherTestData:     map[string]any{"dispatcher": lacks{kube.TriggerUID(aTrigger()): "penstock-dispatcher-0 (generation 1)"}},
		WantStatusUpdates: wrote(aTrigger(generation(2), ready, loading("penstock-dispatcher-0 (generation 1)"), noted)),
	}, {
		Name:              "a Broker made again under the same name is another",
		Key:               key,
		Objects:           []runtime.Object{aBroker(func(b *eventingv1.Broker) { b.UID = "b2" }), aTrigger(ready, noted), aService("biller")},
		OtherTestData:     map[string]any{"dispatcher": lacks{"b2": "penstock-dispatcher-0 (Broker not known)"}},
		WantStatusUpdates: wrote(aTrigger(ready, loading("penstock-dispatcher-0 (Broker not known)"), state("b2"))),
	}, {
		Name:              "a Broker that is not Ready, in its own words",
		Key:               key,
		Objects:           []runtime.Object{aBroker(brokerFailed("ConfigMapNotFound", "100% of it")), aTrigger(), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(ready, brokerIs("ConfigMapNotFound", "100% of it"), noted)),
		WantEvents:        []string{"Warning ConfigMapNotFound BrokerReady: 100% of it"},
	}, {
		Name:              "a Broker that nobody has reconciled yet",
		Key:               key,
		Objects:           []runtime.Object{aBroker(func(b *eventingv1.Broker) { b.Status = eventingv1.BrokerStatus{} }), aTrigger(), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(ready, func(t *eventingv1.Trigger) { t.Status.MarkBrokerNotConfigured() }, noted)),
	}, {
		Name:              "OIDC is asked for",
		Key:               key,
		Objects:           []runtime.Object{aBroker(), aTrigger(), aService("biller"), flags(map[string]string{"authentication-oidc": "enabled"})},
		WantStatusUpdates: wrote(aTrigger(ready, func(t *eventingv1.Trigger) { t.Status.MarkOIDCIdentityCreatedNotSupported() }, noted)),
		WantEvents:        []string{readyEvent},
	}}
	table.Test(t, factory())
}

func TestTriggersThatAreNotOurs(t *testing.T) {
	missing := brokerIs(config.ReasonBrokerDoesNotExist, "there is no Broker shop/orders: create it, or name another")
	alone := func(t *eventingv1.Trigger) {
		t.Status.ObservedGeneration = 1
		t.Status.InitializeConditions()
		t.Status.MarkOIDCIdentityCreatedSucceededWithReason("authentication-oidc feature disabled", "")
		missing(t)
		note(t, "")
	}
	event := "Warning BrokerDoesNotExist BrokerReady: there is no Broker shop/orders: create it, or name another"
	foreign := func(t *eventingv1.Trigger) {
		t.Status.InitializeConditions()
		t.Status.MarkBrokerFailed("BrokerDoesNotExist", "Broker %q does not exist", "orders")
	}
	table := TableTest{{
		Name:    "a Broker of another class: not even a generation is observed",
		Key:     key,
		Objects: []runtime.Object{aBroker(class("MTChannelBasedBroker")), aTrigger(), aService("biller")},
	}, {
		Name:    "not even if it was ours",
		Key:     key,
		Objects: []runtime.Object{aBroker(class("MTChannelBasedBroker")), aTrigger(ready, noted, generation(2)), aService("biller")},
	}, {
		Name:              "no Broker, and nobody has said so",
		Key:               key,
		Objects:           []runtime.Object{aTrigger()},
		WantStatusUpdates: wrote(aTrigger(alone)),
		WantEvents:        []string{event},
	}, {
		Name:    "it is said once",
		Key:     key,
		Objects: []runtime.Object{aTrigger(alone)},
	}, {
		Name:              "the Broker has been deleted",
		Key:               key,
		Objects:           []runtime.Object{aTrigger(ready, noted)},
		WantStatusUpdates: wrote(aTrigger(ready, missing, state(""))),
		WantEvents:        []string{event},
	}, {
		Name:    "no Broker, and another class has spoken",
		Key:     key,
		Objects: []runtime.Object{aTrigger(foreign)},
	}, {
		Name:    "no Broker, and another class has spoken after us",
		Key:     key,
		Objects: []runtime.Object{aTrigger(alone, foreign)},
	}}
	table.Test(t, factory())
}

func TestSubscribers(t *testing.T) {
	ref := func(apiVersion, kind, name string) *duckv1.KReference {
		return &duckv1.KReference{APIVersion: apiVersion, Kind: kind, Name: name}
	}
	uri := func(text string) duckv1.Destination { return duckv1.Destination{URI: url(text)} }
	resolves := func(name string, d duckv1.Destination, found string, more ...runtime.Object) TableRow {
		return TableRow{
			Name:              name,
			Key:               key,
			Objects:           append([]runtime.Object{aBroker(), aTrigger(subscriber(d))}, more...),
			WantStatusUpdates: wrote(aTrigger(subscriber(d), ready, delivered(found), noted)),
			WantEvents:        []string{"Normal Ready events of Broker shop/orders that match are delivered to " + found},
		}
	}
	fails := func(name string, d duckv1.Destination, reason, message string, more ...runtime.Object) TableRow {
		return TableRow{
			Name:         name,
			Key:          key,
			WithReactors: noWebhook,
			// The address that it had before goes.
			Objects:           append([]runtime.Object{aBroker(), aTrigger(subscriber(d), delivered("http://old/"))}, more...),
			WantStatusUpdates: wrote(aTrigger(subscriber(d), ready, unresolved(reason, "spec.subscriber: "+message), noted)),
			WantEvents:        []string{"Warning " + reason + " SubscriberResolved: spec.subscriber: " + message},
		}
	}
	serving := &eventingv1.Broker{} // any Addressable: here a Broker of another class
	serving.TypeMeta = metav1.TypeMeta{APIVersion: "eventing.knative.dev/v1", Kind: "Broker"}
	serving.Namespace, serving.Name = "shop", "other"
	serving.Status.Address = &duckv1.Addressable{URL: url("http://ingress.example/shop/other"), CACerts: ptr("PEM"), Audience: ptr("them")}

	withCA := resolves("any addressable, with certificates and audience that it gives itself", duckv1.Destination{Ref: ref("eventing.knative.dev/v1", "Broker", "other")}, "http://ingress.example/shop/other", serving)
	withCA.WantStatusUpdates[0].Object.(*eventingv1.Trigger).Status.SubscriberCACerts = ptr("PEM")
	withCA.WantStatusUpdates[0].Object.(*eventingv1.Trigger).Status.SubscriberAudience = ptr("them")
	invalid := fails("certificates of its own", duckv1.Destination{URI: url("https://a.example"), CACerts: ptr("PEM")}, config.ReasonSubscriberInvalid, "CACerts: own certificate authorities are not supported yet: remove it")
	notSubscribed(config.ReasonSubscriberInvalid, "spec.subscriber.CACerts: own certificate authorities are not supported yet: remove it and trust them in the system's pool")(invalid.WantStatusUpdates[0].Object.(*eventingv1.Trigger))
	invalid.WantEvents = []string{
		"Warning SubscriberInvalid SubscriberResolved: spec.subscriber: CACerts: own certificate authorities are not supported yet: remove it",
		"Warning SubscriberInvalid SubscriptionReady: spec.subscriber.CACerts: own certificate authorities are not supported yet: remove it and trust them in the system's pool",
	}
	table := TableTest{
		invalid,
		resolves("a URI as it is written", uri("http://fake.svc.cluster.local"), "http://fake.svc.cluster.local"),
		resolves("bad://uri goes Ready, and ends in dead letters", uri("bad://uri"), "bad://uri"),
		resolves("a Service, and a path", duckv1.Destination{Ref: ref("v1", "Service", "biller"), URI: url("/in?x=1")}, to+"/in?x=1", aService("biller")),
		resolves("a Channel", duckv1.Destination{Ref: ref("messaging.knative.dev/v1", "Channel", "next")}, "http://next.channel/", aChannel(&duckv1.Addressable{URL: url("http://next.channel/")})),
		withCA,
		fails("a relative URI alone", uri("/in"), config.ReasonSubscriberInvalid, `uri: URI is not absolute (both scheme and host should be non-empty): "/in"`),
		fails("a Service that is not there", duckv1.Destination{Ref: ref("v1", "Service", "biller")}, config.ReasonSubscriberNotResolved, "Service shop/biller does not exist: create it, or name another"),
		fails("one that has no address yet", duckv1.Destination{Ref: ref("messaging.knative.dev/v1", "Channel", "next")}, config.ReasonSubscriberNotResolved,
			"Channel shop/next: address not set for Kind = Channel, Namespace = shop, Name = next, APIVersion = messaging.knative.dev/v1, Group = , Address = : wait until it is ready, or look at its status", aChannel(nil)),
	}
	table.Test(t, factory())
}

func TestKindsThatAreNotInstalledAreLookedForAgain(t *testing.T) {
	d := duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Name: "fn"}}
	message := "spec.subscriber: Service shop/fn: there is no kind Service in serving.knative.dev/v1 here: install it, or name another"
	row := TableRow{
		Name:    "no Knative Serving",
		Key:     key,
		WantErr: true, // a request to come again, which is no failure
		Objects: []runtime.Object{aBroker(), aTrigger(subscriber(d))},
		WithReactors: []clientgotesting.ReactionFunc{func(a clientgotesting.Action) (bool, runtime.Object, error) {
			if a.GetResource().Group != "serving.knative.dev" {
				return false, nil, nil
			}
			return true, nil, &apierrs.StatusError{ErrStatus: metav1.Status{Code: 404, Reason: metav1.StatusReasonNotFound, Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{}}}
		}},
		WantStatusUpdates: wrote(aTrigger(subscriber(d), ready, unresolved(config.ReasonSubscriberNotResolved, message), noted)),
		WantEvents:        []string{"Warning SubscriberNotResolved SubscriberResolved: " + message},
	}
	TableTest{row}.Test(t, factory())
}

func TestDeadLetterSinks(t *testing.T) {
	own := func(d duckv1.Destination) tOption {
		return func(t *eventingv1.Trigger) { t.Spec.Delivery = &eventingduckv1.DeliverySpec{DeadLetterSink: &d} }
	}
	noneOfItsOwn := func(t *eventingv1.Trigger) { t.Spec.Delivery = &eventingduckv1.DeliverySpec{Retry: ptr(int32(3))} }
	goes := func(uri string) tOption {
		return func(t *eventingv1.Trigger) {
			t.Status.DeadLetterSinkURI = url(uri)
			t.Status.MarkDeadLetterSinkResolvedSucceeded()
		}
	}
	fails := func(message string) tOption {
		return func(t *eventingv1.Trigger) {
			t.Status.MarkDeadLetterSinkResolvedFailed(config.ReasonDeadLetterNotResolved, "%s", message)
		}
	}
	event := func(message string) []string {
		return []string{"Warning DeadLetterSinkNotResolved DeadLetterSinkResolved: " + message}
	}
	graveyard := duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "graveyard"}}
	absent := "spec.delivery.deadLetterSink: Service shop/graveyard does not exist: create it, or name another"
	unknown := "that of Broker shop/orders is not known: see its condition DeadLetterSinkResolved"
	table := TableTest{{
		Name:              "its own wins over the Broker's",
		Key:               key,
		Objects:           []runtime.Object{aBroker(brokerSink("http://broker.sink")), aTrigger(own(graveyard)), aService("biller"), aService("graveyard")},
		WantStatusUpdates: wrote(aTrigger(own(graveyard), ready, goes("http://graveyard.shop.svc.cluster.local"), noted)),
		WantEvents:        []string{readyEvent},
	}, {
		Name:              "a delivery without one falls back to the Broker's",
		Key:               key,
		Objects:           []runtime.Object{aBroker(brokerSink("http://broker.sink")), aTrigger(noneOfItsOwn), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(noneOfItsOwn, ready, goes("http://broker.sink"), noted)),
		WantEvents:        []string{readyEvent},
	}, {
		Name:              "its own is missing: the Broker's does not step in",
		Key:               key,
		Objects:           []runtime.Object{aBroker(brokerSink("http://broker.sink")), aTrigger(own(graveyard)), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(own(graveyard), ready, fails(absent), noted)),
		WantEvents:        event(absent),
	}, {
		Name:              "the Broker's is not known",
		Key:               key,
		Objects:           []runtime.Object{aBroker(brokerSink("")), aTrigger(), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(ready, fails(unknown), noted)),
		WantEvents:        event(unknown),
	}, {
		Name:              "one that is taken away is cleared",
		Key:               key,
		Objects:           []runtime.Object{aBroker(), aTrigger(ready, goes("http://broker.sink"), noted), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(ready, noted)),
	}}
	table.Test(t, factory())
}

func TestDependencies(t *testing.T) {
	failed := func(reason, message string) tOption {
		return func(t *eventingv1.Trigger) { t.Status.MarkDependencyFailed(reason, "%s", message) }
	}
	unknown := func(reason, message string) tOption {
		return func(t *eventingv1.Trigger) { t.Status.MarkDependencyUnknown(reason, "%s", message) }
	}
	row := func(name, text string, want tOption, events []string, more ...runtime.Object) TableRow {
		return TableRow{
			Name: name, Key: key, WithReactors: noWebhook,
			Objects:           append([]runtime.Object{aBroker(), aTrigger(depends(text)), aService("biller")}, more...),
			WantStatusUpdates: wrote(aTrigger(depends(text), ready, want, noted)),
			WantEvents:        events,
		}
	}
	absent := "PingSource shop/clock does not exist: create it, or remove the annotation knative.dev/dependency"
	wrong := "annotation knative.dev/dependency: want kind, name and apiVersion of a source, as JSON"
	table := TableTest{
		row("a source that is ready", dependency, func(*eventingv1.Trigger) {}, []string{readyEvent}, aSource(2, apis.Condition{Type: apis.ConditionReady, Status: corev1.ConditionTrue})),
		row("one that is not", dependency, failed("Late", "50% there"), []string{"Warning Late DependencyReady: 50% there"},
			aSource(2, apis.Condition{Type: apis.ConditionReady, Status: corev1.ConditionFalse, Reason: "Late", Message: "50% there"})),
		row("one that says nothing yet", dependency, func(t *eventingv1.Trigger) { t.Status.MarkDependencyNotConfigured() }, nil, aSource(2)),
		row("one whose controller lags", dependency, unknown(controller.ReasonDependencyUnknown, "PingSource shop/clock has changed and its controller has not looked at it yet"), nil,
			aSource(1, apis.Condition{Type: apis.ConditionReady, Status: corev1.ConditionTrue})),
		row("one that is not there", dependency, failed(controller.ReasonDependencyNotFound, absent), []string{"Warning DependencyDoesNotExist DependencyReady: " + absent}),
		row("an annotation that is not JSON", "clock", failed(controller.ReasonDependencyInvalid, wrong), []string{"Warning DependencyInvalid DependencyReady: " + wrong}),
		row("an annotation without a name", `{"kind":"PingSource"}`, failed(controller.ReasonDependencyInvalid, wrong), []string{"Warning DependencyInvalid DependencyReady: " + wrong}),
	}
	table.Test(t, factory())
}

func TestBrokersOfOtherNamespaces(t *testing.T) {
	off := "Broker hub/orders is in another namespace and cross-namespace-event-links is off: turn it on in ConfigMap config-features, or declare the Trigger in namespace hub"
	fault := "spec.brokerRef.namespace: Broker hub/orders is in another namespace and the controller has not permitted it: turn the feature cross-namespace-event-links on, or declare the Trigger in that namespace"
	refused := func(t *eventingv1.Trigger) {
		brokerIs(controller.ReasonCrossNamespaceForbidden, off)(t)
		notSubscribed(config.ReasonSpecInvalid, fault)(t)
	}
	table := TableTest{{
		Name:              "the flag permits it, and the data plane is told",
		Key:               key,
		Objects:           []runtime.Object{aBroker(inHub), aTrigger(abroad), aService("biller"), crossNamespace},
		WantStatusUpdates: wrote(aTrigger(abroad, ready, permitted, noted)),
		WantEvents:        []string{"Normal Ready events of Broker hub/orders that match are delivered to " + to},
	}, {
		Name:              "the flag goes off",
		Key:               key,
		Objects:           []runtime.Object{aBroker(inHub), aTrigger(abroad, ready, permitted, noted), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(abroad, ready, refused, noted)),
		WantEvents:        []string{"Warning CrossNamespaceEventLinksOff BrokerReady: " + off, "Warning SpecInvalid SubscriptionReady: " + fault},
	}, {
		Name:    "a Broker of the same name at home is not meant",
		Key:     key,
		Objects: []runtime.Object{aBroker(), aTrigger(abroad), aService("biller"), crossNamespace},
		WantStatusUpdates: wrote(aTrigger(abroad, func(t *eventingv1.Trigger) {
			t.Status.ObservedGeneration = 1
			t.Status.InitializeConditions()
			t.Status.MarkOIDCIdentityCreatedSucceededWithReason("authentication-oidc feature disabled", "")
			brokerIs(config.ReasonBrokerDoesNotExist, "there is no Broker hub/orders: create it, or name another")(t)
		}, permitted, state(""))),
		WantEvents: []string{"Warning BrokerDoesNotExist BrokerReady: there is no Broker hub/orders: create it, or name another"},
	}, {
		Name:              "it moves to another Broker: another lane, to be loaded",
		Key:               key,
		Objects:           []runtime.Object{aBroker(inHub, func(b *eventingv1.Broker) { b.UID = "b2" }), aTrigger(ready, noted, generation(2), abroad), aService("biller"), crossNamespace},
		OtherTestData:     map[string]any{"dispatcher": lacks{kube.TriggerUID(aTrigger(abroad)): "penstock-dispatcher-0 (not known)"}},
		WantStatusUpdates: wrote(aTrigger(generation(2), abroad, ready, permitted, loading("penstock-dispatcher-0 (not known)"), state("b2"))),
	}}
	for i := range table {
		table[i].WithReactors = noWebhook
	}
	table.Test(t, factory())
}

func TestFaultsOfTheDeclaration(t *testing.T) {
	row := func(name string, change tOption, reason, message string) TableRow {
		return TableRow{
			Name: name, Key: key, WithReactors: noWebhook,
			Objects:           []runtime.Object{aBroker(), aTrigger(change), aService("biller")},
			WantStatusUpdates: wrote(aTrigger(change, ready, notSubscribed(reason, message), noted)),
			WantEvents:        []string{"Warning " + reason + " SubscriptionReady: " + message},
		}
	}
	table := TableTest{
		row("a CESQL expression that is no condition", func(t *eventingv1.Trigger) {
			t.Spec.Filters = []eventingv1.SubscriptionsAPIFilter{{CESQL: "1 + 1"}}
		}, config.ReasonFilterInvalid, "spec.filters[0].cesql: expression is of type Integer, want a Boolean"),
		row("an annotation that is misspelt", annotated("penstock.dev/concurency", "2"), config.ReasonUnsupportedAnnotation, "annotation penstock.dev/concurency is unknown: did you mean concurrency?"),
		row("a value that does not parse", annotated("penstock.dev/concurrency", "many"), config.ReasonAnnotationInvalid, `annotation penstock.dev/concurrency: "many": want a number from 1 to 10000`),
		row("a delivery that is wrong", func(t *eventingv1.Trigger) {
			t.Spec.Delivery = &eventingduckv1.DeliverySpec{BackoffDelay: ptr("soon")}
		}, config.ReasonDeliveryInvalid, `spec.delivery.backoffDelay: "soon": want an ISO-8601 duration such as PT0.5S, PT30S or PT5M`),
	}
	reply := func(t *eventingv1.Trigger) {
		t.Spec.Filters = []eventingv1.SubscriptionsAPIFilter{{CESQL: "KN_VERIFY_CORRELATION_ID(correlationid, 'ask', 'shop', 'keys', 0, 1)"}}
	}
	table = append(table, TableRow{
		Name: "the filter that Knative's RequestReply makes", Key: key, WithReactors: noWebhook,
		Objects:           []runtime.Object{aBroker(), aTrigger(reply), aService("biller")},
		WantStatusUpdates: wrote(aTrigger(reply, ready, noted)),
		WantEvents:        []string{readyEvent},
	})
	cured := aTrigger(annotated("penstock.dev/concurrency", "2"), ready, notSubscribed(config.ReasonAnnotationInvalid, "it was wrong"), noted)
	table = append(table, TableRow{
		Name: "a fault that is cured is to be loaded", Key: key,
		Objects:           []runtime.Object{aBroker(), cured, aService("biller")},
		OtherTestData:     map[string]any{"dispatcher": lacks{kube.TriggerUID(aTrigger()): "a"}},
		WantStatusUpdates: wrote(aTrigger(annotated("penstock.dev/concurrency", "2"), ready, loading("a"), noted)),
	})
	table.Test(t, factory())
}

func ptr[T any](v T) *T { return &v }

// factory makes the real reconciler on fake clients. What a row's
// OtherTestData do not say is loaded everywhere.
func factory() Factory {
	quiet := zap.NewNop().Sugar()
	return func(t *testing.T, row *TableRow) (knative.Reconciler, ActionRecorderList, EventList) {
		return reconcilertesting.MakeFactory(func(ctx context.Context, listers *reconcilertesting.Listers, _ configmap.Watcher) knative.Reconciler {
			ctx = source.WithDuck(addressable.WithDuck(ctx))
			track := tracker.New(func(types.NamespacedName) {}, 0)
			on := controller.NewFlags(listers.GetConfigMapLister(), eventing)
			r := &Reconciler{
				Triggers: listers.GetTriggerLister(), Brokers: listers.GetBrokerLister(),
				Resolver: controller.NewResolver(ctx, track, on, nil), Sources: duck.NewListableTrackerFromTracker(ctx, source.Get, track),
				Judge: &controller.Judge{}, Waiting: &controller.Waiting{}, Dispatcher: lacks(nil),
			}
			if p, ok := row.OtherTestData["dispatcher"]; ok {
				r.Dispatcher = p.(controller.Plane)
			}
			return triggerreconciler.NewReconciler(ctx, logging.FromContext(ctx), eventingclient.Get(ctx), listers.GetTriggerLister(),
				knative.GetEventRecorder(ctx), r, knative.Options{ConfigStore: on})
		}, false, quiet)(t, row)
	}
}
