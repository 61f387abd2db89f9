package broker

import (
	"context"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgotesting "k8s.io/client-go/testing"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingclient "knative.dev/eventing/pkg/client/injection/client"
	brokerreconciler "knative.dev/eventing/pkg/client/injection/reconciler/eventing/v1/broker"
	reconcilertesting "knative.dev/eventing/pkg/reconciler/testing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	"knative.dev/pkg/configmap"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/network"
	. "knative.dev/pkg/reconciler/testing"
	"knative.dev/pkg/tracker"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

const (
	system   = "penstock-system"
	eventing = "knative-eventing"
	key      = "shop/orders"
)

func init() { eventingv1.RegisterAlternateBrokerConditionSet(Conditions) }

// aBroker is one of our class that has just been made.
func aBroker(change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "orders", UID: "u1", Generation: 1,
		Annotations: map[string]string{config.ClassAnnotation: config.BrokerClass},
	}}
	for _, f := range change {
		f(b)
	}
	return b
}

// ready is what becomes of a Broker with nothing special once it is loaded.
func ready(b *eventingv1.Broker) {
	b.Status.ObservedGeneration = b.Generation
	b.Status.SetAddress(&duckv1.Addressable{URL: apis.HTTP(network.GetServiceHostname("penstock-ingress", system))})
	b.Status.Address.URL.Path = "/" + b.Namespace + "/" + b.Name
	m := Conditions.Manage(&b.Status)
	m.MarkTrueWithReason(eventingv1.BrokerConditionEventPoliciesReady, "OIDCDisabled", `Feature "authentication-oidc" must be enabled to support Authorization`)
	b.Status.MarkDeadLetterSinkNotConfigured()
	m.MarkTrue(ConditionConfigParsed)
	m.MarkTrue(eventingv1.BrokerConditionIngress)
	m.MarkTrue(ConditionDispatcherReady)
	b.Status.Annotations = map[string]string{controller.StateAnnotation: string(b.UID) + "/1", kube.ChannelAnnotation: "disk"}
}

func then(changes ...func(*eventingv1.Broker)) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		for _, f := range changes {
			f(b)
		}
	}
}

func generation(n int64) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { b.Generation = n }
}

func annotated(key, value string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { b.Annotations[key] = value }
}

func noted(key, value string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { b.Status.Annotations[key] = value }
}

func forgot(key string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { delete(b.Status.Annotations, key) }
}

func configured(kind, namespace, name string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		b.Spec.Config = &duckv1.KReference{APIVersion: "v1", Kind: kind, Namespace: namespace, Name: name}
	}
}

func isFalse(c apis.ConditionType, reason, message string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { Conditions.Manage(&b.Status).MarkFalse(c, reason, "%s", message) }
}

func isTrue(c apis.ConditionType, reason, message string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		Conditions.Manage(&b.Status).MarkTrueWithReason(c, reason, "%s", message)
	}
}

func loading(c apis.ConditionType, message string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		Conditions.Manage(&b.Status).MarkUnknown(c, controller.ReasonLoading, "not loaded everywhere yet: %s", message)
	}
}

func sink(d duckv1.Destination) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { b.Spec.Delivery = &eventingduckv1.DeliverySpec{DeadLetterSink: &d} }
}

func sinkFound(url string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		u, _ := apis.ParseURL(url)
		b.Status.MarkDeadLetterSinkResolvedSucceeded(eventingduckv1.DeliveryStatus{DeadLetterSinkURI: u})
	}
}

func sinkFailed(message string) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) {
		b.Status.MarkDeadLetterSinkResolvedFailed(config.ReasonDeadLetterNotResolved, "%s", message)
	}
}

func aConfigMap(namespace, name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
}

func flags(data map[string]string) *corev1.ConfigMap {
	return aConfigMap(eventing, "config-features", data)
}

func wrote(b *eventingv1.Broker) []clientgotesting.UpdateActionImpl {
	return []clientgotesting.UpdateActionImpl{{Object: b}}
}

// pods is a plane: what each pod lacks, whatever is asked.
type pods []string

