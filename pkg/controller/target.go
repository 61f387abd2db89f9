package controller

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/config/kube"
)

// TargetOf is the Broker that a Trigger names, whether it is there or not and
// whether Knative's flag permits a Broker of another namespace or not.
func TargetOf(t *eventingv1.Trigger) types.NamespacedName {
	namespace, name := kube.BrokerOf(t)
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// BrokerIndex is the index of Triggers by the Broker that they name.
const BrokerIndex = "penstock.dev/broker"

// TriggerIndexers are to be added to the informer of Triggers, so that the
// Triggers of a Broker are found without a look at all others.
func TriggerIndexers() cache.Indexers {
	return cache.Indexers{BrokerIndex: func(obj any) ([]string, error) {
		t, ok := obj.(*eventingv1.Trigger)
		if !ok {
			return nil, nil
		}
		return []string{TargetOf(t).String()}, nil
	}}
}

// TriggersOf lists the Triggers that name a Broker, from an informer with
// TriggerIndexers. They must not be changed.
func TriggersOf(triggers cache.Indexer, broker types.NamespacedName) []*eventingv1.Trigger {
	found, err := triggers.ByIndex(BrokerIndex, broker.String())
	if err != nil {
		panic(err) // our own mistake: the indexers were not added
	}
	all := make([]*eventingv1.Trigger, 0, len(found))
	for _, obj := range found {
		if t, ok := obj.(*eventingv1.Trigger); ok {
			all = append(all, t)
		}
	}
	return all
}
