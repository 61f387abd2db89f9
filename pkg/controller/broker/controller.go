package broker

import (
	"context"

	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	brokerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker"
	brokerreconciler "knative.dev/eventing/pkg/client/injection/reconciler/eventing/v1/broker"
	configmapinformer "knative.dev/pkg/client/injection/kube/informers/core/v1/configmap"
	knative "knative.dev/pkg/controller"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
)

// NewController makes the controller of Brokers, on informers of Knative's
// injection that have not started yet.
func NewController(ctx context.Context, o controller.Options) *knative.Impl {
	eventingv1.RegisterAlternateBrokerConditionSet(Conditions)
	brokers, configMaps := brokerinformer.Get(ctx), configmapinformer.Get(ctx)
	for _, informer := range []cache.SharedIndexInformer{brokers.Informer(), configMaps.Informer()} {
		if err := informer.SetTransform(controller.Slim); err != nil {
			panic(err) // it has been started: our own mistake
		}
	}

	r := &Reconciler{
		Brokers:           brokers.Lister(),
		ConfigMaps:        configMaps.Lister(),
		Judge:             o.Judge,
		Waiting:           &controller.Waiting{},
		Ingress:           o.Ingress,
		Dispatcher:        o.Dispatcher,
		IngressService:    o.IngressService,
		SystemNamespace:   o.SystemNamespace,
		EventingNamespace: o.EventingNamespace,
	}
	impl := brokerreconciler.NewImpl(ctx, r, config.BrokerClass, func(*knative.Impl) knative.Options {
		return knative.Options{ConfigStore: o.Flags, AgentName: "penstock-controller", PromoteFilterFunc: ours}
	})
	r.Tracker = impl.Tracker
	r.Resolver = controller.NewResolver(ctx, impl.Tracker, o.Flags, o.Groups)

	handle(brokers.Informer(), cache.FilteringResourceEventHandler{
		FilterFunc: ours,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    impl.Enqueue,
			UpdateFunc: knative.PassNew(impl.Enqueue),
			DeleteFunc: func(obj any) { impl.Enqueue(obj); impl.Tracker.OnDeletedObserver(obj) },
		},
	})
	handle(configMaps.Informer(), knative.HandleAll(knative.EnsureTypeMeta(impl.Tracker.OnChanged, configMap)))
	handle(configMaps.Informer(), cache.FilteringResourceEventHandler{
		FilterFunc: o.Flags.Concerns,
		Handler:    knative.HandleAll(func(any) { impl.FilteredGlobalResync(ours, brokers.Informer()) }),
	})
	o.News.Wake(r.Waiting, impl.EnqueueKey)
	return impl
}

func handle(informer cache.SharedIndexInformer, h cache.ResourceEventHandler) {
	if _, err := informer.AddEventHandler(h); err != nil {
		panic(err) // it has been stopped: our own mistake
	}
}

// ours filters Brokers, tombstones of them included.
func ours(obj any) bool {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	b, ok := obj.(*eventingv1.Broker)
	return ok && kube.Ours(b)
}
