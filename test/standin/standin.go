// Package standin is a Kubernetes API in memory: what ingress and dispatcher
// need of one to run as real processes where there is no cluster, in benchmarks
// and in tests of the hop. It vouches for tokens that are names: the token
// "penstock-ingress" is that of the service account of the name. What it cannot
// do is what client-go's fakes cannot; tests of the Kubernetes side use a real
// API server.
package standin

import (
	"fmt"
	"net"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kubernetes "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/testing"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	knative "knative.dev/eventing/pkg/client/clientset/versioned/fake"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/config"
)

// Admin is the token of somebody who may see everything.
const Admin = "admin"

// Namespace is where Penstock is installed.
const Namespace = "penstock-system"

// Clients reach a cluster of these dispatchers (host:port, by ordinal), with
// the port of their API ("" for none), and objects (Brokers and Triggers).
func Clients(dispatchers []string, api string, objects ...runtime.Object) (cluster.Clients, error) {
	slice, err := slice(dispatchers, api)
	if err != nil {
		return cluster.Clients{}, err
	}
	replicas := int32(len(dispatchers))
	kube := kubernetes.NewClientset(slice, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "penstock-dispatcher"},
		Spec:       appsv1.StatefulSetSpec{Replicas: &replicas},
	})
	kube.PrependReactor("create", "tokenreviews", func(action testing.Action) (bool, runtime.Object, error) {
		review := action.(testing.CreateAction).GetObject().(*authenticationv1.TokenReview).DeepCopy()
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: review.Spec.Audiences,
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:" + Namespace + ":" + review.Spec.Token},
		}
		return true, review, nil
	})
	kube.PrependReactor("create", "subjectaccessreviews", func(action testing.Action) (bool, runtime.Object, error) {
		review := action.(testing.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview).DeepCopy()
		review.Status.Allowed = review.Spec.User == "system:serviceaccount:"+Namespace+":"+Admin
		return true, review, nil
	})
	return cluster.Clients{Kube: kube, Knative: knative.NewSimpleClientset(objects...)}, nil
}

// slice shows the dispatchers. Unlike a real one it may name loopback addresses.
func slice(dispatchers []string, api string) (*discoveryv1.EndpointSlice, error) {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: Namespace, Name: "penstock-dispatcher-1", Labels: map[string]string{discoveryv1.LabelServiceName: "penstock-dispatcher"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	yes := true
	for i, address := range dispatchers {
		host, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return nil, err
		}
		port, name := int32(n), "append"
		if len(s.Ports) > 0 && *s.Ports[0].Port != port {
			return nil, fmt.Errorf("dispatcher %s: all have one port, as the pods of a Service do", address)
		}
		s.Ports = []discoveryv1.EndpointPort{{Name: &name, Port: &port}}
		if api != "" {
			n, err := strconv.ParseUint(api, 10, 16)
			if err != nil {
				return nil, err
			}
			apiPort, apiName := int32(n), "api"
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &apiName, Port: &apiPort})
		}
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{host},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: Namespace, Name: fmt.Sprintf("penstock-dispatcher-%d", i)},
		})
	}
	return s, nil
}

// Broker is one of our class that the controller is done with.
func Broker(namespace, name string) *eventingv1.Broker {
	return &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: name, UID: types.UID("broker-" + namespace + "-" + name), Generation: 1,
		Annotations: map[string]string{config.ClassAnnotation: config.BrokerClass},
	}}
}

// Trigger is one whose subscriber has been found; of an event type, or of all
// for "".
func Trigger(namespace, name, broker, eventType, url string, delivery *eventingduckv1.DeliverySpec) (*eventingv1.Trigger, error) {
	u, err := apis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	t := &eventingv1.Trigger{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("trigger-" + namespace + "-" + name), Generation: 1},
		Spec:       eventingv1.TriggerSpec{Broker: broker, Subscriber: duckv1.Destination{URI: u}, Delivery: delivery},
		Status:     eventingv1.TriggerStatus{SubscriberURI: u},
	}
	if eventType != "" {
		t.Spec.Filter = &eventingv1.TriggerFilter{Attributes: eventingv1.TriggerFilterAttributes{"type": eventType}}
	}
	return t, nil
}
