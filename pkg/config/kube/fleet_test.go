package kube

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func ptr[T any](v T) *T { return &v }

func slice(name string, family discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "penstock", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "dispatcher"}},
		AddressType: family,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("metrics"), Port: ptr[int32](9090)}, {Name: ptr("append"), Port: ptr[int32](8090)}},
		Endpoints:   endpoints,
	}
}

func endpoint(pod, address string, conditions discoveryv1.EndpointConditions) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses: []string{address}, Conditions: conditions,
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "penstock", Name: pod},
	}
}

func statefulSet(replicas *int32) *appsv1.StatefulSet {
	return &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "penstock", Name: "dispatcher"}, Spec: appsv1.StatefulSetSpec{Replicas: replicas}}
}

var (
	serves   = discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(true), Terminating: ptr(false)}
	starts   = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false), Terminating: ptr(false)}
	drains   = discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(true), Terminating: ptr(true)}
	headless = discoveryv1.EndpointConditions{Ready: ptr(true), Serving: ptr(false), Terminating: ptr(true)} // publishNotReadyAddresses
)

func TestAFleetFollowsItsPods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := slice("other", discoveryv1.AddressTypeIPv4, endpoint("dispatcher-5", "10.0.0.5", serves))
		other.Labels[discoveryv1.LabelServiceName] = "ingress"
		nameless := endpoint("", "10.0.0.9", serves)
		nameless.TargetRef = nil
		host := endpoint("", "10.0.0.3", discoveryv1.EndpointConditions{})
		host.TargetRef, host.Hostname = nil, ptr("dispatcher-3")
		client := fake.NewSimpleClientset(other,
			statefulSet(ptr[int32](4)),
			// dispatcher-1 is moving from one slice to another, dispatcher-0 has two families.
			slice("a", discoveryv1.AddressTypeIPv4, endpoint("dispatcher-0", "10.0.0.1", serves), endpoint("dispatcher-1", "10.0.0.2", starts), nameless),
			slice("b", discoveryv1.AddressTypeIPv4, endpoint("dispatcher-1", "10.0.0.2", serves), host, endpoint("dispatcher-02", "10.0.0.7", serves), endpoint("stranger", "10.0.0.8", serves)),
			slice("c", discoveryv1.AddressTypeIPv6, endpoint("dispatcher-0", "fd00::1", serves), endpoint("dispatcher-2", "fd00::2", drains)),
			slice("d", discoveryv1.AddressTypeFQDN, endpoint("dispatcher-6", "x.example", serves)),
		)
		var told []Members
		f := NewFleet(FleetOptions{Client: client, Namespace: "penstock", Service: "dispatcher", Port: "append", StatefulSet: "dispatcher"})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx, func(m Members) { told = append(told, m) }) }()
		settle := func() Members {
			t.Helper()
			time.Sleep(time.Second)
			synctest.Wait()
			if len(told) == 0 {
				t.Fatal("nobody was told")
			}
			return told[len(told)-1]
		}
		want := Members{Declared: 4, Pods: []Pod{
			{Name: "dispatcher-0", Ordinal: 0, Address: "10.0.0.1:8090", Ready: true, Serving: true},
			{Name: "dispatcher-1", Ordinal: 1, Address: "10.0.0.2:8090", Ready: true, Serving: true},
			{Name: "dispatcher-2", Ordinal: 2, Address: "[fd00::2]:8090", Serving: true, Terminating: true},
			{Name: "dispatcher-3", Ordinal: 3, Address: "10.0.0.3:8090", Ready: true, Serving: true},
		}}
		if got := settle(); !reflect.DeepEqual(got, want) || len(told) != 1 {
			t.Fatalf("members %+v (told %d times), want %+v", got, len(told), want)
		}

		// What is no news is not told.
		same := slice("b", discoveryv1.AddressTypeIPv4, host, endpoint("dispatcher-1", "10.0.0.2", serves))
		same.ResourceVersion = "9"
		if _, err := client.DiscoveryV1().EndpointSlices("penstock").Update(ctx, same, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if settle(); len(told) != 1 {
			t.Errorf("told %d times, want once", len(told))
		}
		if err := client.DiscoveryV1().EndpointSlices("penstock").Delete(ctx, "b", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := settle(); len(got.Pods) != 3 || got.Pods[1].Serving || got.Pods[1].Ready {
			t.Errorf("members %+v after a slice went", got)
		}
		// A StatefulSet that is made again has not scaled to nothing meanwhile.
		if err := client.AppsV1().StatefulSets("penstock").Delete(ctx, "dispatcher", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := settle(); got.Declared != 4 {
			t.Errorf("declared %d while the StatefulSet is away", got.Declared)
		}
		if _, err := client.AppsV1().StatefulSets("penstock").Create(ctx, statefulSet(nil), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := settle(); got.Declared != 1 {
			t.Errorf("declared %d, want Kubernetes' default of 1", got.Declared)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAPodThatStopsIsNotReady(t *testing.T) {
	f := NewFleet(FleetOptions{Service: "dispatcher", Port: "append", StatefulSet: "dispatcher"})
	got := f.pods([]*discoveryv1.EndpointSlice{slice("a", discoveryv1.AddressTypeIPv4, endpoint("dispatcher-0", "10.0.0.1", headless))})
	if len(got) != 1 || got[0].Ready || got[0].Serving || !got[0].Terminating {
		t.Errorf("%+v", got)
	}
	f.o.Port = "no-such"
	if got := f.pods([]*discoveryv1.EndpointSlice{slice("a", discoveryv1.AddressTypeIPv4, endpoint("dispatcher-0", "10.0.0.1", serves))}); len(got) != 0 {
		t.Errorf("%+v without the port", got)
	}
}

// What a Role must allow is what these selectors say.
func TestAFleetAsksForNoMoreThanItNeeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewSimpleClientset()
		asked := map[string]string{}
		client.PrependReactor("list", "*", func(a k8stesting.Action) (bool, runtime.Object, error) {
			if a.GetNamespace() != "penstock" {
				t.Errorf("%s in namespace %q", a.GetResource().Resource, a.GetNamespace())
			}
			r := a.(k8stesting.ListAction).GetListRestrictions()
			asked[a.GetResource().Resource] = r.Labels.String() + "|" + r.Fields.String()
			return true, nil, errors.New("away")
		})
		f := NewFleet(FleetOptions{Client: client, Namespace: "penstock", Service: "dispatcher", StatefulSet: "dispatcher"})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := f.Run(ctx, func(Members) { t.Error("told without having been in step") }); err != nil {
			t.Error(err)
		}
		want := map[string]string{"endpointslices": "kubernetes.io/service-name=dispatcher|", "statefulsets": "|metadata.name=dispatcher"}
		if !reflect.DeepEqual(asked, want) {
			t.Errorf("asked %v, want %v", asked, want)
		}
	})
}