func (p pods) InForce(channel.UID, string) []string { return p }

// only is a plane that has one version in force.
type only string

func (v only) InForce(_ channel.UID, version string) []string {
	if version == string(v) {
		return nil
	}
	return []string{"penstock-dispatcher-0 (another version)"}
}

func serviceRef(name string) *duckv1.KReference {
	return &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: name}
}

func aService(name string) runtime.Object {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
}

const readyEvent = "Normal Ready events are accepted at http://penstock-ingress.penstock-system.svc.cluster.local/shop/orders"

func TestBrokers(t *testing.T) {
	was := then(ready) // as it was before
	table := TableTest{{
		Name: "a key that is none",
		Key:  "too/many/parts",
	}, {
		Name: "a Broker that is gone",
		Key:  key,
	}, {
		Name:    "a Broker of another class is not touched",
		Key:     key,
		Objects: []runtime.Object{aBroker(annotated(config.ClassAnnotation, "MTChannelBasedBroker"))},
	}, {
		Name: "a Broker that is being deleted is left alone",
		Key:  key,
		Objects: []runtime.Object{aBroker(func(b *eventingv1.Broker) {
			b.DeletionTimestamp, b.Finalizers = ptr(metav1.Now()), []string{"somebody.else"}
		})},
	}, {
		Name:              "a new Broker that all pods have loaded",
		Key:               key,
		Objects:           []runtime.Object{aBroker()},
		WantStatusUpdates: wrote(aBroker(ready)),
		WantEvents:        []string{readyEvent},
	}, {
		Name:    "nothing has changed, so nothing is written",
		Key:     key,
		Objects: []runtime.Object{aBroker(was)},
	}, {
		Name:    "pods that have not loaded it are named",
		Key:     key,
		Objects: []runtime.Object{aBroker()},
		OtherTestData: map[string]any{
			"ingress": pods{"penstock-ingress-x (no answer)"}, "dispatcher": pods{"a", "b", "c", "d", "e"},
		},
		WantStatusUpdates: wrote(aBroker(ready,
			loading(eventingv1.BrokerConditionIngress, "penstock-ingress-x (no answer)"),
			loading(ConditionDispatcherReady, "a, b, c and 2 more"))),
	}, {
		Name:          "an outage un-readies nothing",
		Key:           key,
		Objects:       []runtime.Object{aBroker(was)},
		OtherTestData: map[string]any{"ingress": pods{"none serves"}, "dispatcher": pods{"none serves"}},
	}, {
		Name:          "a change of spec is to be loaded again",
		Key:           key,
		Objects:       []runtime.Object{aBroker(was, generation(2))},
		OtherTestData: map[string]any{"dispatcher": pods{"penstock-dispatcher-1 (generation 1)"}},
		WantStatusUpdates: wrote(aBroker(ready, generation(2), noted(controller.StateAnnotation, "u1/2"),
			func(b *eventingv1.Broker) { b.Status.ObservedGeneration = 2 },
			loading(ConditionDispatcherReady, "penstock-dispatcher-1 (generation 1)"))),
	}, {
		Name: "a Broker made again under its name is another",
		Key:  key,
		Objects: []runtime.Object{aBroker(was, func(b *eventingv1.Broker) {
			b.UID = "u2" // with the status of the first: a write that came late
		})},
		OtherTestData: map[string]any{"dispatcher": pods{"penstock-dispatcher-0 (not known)"}},
		WantStatusUpdates: wrote(aBroker(func(b *eventingv1.Broker) { b.UID = "u2" }, ready,
			loading(ConditionDispatcherReady, "penstock-dispatcher-0 (not known)"))),
	}, {
		Name:    "the version that pods must have is the one with what is written now",
		Key:     key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", "shop", "settings")), aConfigMap("shop", "settings", map[string]string{"rate": "100"})},
		OtherTestData: map[string]any{"dispatcher": only(kube.BrokerVersion(
			aBroker(configured("ConfigMap", "shop", "settings"), ready, noted(kube.SettingsAnnotation, `{"rate":"100"}`))))},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", "shop", "settings"), ready, noted(kube.SettingsAnnotation, `{"rate":"100"}`))),
		WantEvents:        []string{readyEvent},
	}, {
		Name: "a dead letter sink that is a Service",
		Key:  key,
		Objects: []runtime.Object{
			aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard"), URI: &apis.URL{Path: "/lost"}})), aService("graveyard"),
		},
		WantStatusUpdates: wrote(aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard"), URI: &apis.URL{Path: "/lost"}}), ready,
			sinkFound("http://graveyard.shop.svc.cluster.local/lost"))),
		WantEvents: []string{readyEvent},
	}, {
		Name:    "a dead letter sink that is missing: not Ready, and the address stays",
		Key:     key,
		Objects: []runtime.Object{aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard")}))},
		WantStatusUpdates: wrote(aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard")}), ready,
			sinkFailed("spec.delivery.deadLetterSink: Service shop/graveyard does not exist: create it, or name another"))),
		WantEvents: []string{"Warning DeadLetterSinkNotResolved DeadLetterSinkResolved: spec.delivery.deadLetterSink: Service shop/graveyard does not exist: create it, or name another"},
	}, {
		Name:    "a dead letter sink with certificates of its own",
		Key:     key,
		Objects: []runtime.Object{aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard"), CACerts: ptr("PEM")})), aService("graveyard")},
		WantStatusUpdates: wrote(aBroker(sink(duckv1.Destination{Ref: serviceRef("graveyard"), CACerts: ptr("PEM")}), ready,
			sinkFailed("spec.delivery.deadLetterSink: CACerts: own certificate authorities are not supported yet: remove it"))),
		WantEvents: []string{"Warning DeadLetterSinkNotResolved DeadLetterSinkResolved: spec.delivery.deadLetterSink: CACerts: own certificate authorities are not supported yet: remove it"},
	}, {
		Name:    "encryption is asked for",
		Key:     key,
		Objects: []runtime.Object{aBroker(), flags(map[string]string{"transport-encryption": "strict"})},
		WantStatusUpdates: wrote(aBroker(ready, isTrue(eventingv1.BrokerConditionAddressable, controller.ReasonTLSNotSupported,
			"transport-encryption is Strict, and Brokers of class Penstock have http only yet: set it to disabled, or keep untrusted networks from port 80 of Service penstock-system/penstock-ingress"))),
		WantEvents: []string{
			"Warning TransportEncryptionNotSupported Addressable: transport-encryption is Strict, and Brokers of class Penstock have http only yet: set it to disabled, or keep untrusted networks from port 80 of Service penstock-system/penstock-ingress",
			readyEvent,
		},
	}, {
		Name:    "tokens are asked for",
		Key:     key,
		Objects: []runtime.Object{aBroker(was), flags(map[string]string{"authentication-oidc": "enabled"})},
		WantStatusUpdates: wrote(aBroker(ready, isTrue(eventingv1.BrokerConditionEventPoliciesReady, controller.ReasonOIDCNotSupported,
			"Brokers of class Penstock do not ask for tokens yet: anybody who reaches the address may send, whatever EventPolicies say"))),
		WantEvents: []string{"Warning OIDCNotSupported EventPoliciesReady: Brokers of class Penstock do not ask for tokens yet: anybody who reaches the address may send, whatever EventPolicies say"},
	}, {
		Name:    "an annotation that nobody knows",
		Key:     key,
		Objects: []runtime.Object{aBroker(annotated("penstock.dev/retenton", "1h"))},
		WantStatusUpdates: wrote(aBroker(annotated("penstock.dev/retenton", "1h"), ready, forgot(kube.ChannelAnnotation),
			isFalse(ConditionConfigParsed, config.ReasonUnsupportedAnnotation, "annotation penstock.dev/retenton is unknown: did you mean retention?"))),
		WantEvents: []string{"Warning UnsupportedAnnotation ConfigParsed: annotation penstock.dev/retenton is unknown: did you mean retention?"},
	}, {
		Name:    "a channel that is not here",
		Key:     key,
		Objects: []runtime.Object{aBroker(annotated("penstock.dev/channel", "jetstream"))},
		WantStatusUpdates: wrote(aBroker(annotated("penstock.dev/channel", "jetstream"), ready, forgot(kube.ChannelAnnotation),
			isFalse(ConditionConfigParsed, config.ReasonChannelUnavailable, "metadata.annotations[penstock.dev/channel]: channel jetstream is not available here: use disk or memory"))),
		WantEvents: []string{"Warning ChannelUnavailable ConfigParsed: metadata.annotations[penstock.dev/channel]: channel jetstream is not available here: use disk or memory"},
	}, {
		Name:    "a channel that was changed",
		Key:     key,
		Objects: []runtime.Object{aBroker(was, annotated("penstock.dev/channel", "memory"))},
		WantStatusUpdates: wrote(aBroker(ready, annotated("penstock.dev/channel", "memory"), isFalse(ConditionConfigParsed, config.ReasonChannelImmutable,
			"metadata.annotations[penstock.dev/channel]: memory: this Broker was created with disk and keeps it: write disk, or declare a Broker of another name"))),
		WantEvents: []string{"Warning ChannelImmutable ConfigParsed: metadata.annotations[penstock.dev/channel]: memory: this Broker was created with disk and keeps it: write disk, or declare a Broker of another name"},
	}, {
		Name:              "the channel it is created with is noted",
		Key:               key,
		Objects:           []runtime.Object{aBroker(annotated("penstock.dev/channel", "memory"))},
		WantStatusUpdates: wrote(aBroker(annotated("penstock.dev/channel", "memory"), ready, noted(kube.ChannelAnnotation, "memory"))),
		WantEvents:        []string{readyEvent},
	}}
	table.Test(t, factory(t))
}

