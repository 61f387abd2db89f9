package pods

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/penstock-events/penstock/pkg/loaded"
)

func aSlice(name string, family discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "penstock-system", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "penstock-dispatcher"}},
		AddressType: family, Endpoints: endpoints,
	}
}

func anEndpoint(pod, address string, ready, serving, terminating *bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{
		Addresses:  []string{address},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Name: pod},
		Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving, Terminating: terminating},
	}
}

func TestPodsThatServeAreThoseThatTakeEvents(t *testing.T) {
	yes, no := new(bool), new(bool)
	*yes = true
	for name, c := range map[string]struct {
		e    discoveryv1.Endpoint
		want bool
	}{
		"nothing is said":                    {anEndpoint("a", "10.0.0.1", nil, nil, nil), true},
		"ready":                              {anEndpoint("a", "10.0.0.1", yes, yes, no), true},
		"not ready":                          {anEndpoint("a", "10.0.0.1", no, nil, nil), false},
		"published though it does not serve": {anEndpoint("a", "10.0.0.1", yes, no, no), false},
		"it stops":                           {anEndpoint("a", "10.0.0.1", no, yes, yes), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := of([]any{aSlice("s", discoveryv1.AddressTypeIPv4, c.e)}, 8088)
			if len(got) != 1 || got[0] != (loaded.Pod{Name: "a", Address: "10.0.0.1:8088", Serving: c.want}) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestAPodOfTwoFamiliesIsAskedOnce(t *testing.T) {
	four := aSlice("4", discoveryv1.AddressTypeIPv4, anEndpoint("a", "10.0.0.1", nil, nil, nil), discoveryv1.Endpoint{})
	six := aSlice("6", discoveryv1.AddressTypeIPv6, anEndpoint("a", "fd00::1", nil, nil, nil), anEndpoint("b", "fd00::2", nil, nil, nil))
	want := []loaded.Pod{{Name: "a", Address: "10.0.0.1:8088", Serving: true}, {Name: "b", Address: "[fd00::2]:8088", Serving: true}}
	for _, order := range [][]any{{four, six}, {six, four}} {
		if got := of(order, 8088); !slices.Equal(got, want) {
			t.Errorf("%+v", got)
		}
	}
}

func TestPodsAreFollowedUntilTheEnd(t *testing.T) {
	client := fake.NewClientset()
	ctx, stop := context.WithCancel(t.Context())
	news := make(chan []loaded.Pod, 10)
	done := make(chan error)
	go func() {
		done <- Run(ctx, Options{Client: client, Namespace: "penstock-system", Service: "penstock-dispatcher", Port: 8088}, func(pods []loaded.Pod) { news <- pods })
	}()
	hear := func(want ...string) {
		t.Helper()
		select {
		case pods := <-news:
			var names []string
			for _, p := range pods {
				names = append(names, p.Name)
			}
			if !slices.Equal(names, want) {
				t.Fatalf("pods %v, want %v", names, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no news")
		}
	}
	hear() // nobody yet
	slices := client.DiscoveryV1().EndpointSlices("penstock-system")
	s := aSlice("s", discoveryv1.AddressTypeIPv4, anEndpoint("a", "10.0.0.1", nil, nil, nil))
	if _, err := slices.Create(ctx, s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	hear("a")
	s = s.DeepCopy()
	s.Annotations = map[string]string{"of": "no interest"}
	slices.Update(ctx, s, metav1.UpdateOptions{})
	s = s.DeepCopy()
	s.Endpoints = append(s.Endpoints, anEndpoint("b", "10.0.0.2", nil, nil, nil))
	slices.Update(ctx, s, metav1.UpdateOptions{})
	hear("a", "b")
	slices.Delete(ctx, "s", metav1.DeleteOptions{})
	hear()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
