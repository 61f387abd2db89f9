package eventtype

import (
	"context"
	"time"

	"golang.org/x/time/rate"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	eventingclient "knative.dev/eventing/pkg/client/injection/client"
	brokerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/broker"
	triggerinformer "knative.dev/eventing/pkg/client/injection/informers/eventing/v1/trigger"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/logging"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// uidIndex is the index of Brokers and Triggers by the uid under which the
// data plane knows them.
const uidIndex = "penstock.dev/uid"

// NewController makes the controller of EventTypes, on informers of Knative's
// injection that have not started yet. What the data plane reports is to be
// given to report, which does not wait.
func NewController(ctx context.Context, flags *controller.Flags) (impl *knative.Impl, report func([]loaded.Type)) {
	brokers, triggers := brokerinformer.Get(ctx).Informer(), triggerinformer.Get(ctx).Informer()
	for _, informer := range []cache.SharedIndexInformer{brokers, triggers} {
		if err := informer.AddIndexers(indexers()); err != nil {
			panic(err) // they are there: our own mistake
		}
	}
	r := newReconciler(brokers.GetIndexer(), triggers.GetIndexer(), flags)
	r.client = eventingclient.Get(ctx)
	r.PromoteFunc = r.promote
	impl = knative.NewContext(ctx, r, knative.ControllerOptions{
		WorkQueueName: "penstock.eventtypes", Logger: logging.FromContext(ctx), Concurrency: 1,
	})
	r.enqueue = impl.EnqueueKey
	return impl, r.Report
}

func newReconciler(brokers, triggers cache.Indexer, flags *controller.Flags) *Reconciler {
	return &Reconciler{
		brokers:  brokers,
		triggers: triggers,
		flags:    flags,
		limit:    rate.NewLimiter(perSecond, burst),
		now:      time.Now,
		enqueue:  func(types.NamespacedName) {},
		pending:  make(map[types.NamespacedName]map[loaded.Type]struct{}),
		seen:     make(map[loaded.Type]time.Time),
		made:     make(map[channel.UID]int),
	}
}

func indexers() cache.Indexers {
	return cache.Indexers{uidIndex: func(obj any) ([]string, error) {
		switch o := obj.(type) {
		case *eventingv1.Broker:
			return []string{string(kube.BrokerUID(o))}, nil
		case *eventingv1.Trigger:
			return []string{string(kube.TriggerUID(o))}, nil
		}
		return nil, nil
	}}
}

// byUID finds a Broker of our class, or a Trigger.
func byUID(in cache.Indexer, uid channel.UID) (metav1.Object, bool) {
	found, err := in.ByIndex(uidIndex, string(uid))
	if err != nil || len(found) == 0 {
		return nil, false
	}
	if b, ok := found[0].(*eventingv1.Broker); ok && !kube.Ours(b) {
		return nil, false
	}
	o, ok := found[0].(metav1.Object)
	return o, ok
}
