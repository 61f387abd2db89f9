// Package broker reconciles Brokers of class Penstock: it gives each its
// address, resolves its dead letter sink, reads the ConfigMap of its
// spec.config, and says when every pod of the data plane has loaded it.
//
// It keeps nothing outside the Broker and needs no finalizer: the data plane
// sees by itself when a Broker is gone.
package broker

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	eventinglisters "knative.dev/eventing/pkg/client/listers/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/network"
	"knative.dev/pkg/reconciler"
	"knative.dev/pkg/tracker"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

// Conditions of a Broker beside Knative's own Addressable,
// DeadLetterSinkResolved, EventPoliciesReady and IngressReady.
const (
	ConditionDispatcherReady apis.ConditionType = "DispatcherReady" // every serving dispatcher has it open
	ConditionConfigParsed    apis.ConditionType = "ConfigParsed"    // all that is declared was understood
)

// Conditions is the condition set of our Brokers. Knative keeps one for each
// process, see eventingv1.RegisterAlternateBrokerConditionSet.
var Conditions = apis.NewLivingConditionSet(
	eventingv1.BrokerConditionAddressable,
	eventingv1.BrokerConditionIngress,
	ConditionDispatcherReady,
	ConditionConfigParsed,
	eventingv1.BrokerConditionDeadLetterSinkResolved,
	eventingv1.BrokerConditionEventPoliciesReady,
)

// Reconciler brings the status of one Broker in line with what there is.
type Reconciler struct {
	Brokers    eventinglisters.BrokerLister
	ConfigMaps corev1listers.ConfigMapLister
	Tracker    tracker.Interface // of ConfigMaps
	Resolver   *controller.Resolver
	Judge      *controller.Judge
	Waiting    *controller.Waiting

	Ingress, Dispatcher controller.Plane

	// IngressService of SystemNamespace is where events are posted.
	IngressService, SystemNamespace string

	// EventingNamespace is where Knative keeps its own ConfigMaps.
	EventingNamespace string
}

// ReconcileKind writes the status of a Broker of our class.
func (r *Reconciler) ReconcileKind(ctx context.Context, b *eventingv1.Broker) reconciler.Event {
	before, err := r.Brokers.Brokers(b.Namespace).Get(b.Name)
	if err != nil {
		return fmt.Errorf("read Broker %s/%s: %w", b.Namespace, b.Name, err)
	}
	flags := feature.FromContextOrDefaults(ctx)
	r.address(flags, b)
	policies(flags, b)
	again := r.deadLetterSink(ctx, b)
	if err := r.settings(b); err != nil {
		return err
	}
	r.loaded(b)
	controller.Announce(ctx, b, before.Status.Conditions, b.Status.Conditions, "events are accepted at "+b.Status.Address.URL.String())
	if again {
		return controller.LookAgain()
	}
	return nil
}

// ObserveDeletion forgets a Broker that is gone.
func (r *Reconciler) ObserveDeletion(_ context.Context, key types.NamespacedName) error {
	r.Waiting.Done(key)
	return nil
}

// address is where events are posted: http only, also where the flag asks for
// more, which the condition then says. To have no address would stop every
// sender of the cluster for a flag.
func (r *Reconciler) address(flags feature.Flags, b *eventingv1.Broker) {
	b.Status.SetAddress(&duckv1.Addressable{URL: &apis.URL{
		Scheme: "http",
		Host:   network.GetServiceHostname(r.IngressService, r.SystemNamespace),
		Path:   "/" + b.Namespace + "/" + b.Name,
	}})
	if flags.IsPermissiveTransportEncryption() || flags.IsStrictTransportEncryption() {
		Conditions.Manage(&b.Status).MarkTrueWithReason(eventingv1.BrokerConditionAddressable, controller.ReasonTLSNotSupported,
			"%s is %s, and Brokers of class %s have http only yet: set it to disabled, or keep untrusted networks from port 80 of Service %s/%s",
			feature.TransportEncryption, flags[feature.TransportEncryption], config.BrokerClass, r.SystemNamespace, r.IngressService)
	}
}

// policies says that none is in force. Without OIDC that is what Knative says
// too; with it, senders are not asked for a token yet, and that must be seen.
func policies(flags feature.Flags, b *eventingv1.Broker) {
	b.Status.Policies = nil
	if flags.IsOIDCAuthentication() {
		b.Status.MarkEventPoliciesTrueWithReason(controller.ReasonOIDCNotSupported,
			"Brokers of class %s do not ask for tokens yet: anybody who reaches the address may send, whatever EventPolicies say", config.BrokerClass)
		return
	}
	b.Status.MarkEventPoliciesTrueWithReason("OIDCDisabled", "Feature %q must be enabled to support Authorization", feature.OIDCAuthentication)
}

// deadLetterSink resolves spec.delivery.deadLetterSink. It reports whether to
// look again although nothing that is watched may change.
func (r *Reconciler) deadLetterSink(ctx context.Context, b *eventingv1.Broker) (again bool) {
	if b.Spec.Delivery == nil || b.Spec.Delivery.DeadLetterSink == nil {
		b.Status.MarkDeadLetterSinkNotConfigured()
		return false
	}
	found, why := r.Resolver.Resolve(ctx, *b.Spec.Delivery.DeadLetterSink, b)
	if why != nil {
		b.Status.MarkDeadLetterSinkResolvedFailed(config.ReasonDeadLetterNotResolved, "spec.delivery.deadLetterSink: %s", why.Message)
		return why.Again
	}
	b.Status.MarkDeadLetterSinkResolvedSucceeded(eventingduckv1.NewDeliveryStatusFromAddressable(found))
	return false
}

// loaded says whether every pod has this Broker. A condition that has become
// True for this generation of this very object stays so whatever pods do: an
// outage is not a change of the declaration. It comes last, since the version
// that pods report covers all that was written into status before.
func (r *Reconciler) loaded(b *eventingv1.Broker) {
	manager := Conditions.Manage(&b.Status)
	key := types.NamespacedName{Namespace: b.Namespace, Name: b.Name}
	uid, version := kube.BrokerUID(b), kube.BrokerVersion(b)
	r.Waiting.For(key, uid)

	state := fmt.Sprintf("%s/%d", b.UID, b.Generation)
	known := b.Status.Annotations[controller.StateAnnotation] == state
	setAnnotation(b, controller.StateAnnotation, state)
	all := true
	for _, c := range []struct {
		condition apis.ConditionType
		plane     controller.Plane
	}{
		{eventingv1.BrokerConditionIngress, r.Ingress},
		{ConditionDispatcherReady, r.Dispatcher},
	} {
		if known && manager.GetCondition(c.condition).IsTrue() {
			continue
		}
		if missing := c.plane.InForce(uid, version); len(missing) > 0 {
			manager.MarkUnknown(c.condition, controller.ReasonLoading, "%s", controller.NotLoadedBy(missing))
			all = false
			continue
		}
		manager.MarkTrue(c.condition)
	}
	if all {
		r.Waiting.Done(key)
	}
}

func setAnnotation(b *eventingv1.Broker, key, value string) {
	if b.Status.Annotations == nil {
		b.Status.Annotations = make(map[string]string)
	}
	b.Status.Annotations[key] = value
}

// configMap is the kind of what spec.config may name.
var configMap = corev1.SchemeGroupVersion.WithKind("ConfigMap")