func TestConfigMaps(t *testing.T) {
	ours := configured("ConfigMap", "shop", "settings")
	has := func(encoded string) func(*eventingv1.Broker) {
		return then(ours, ready, noted(kube.SettingsAnnotation, encoded))
	}
	table := TableTest{{
		Name:              "settings go to the data plane",
		Key:               key,
		Objects:           []runtime.Object{aBroker(ours), aConfigMap("shop", "settings", map[string]string{"retention": "1h", "max-bytes": "1Gi", "_example": "rate: x"})},
		WantStatusUpdates: wrote(aBroker(has(`{"max-bytes":"1Gi","retention":"1h"}`))),
		WantEvents:        []string{readyEvent},
	}, {
		Name:              "an edit is live",
		Key:               key,
		Objects:           []runtime.Object{aBroker(has(`{"rate":"1"}`)), aConfigMap("shop", "settings", map[string]string{"rate": "2"})},
		WantStatusUpdates: wrote(aBroker(has(`{"rate":"2"}`))),
	}, {
		Name:    "a bad edit leaves the last good settings in force",
		Key:     key,
		Objects: []runtime.Object{aBroker(has(`{"rate":"1"}`)), aConfigMap("shop", "settings", map[string]string{"rate": "fast"})},
		WantStatusUpdates: wrote(aBroker(has(`{"rate":"1"}`), isFalse(ConditionConfigParsed, config.ReasonAnnotationInvalid,
			`key rate of its ConfigMap: "fast": want a number of events and a unit, as in 100/s, 5/m or 2/h (the settings read before stay in force)`))),
		WantEvents: []string{`Warning AnnotationInvalid ConfigParsed: key rate of its ConfigMap: "fast": want a number of events and a unit, as in 100/s, 5/m or 2/h (the settings read before stay in force)`},
	}, {
		Name:    "bad from the start: the data plane refuses it as well",
		Key:     key,
		Objects: []runtime.Object{aBroker(ours), aConfigMap("shop", "settings", map[string]string{"retenton": "1h", "channel": "memory"})},
		WantStatusUpdates: wrote(aBroker(has(`{"channel":"memory","retenton":""}`), forgot(kube.ChannelAnnotation), isFalse(ConditionConfigParsed, config.ReasonUnsupportedAnnotation,
			`key retenton of its ConfigMap is unknown: did you mean retention?`))),
		WantEvents: []string{`Warning UnsupportedAnnotation ConfigParsed: key retenton of its ConfigMap is unknown: did you mean retention?`},
	}, {
		Name:    "what somebody keeps in it that is no setting is not shown",
		Key:     key,
		Objects: []runtime.Object{aBroker(ours), aConfigMap("shop", "settings", map[string]string{"rate": "5/s", "password": "secret"})},
		WantStatusUpdates: wrote(aBroker(has(`{"password":"","rate":"5/s"}`), forgot(kube.ChannelAnnotation),
			isFalse(ConditionConfigParsed, config.ReasonUnsupportedAnnotation, `key password of its ConfigMap is unknown: remove it`))),
		WantEvents: []string{`Warning UnsupportedAnnotation ConfigParsed: key password of its ConfigMap is unknown: remove it`},
	}, {
		Name:    "one of somebody else",
		Key:     key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", "bank", "settings")), aConfigMap("bank", "settings", map[string]string{"rate": "5/s"})},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", "bank", "settings"), ready, forgot(kube.ChannelAnnotation), isFalse(ConditionConfigParsed, controller.ReasonConfigMapForbidden,
			"spec.config: ConfigMap bank/settings is in another namespace: name one in shop, or in knative-eventing where the operator keeps those for all"))),
		WantEvents: []string{"Warning ConfigMapForbidden ConfigParsed: spec.config: ConfigMap bank/settings is in another namespace: name one in shop, or in knative-eventing where the operator keeps those for all"},
	}, {
		Name:              "one that the operator keeps for all",
		Key:               key,
		Objects:           []runtime.Object{aBroker(configured("ConfigMap", eventing, "penstock-defaults")), aConfigMap(eventing, "penstock-defaults", map[string]string{"rate": "5/s"})},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", eventing, "penstock-defaults"), ready, noted(kube.SettingsAnnotation, `{"rate":"5/s"}`))),
		WantEvents:        []string{readyEvent},
	}, {
		Name:    "one that is not there",
		Key:     key,
		Objects: []runtime.Object{aBroker(ours)},
		WantStatusUpdates: wrote(aBroker(ours, ready, forgot(kube.ChannelAnnotation), isFalse(ConditionConfigParsed, controller.ReasonConfigMapNotFound,
			"spec.config: there is no ConfigMap shop/settings: create it, if need be without any key"))),
		WantEvents: []string{"Warning ConfigMapNotFound ConfigParsed: spec.config: there is no ConfigMap shop/settings: create it, if need be without any key"},
	}, {
		Name:    "one that is gone",
		Key:     key,
		Objects: []runtime.Object{aBroker(has(`{"rate":"1"}`))},
		WantStatusUpdates: wrote(aBroker(has(`{"rate":"1"}`), isFalse(ConditionConfigParsed, controller.ReasonConfigMapNotFound,
			"spec.config: there is no ConfigMap shop/settings: create it, if need be without any key (the settings read before stay in force)"))),
		WantEvents: []string{"Warning ConfigMapNotFound ConfigParsed: spec.config: there is no ConfigMap shop/settings: create it, if need be without any key (the settings read before stay in force)"},
	}, {
		Name: "what Knative's defaults name says nothing to us",
		Key:  key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", eventing, "config-br-default-channel")),
			aConfigMap(eventing, "config-br-default-channel", map[string]string{"channel-template-spec": "kind: InMemoryChannel"})},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", eventing, "config-br-default-channel"), ready, noted(kube.SettingsAnnotation, "{}"))),
		WantEvents:        []string{readyEvent},
	}, {
		Name: "nor does the default of another class",
		Key:  key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", eventing, "kafka-broker-config")),
			aConfigMap(eventing, "kafka-broker-config", map[string]string{"default.topic.partitions": "10", "bootstrap.servers": "kafka:9092"})},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", eventing, "kafka-broker-config"), ready, noted(kube.SettingsAnnotation, "{}"),
			isTrue(ConditionConfigParsed, controller.ReasonConfigIgnored, "spec.config: ConfigMap knative-eventing/kafka-broker-config has no key of ours and is taken for that of another class"))),
		WantEvents: []string{readyEvent},
	}, {
		Name: "one with a key of ours is meant for us, all of it",
		Key:  key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", eventing, "penstock-defaults")),
			aConfigMap(eventing, "penstock-defaults", map[string]string{"rate": "5/s", "retenton": "1h"})},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", eventing, "penstock-defaults"), ready, forgot(kube.ChannelAnnotation), noted(kube.SettingsAnnotation, `{"rate":"5/s","retenton":""}`),
			isFalse(ConditionConfigParsed, config.ReasonUnsupportedAnnotation, "key retenton of its ConfigMap is unknown: did you mean retention?"))),
		WantEvents: []string{"Warning UnsupportedAnnotation ConfigParsed: key retenton of its ConfigMap is unknown: did you mean retention?"},
	}, {
		Name:    "and need not even be there",
		Key:     key,
		Objects: []runtime.Object{aBroker(configured("ConfigMap", eventing, "config-br-default-channel"))},
		WantStatusUpdates: wrote(aBroker(configured("ConfigMap", eventing, "config-br-default-channel"), ready, noted(kube.SettingsAnnotation, "null"),
			isTrue(ConditionConfigParsed, controller.ReasonConfigIgnored, "spec.config: ConfigMap knative-eventing/config-br-default-channel, which Knative's defaults name, is for other classes"))),
		WantEvents: []string{readyEvent},
	}, {
		Name:    "the configuration of another class is no fault",
		Key:     key,
		Objects: []runtime.Object{aBroker(configured("RabbitmqBrokerConfig", "shop", "rabbit"))},
		WantStatusUpdates: wrote(aBroker(configured("RabbitmqBrokerConfig", "shop", "rabbit"), ready, noted(kube.SettingsAnnotation, "null"),
			isTrue(ConditionConfigParsed, controller.ReasonConfigIgnored, `spec.config: RabbitmqBrokerConfig "rabbit" is ignored: settings are read from a ConfigMap or from penstock.dev/ annotations`))),
		WantEvents: []string{readyEvent},
	}}
	table.Test(t, factory(t))
}

