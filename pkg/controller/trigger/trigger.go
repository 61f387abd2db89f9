// Package trigger reconciles the Triggers of Brokers of class Penstock: it
// resolves where their events go, says what is wrong with them, and when every
// dispatcher has loaded them.
//
// A Trigger of a Broker of another class is never written, and one whose
// Broker is missing only if nobody else has written to it since we did. It
// makes no Subscription: a Trigger that owns one is taken for its own by
// Knative's own controller. It keeps nothing outside the Trigger and needs no
// finalizer.
package trigger

import (
	"context"
	"fmt"
	"strings"

	apierrs "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	eventinglisters "knative.dev/eventing/pkg/client/listers/eventing/v1"
	"knative.dev/eventing/pkg/duck"
	"knative.dev/pkg/apis"
	"knative.dev/pkg/reconciler"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

// Reconciler brings the status of one Trigger in line with what there is.
type Reconciler struct {
	Triggers   eventinglisters.TriggerLister
	Brokers    eventinglisters.BrokerLister
	Resolver   *controller.Resolver
	Sources    duck.ListableTracker // of dependencies
	Judge      *controller.Judge
	Waiting    *controller.Waiting
	Dispatcher controller.Plane
}

// ReconcileKind writes the status of a Trigger of one of our Brokers.
func (r *Reconciler) ReconcileKind(ctx context.Context, t *eventingv1.Trigger) reconciler.Event {
	before, err := r.Triggers.Triggers(t.Namespace).Get(t.Name)
	if err != nil {
		return fmt.Errorf("read Trigger %s/%s: %w", t.Namespace, t.Name, err)
	}
	target := controller.TargetOf(t)
	b, err := r.Brokers.Brokers(target.Namespace).Get(target.Name)
	switch {
	case apierrs.IsNotFound(err) && !lastWriter(before), err == nil && !kube.Ours(b):
		leave(t, before)
		r.Waiting.Done(nameOf(t))
		return nil
	case apierrs.IsNotFound(err):
		r.withoutBroker(ctx, t, target)
		controller.Announce(ctx, t, before.Status.Conditions, t.Status.Conditions, "")
		return nil
	case err != nil:
		return fmt.Errorf("read Broker %s: %w", target, err)
	}

	flags := feature.FromContextOrDefaults(ctx)
	identity(flags, t)
	permitted := permit(flags, t, target)
	broker(t, b, permitted)
	again := r.subscriber(ctx, t)
	again = r.deadLetterSink(ctx, t, b) || again
	again = r.dependency(ctx, t) || again
	r.subscription(t, b)
	note(t, b.UID)
	controller.Announce(ctx, t, before.Status.Conditions, t.Status.Conditions,
		fmt.Sprintf("events of Broker %s that match are delivered to %s", target, t.Status.SubscriberURI))
	if again {
		return controller.LookAgain()
	}
	return nil
}

// ObserveDeletion forgets a Trigger that is gone.
func (r *Reconciler) ObserveDeletion(_ context.Context, key types.NamespacedName) error {
	r.Waiting.Done(key)
	return nil
}

// leave makes the generated reconciler write nothing: neither the conditions
// that it has set to Unknown nor the generation that it takes as observed.
func leave(t, before *eventingv1.Trigger) {
	before.Status.DeepCopyInto(&t.Status)
	t.Generation = before.Status.ObservedGeneration
}

// withoutBroker says that the Broker is not there (or no more).
func (r *Reconciler) withoutBroker(ctx context.Context, t *eventingv1.Trigger, target types.NamespacedName) {
	flags := feature.FromContextOrDefaults(ctx)
	identity(flags, t)
	if permit(flags, t, target) {
		t.Status.MarkBrokerFailed(config.ReasonBrokerDoesNotExist, "there is no Broker %s: create it, or name another", target)
	} else {
		forbidden(t, target)
	}
	r.Waiting.Done(nameOf(t))
	note(t, "")
}

// identity says that there is none: OIDC is not supported yet. Where nobody
// asks for it that is how Knative says so, too.
func identity(flags feature.Flags, t *eventingv1.Trigger) {
	t.Status.Auth = nil
	if flags.IsOIDCAuthentication() {
		t.Status.MarkOIDCIdentityCreatedNotSupported()
		return
	}
	t.Status.MarkOIDCIdentityCreatedSucceededWithReason(feature.OIDCAuthentication+" feature disabled", "")
}

// permit tells the data plane whether the Trigger may listen to a Broker of
// another namespace. Whether its author may is checked by Knative's webhook.
func permit(flags feature.Flags, t *eventingv1.Trigger, target types.NamespacedName) bool {
	if target.Namespace == t.Namespace || !flags.IsCrossNamespaceEventLinks() {
		delete(t.Status.Annotations, kube.BrokerAnnotation)
		return target.Namespace == t.Namespace
	}
	annotate(t, kube.BrokerAnnotation, target.String())
	return true
}

func forbidden(t *eventingv1.Trigger, target types.NamespacedName) {
	t.Status.MarkBrokerFailed(controller.ReasonCrossNamespaceForbidden,
		"Broker %s is in another namespace and %s is off: turn it on in ConfigMap %s, or declare the Trigger in namespace %s",
		target, feature.CrossNamespaceEventLinks, feature.FlagsConfigName, target.Namespace)
}

// broker follows the Broker's own Ready.
func broker(t *eventingv1.Trigger, b *eventingv1.Broker, permitted bool) {
	if !permitted {
		forbidden(t, types.NamespacedName{Namespace: b.Namespace, Name: b.Name})
		return
	}
	ready := b.Status.GetTopLevelCondition().DeepCopy()
	if ready != nil {
		// Knative's helper takes the message as a format.
		ready.Message = escape(ready.Message)
	}
	t.Status.PropagateBrokerCondition(ready)
}

// subscriber resolves spec.subscriber. What is not found is cleared, so that
// nothing goes on to an address that is nobody's.
func (r *Reconciler) subscriber(ctx context.Context, t *eventingv1.Trigger) (again bool) {
	found, why := r.Resolver.Resolve(ctx, t.Spec.Subscriber, t)
	if why != nil {
		reason := config.ReasonSubscriberNotResolved
		if why.Invalid {
			reason = config.ReasonSubscriberInvalid
		}
		t.Status.SubscriberURI, t.Status.SubscriberCACerts, t.Status.SubscriberAudience = nil, nil, nil
		t.Status.MarkSubscriberResolvedFailed(reason, "spec.subscriber: %s", why.Message)
		return why.Again
	}
	t.Status.SubscriberURI, t.Status.SubscriberCACerts, t.Status.SubscriberAudience = found.URL, found.CACerts, found.Audience
	t.Status.MarkSubscriberResolvedSucceeded()
	return false
}

// deadLetterSink resolves the Trigger's own sink, or takes that of its Broker.
func (r *Reconciler) deadLetterSink(ctx context.Context, t *eventingv1.Trigger, b *eventingv1.Broker) (again bool) {
	t.Status.DeliveryStatus = eventingduckv1.DeliveryStatus{}
	switch {
	case t.Spec.Delivery != nil && t.Spec.Delivery.DeadLetterSink != nil:
		found, why := r.Resolver.Resolve(ctx, *t.Spec.Delivery.DeadLetterSink, t)
		if why != nil {
			t.Status.MarkDeadLetterSinkResolvedFailed(config.ReasonDeadLetterNotResolved, "spec.delivery.deadLetterSink: %s", why.Message)
			return why.Again
		}
		t.Status.DeliveryStatus = eventingduckv1.NewDeliveryStatusFromAddressable(found)
		t.Status.MarkDeadLetterSinkResolvedSucceeded()
	case b.Spec.Delivery == nil || b.Spec.Delivery.DeadLetterSink == nil:
		t.Status.MarkDeadLetterSinkNotConfigured()
	case b.Status.DeliveryStatus.IsSet():
		b.Status.DeliveryStatus.DeepCopyInto(&t.Status.DeliveryStatus)
		t.Status.MarkDeadLetterSinkResolvedSucceeded()
	default:
		t.Status.MarkDeadLetterSinkResolvedFailed(config.ReasonDeadLetterNotResolved, "that of Broker %s/%s is not known: see its condition DeadLetterSinkResolved", b.Namespace, b.Name)
	}
	return false
}

// subscription says whether every dispatcher has this Trigger, on this very
// Broker. Once True it stays so for this generation whatever pods do, but for
// a fault. It comes after all that is written for the data plane to read.
func (r *Reconciler) subscription(t *eventingv1.Trigger, b *eventingv1.Broker) {
	if reason, message := r.Judge.Trigger(t); reason != "" {
		r.Waiting.Done(nameOf(t))
		t.Status.MarkNotSubscribed(reason, "%s", message)
		return
	}
	if loadedAs(t) == stateOf(t, b.UID) && t.Status.GetCondition(eventingv1.TriggerConditionSubscribed).IsTrue() {
		r.Waiting.Done(nameOf(t))
		return
	}
	own, of := kube.TriggerUID(t), kube.BrokerUID(b)
	r.Waiting.For(nameOf(t), own, of)
	// A Trigger that was loaded before its Broker came is not in force for it.
	missing := r.Dispatcher.InForce(of, kube.BrokerVersion(b))
	if len(missing) == 0 {
		missing = r.Dispatcher.InForce(own, kube.TriggerVersion(t))
	}
	if len(missing) > 0 {
		t.Status.MarkSubscribedUnknown(controller.ReasonLoading, "%s", controller.NotLoadedBy(missing))
		return
	}
	r.Waiting.Done(nameOf(t))
	t.Status.PropagateSubscriptionCondition(&apis.Condition{Status: "True"})
}

func nameOf(t *eventingv1.Trigger) types.NamespacedName {
	return types.NamespacedName{Namespace: t.Namespace, Name: t.Name}
}

func annotate(t *eventingv1.Trigger, key, value string) {
	if t.Status.Annotations == nil {
		t.Status.Annotations = make(map[string]string)
	}
	t.Status.Annotations[key] = value
}

// escape keeps a format from reading text as one.
func escape(text string) string { return strings.ReplaceAll(text, "%", "%%") }
