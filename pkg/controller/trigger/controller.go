package trigger

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	brokerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker"
	triggerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/trigger"
	triggerreconciler "knative.dev/eventing/pkg/client/injection/reconciler/eventing/v1/trigger"
	"knative.dev/eventing/pkg/duck"
	"knative.dev/pkg/client/injection/ducks/duck/v1/source"
	configmapinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/configmap"
	knative "knative.dev/pkg/controller"

	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

// NewController makes the controller of Triggers, on informers of Knative's
// injection that have not started yet.
func NewController(ctx context.Context, o controller.Options) *knative.Impl {
	brokers, triggers, configMaps := brokerinformer.Get(ctx), triggerinformer.Get(ctx), configmapinformer.Get(ctx)
	if err := triggers.Informer().SetTransform(controller.Slim); err != nil {
		panic(err) // it has been started: our own mistake
	}
	if err := triggers.Informer().AddIndexers(controller.TriggerIndexers()); err != nil {
		panic(err) // they are there: our own mistake
	}

	r := &Reconciler{
		Triggers:   triggers.Lister(),
		Brokers:    brokers.Lister(),
		Judge:      o.Judge,
		Waiting:    &controller.Waiting{},
		Dispatcher: o.Dispatcher,
	}
	impl := triggerreconciler.NewImpl(ctx, r, func(*knative.Impl) knative.Options {
		return knative.Options{ConfigStore: o.Flags, AgentName: "penstock-controller", PromoteFilterFunc: r.concerns}
	})
	r.Resolver = controller.NewResolver(ctx, impl.Tracker, o.Flags, o.Groups)
	r.Sources = duck.NewListableTrackerFromTracker(ctx, source.Get, impl.Tracker)

	handle(triggers.Informer(), cache.FilteringResourceEventHandler{
		FilterFunc: r.concerns,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    impl.Enqueue,
			UpdateFunc: knative.PassNew(impl.Enqueue),
			DeleteFunc: func(obj any) { impl.Enqueue(obj); impl.Tracker.OnDeletedObserver(obj) },
		},
	})
	enqueueOf := func(obj any) {
		if b, ok := broked(obj); ok && kube.Ours(b) {
			for _, t := range controller.TriggersOf(triggers.Informer().GetIndexer(), types.NamespacedName{Namespace: b.Namespace, Name: b.Name}) {
				impl.Enqueue(t)
			}
		}
	}
	handle(brokers.Informer(), cache.ResourceEventHandlerFuncs{
		AddFunc: enqueueOf,
		UpdateFunc: func(old, now any) {
			if differs(old, now) {
				enqueueOf(now)
			}
		},
		DeleteFunc: enqueueOf,
	})
	handle(configMaps.Informer(), cache.FilteringResourceEventHandler{
		FilterFunc: o.Flags.Concerns,
		Handler:    knative.HandleAll(func(any) { impl.FilteredGlobalResync(r.concerns, triggers.Informer()) }),
	})
	o.News.Wake(r.Waiting, impl.EnqueueKey)
	return impl
}

func handle(informer cache.SharedIndexInformer, h cache.ResourceEventHandler) {
	if _, err := informer.AddEventHandler(h); err != nil {
		panic(err) // it has been stopped: our own mistake
	}
}

// concerns keeps Triggers of other classes out of the queue. One whose Broker
// is missing gets in: whether we may write to it is seen later.
func (r *Reconciler) concerns(obj any) bool {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	t, ok := obj.(*eventingv1.Trigger)
	if !ok {
		return false
	}
	target := controller.TargetOf(t)
	b, err := r.Brokers.Brokers(target.Namespace).Get(target.Name)
	return err != nil || kube.Ours(b)
}

func broked(obj any) (*eventingv1.Broker, bool) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	b, ok := obj.(*eventingv1.Broker)
	return b, ok
}

// differs reports whether a change of a Broker is one that its Triggers see. A
// Broker may have thousands, and its status changes several times while it is
// being loaded.
func differs(old, now any) bool {
	was, ok := old.(*eventingv1.Broker)
	is, same := now.(*eventingv1.Broker)
	if !ok || !same {
		return true
	}
	return was.UID != is.UID || kube.BrokerVersion(was) != kube.BrokerVersion(is) ||
		!reflect.DeepEqual(was.Status.DeliveryStatus, is.Status.DeliveryStatus) ||
		!reflect.DeepEqual(was.Status.GetTopLevelCondition(), is.Status.GetTopLevelCondition())
}