func ptr[T any](v T) *T { return &v }

// factory makes the real reconciler on fake clients. What a row's
// OtherTestData do not say is loaded everywhere.
func factory(t *testing.T) Factory {
	quiet := zap.NewNop().Sugar()
	return func(t *testing.T, row *TableRow) (knative.Reconciler, ActionRecorderList, EventList) {
		return reconcilertesting.MakeFactory(func(ctx context.Context, listers *reconcilertesting.Listers, _ configmap.Watcher) knative.Reconciler {
			ctx = addressable.WithDuck(ctx)
			track := tracker.New(func(types.NamespacedName) {}, 0)
			on := controller.NewFlags(listers.GetConfigMapLister(), eventing)
			r := &Reconciler{
				Brokers: listers.GetBrokerLister(), ConfigMaps: listers.GetConfigMapLister(), Tracker: track,
				Resolver: controller.NewResolver(ctx, track, on, nil), Judge: &controller.Judge{Channels: []string{"disk", "memory"}},
				Waiting: &controller.Waiting{}, Ingress: pods(nil), Dispatcher: pods(nil),
				IngressService: "penstock-ingress", SystemNamespace: system, EventingNamespace: eventing,
			}
			if p, ok := row.OtherTestData["ingress"]; ok {
				r.Ingress = p.(controller.Plane)
			}
			if p, ok := row.OtherTestData["dispatcher"]; ok {
				r.Dispatcher = p.(controller.Plane)
			}
			return brokerreconciler.NewReconciler(ctx, logging.FromContext(ctx), eventingclient.Get(ctx), listers.GetBrokerLister(),
				knative.GetEventRecorder(ctx), r, config.BrokerClass, knative.Options{ConfigStore: on})
		}, false, quiet)(t, row)
	}
}
