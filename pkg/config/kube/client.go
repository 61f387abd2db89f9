package kube

import (
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/client/clientset/versioned"
	"knative.dev/eventing/pkg/client/informers/externalversions"

	"github.com/penstock-events/penstock/pkg/config"
)

// NewClient makes the client of a Source, under a name that the API server's
// logs show.
func NewClient(c *rest.Config, userAgent string) (versioned.Interface, error) {
	own := rest.CopyConfig(c)
	own.UserAgent = userAgent
	return versioned.NewForConfig(own)
}

// NewFactory makes informers of all namespaces whose caches hold what Strip
// leaves, and that never list again but to catch up.
func NewFactory(client versioned.Interface) externalversions.SharedInformerFactory {
	return newFactory(client, Strip)
}

func newFactory(client versioned.Interface, strip cache.TransformFunc) externalversions.SharedInformerFactory {
	return externalversions.NewSharedInformerFactoryWithOptions(client, 0, externalversions.WithTransform(strip))
}

// StripUnordered is Strip for a process that knows no Triggers but those that
// order by key: of the others it leaves the name.
func StripUnordered(obj any) (any, error) {
	if t, ok := obj.(*eventingv1.Trigger); ok && !config.OrdersByKey(t.Annotations) {
		t.Annotations, t.Spec, t.Status = nil, eventingv1.TriggerSpec{}, eventingv1.TriggerStatus{}
	}
	return Strip(obj)
}

// Strip takes from a Broker or Trigger what the data plane does not use, before
// it is cached: managed fields, foreign annotations, conditions, and of a
// Broker of another class all but its name. Other objects are left as they are.
func Strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *eventingv1.Broker:
		stripBroker(o)
	case *eventingv1.Trigger:
		stripTrigger(o)
	}
	return obj, nil
}

func stripBroker(b *eventingv1.Broker) {
	b.ManagedFields, b.OwnerReferences, b.Labels, b.Finalizers = nil, nil, nil, nil
	b.Annotations = ours(b.Annotations)
	b.Status.Conditions, b.Status.Annotations = nil, ours(b.Status.Annotations)
	b.Status.Addresses, b.Status.Address = nil, nil
	if !Ours(b) {
		b.Spec, b.Status = eventingv1.BrokerSpec{}, eventingv1.BrokerStatus{}
	}
}

func stripTrigger(t *eventingv1.Trigger) {
	t.ManagedFields, t.OwnerReferences, t.Labels, t.Finalizers = nil, nil, nil, nil
	t.Annotations = ours(t.Annotations)
	t.Status.Conditions, t.Status.Annotations, t.Status.Auth = nil, ours(t.Status.Annotations), nil
}
