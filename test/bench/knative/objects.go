package knative

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	"knative.dev/eventing/pkg/apis/eventing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/reconciler/sugar/trigger/path"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/bench/wire"
	"github.com/penstock-events/penstock/test/standin"
)

const channelName = "channel"

// objects are a Broker and its Triggers as the reconcilers leave them, and what
// they write into the channel.
type objects struct {
	broker      *eventingv1.Broker
	triggers    []*eventingv1.Trigger
	subscribers []eventingduckv1.SubscriberSpec
}

func (o *objects) all() []runtime.Object {
	list := []runtime.Object{o.broker}
	for _, t := range o.triggers {
		list = append(list, t)
	}
	return list
}

// declare is what Options describe, with the delivery that Knative ships for
// Brokers: retry 10, exponential, 0.2 s.
func declare(o Options) (all objects, err error) {
	url := func(address, path string) *apis.URL { return &apis.URL{Scheme: "http", Host: address, Path: path} }
	all.broker = &eventingv1.Broker{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default", UID: "broker"},
		Status: eventingv1.BrokerStatus{
			Status: duckv1.Status{Annotations: map[string]string{
				eventing.BrokerChannelAddressStatusAnnotationKey: url(o.Channel, "/default/"+channelName).String(),
			}},
			AddressStatus: duckv1.AddressStatus{Address: &duckv1.Addressable{URL: url(o.Ingress, "/default/default")}},
		},
	}
	retry, policy, delay := int32(10), eventingduckv1.BackoffPolicyExponential, "PT0.2S"
	delivery := &eventingduckv1.DeliverySpec{Retry: &retry, BackoffPolicy: &policy, BackoffDelay: &delay}
	for i := range o.Triggers {
		target := o.Other
		if i == o.Triggers/2 {
			target = o.Target
		}
		t, err := standin.Trigger("default", fmt.Sprintf("t%05d", i), "default", wire.TypeName(i), target, delivery)
		if err != nil {
			return all, err
		}
		t.Status.Status = duckv1.Status{Conditions: duckv1.Conditions{{Type: apis.ConditionReady, Status: corev1.ConditionTrue}}}
		all.triggers = append(all.triggers, t)
		all.subscribers = append(all.subscribers, eventingduckv1.SubscriberSpec{
			UID: types.UID("subscription-" + t.Name), Generation: 1, Delivery: delivery,
			SubscriberURI: url(o.Filter, path.Generate(t)), ReplyURI: url(o.Filter, path.GenerateReply(t)),
		})
	}
	return all, nil
}
