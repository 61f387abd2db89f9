// Package pods follows the pods behind a Service, for the controller to ask
// each what it has loaded. It reads EndpointSlices, and while the API server
// is away the last pods stay.
package pods

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/penstock-events/penstock/pkg/loaded"
)

// Options say which pods to follow. All are needed.
type Options struct {
	Client    kubernetes.Interface
	Namespace string
	Service   string
	Port      int // where each shows what it has loaded, whether the Service names it or not
}

// Run calls changed with the pods whenever they are others than before, from
// its own goroutine, for the first time when all are known. It returns nil
// when ctx ends, after all it started has ended.
func Run(ctx context.Context, o Options, changed func([]loaded.Pod)) error {
	factory := informers.NewSharedInformerFactoryWithOptions(o.Client, 0,
		informers.WithNamespace(o.Namespace),
		informers.WithTweakListOptions(func(list *metav1.ListOptions) {
			list.LabelSelector = discoveryv1.LabelServiceName + "=" + o.Service
		}))
	slices := factory.Discovery().V1().EndpointSlices().Informer()
	news := make(chan struct{}, 1)
	tell := func(any) {
		select {
		case news <- struct{}{}:
		default: // one is on its way
		}
	}
	if _, err := slices.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, now any) { tell(now) }, DeleteFunc: tell,
	}); err != nil {
		return fmt.Errorf("follow pods of Service %s/%s: %w", o.Namespace, o.Service, err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), slices.HasSynced) {
		return nil
	}
	tell(nil)
	var last []loaded.Pod
	for first := true; ; first = false {
		select {
		case <-ctx.Done():
			return nil
		case <-news:
		}
		if pods := of(slices.GetStore().List(), o.Port); first || !reflect.DeepEqual(pods, last) {
			changed(pods)
			last = pods
		}
	}
}

// of lists the pods of some EndpointSlices by name. A pod with addresses of
// both families is asked at its IPv4 address. One that stops is not waited
// for: no new events come to it.
func of(all []any, port int) []loaded.Pod {
	type found struct {
		loaded.Pod
		family discoveryv1.AddressType
	}
	byName := make(map[string]found)
	for _, obj := range all {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			continue
		}
		for _, e := range slice.Endpoints {
			if len(e.Addresses) == 0 {
				continue
			}
			name := e.Addresses[0]
			if e.TargetRef != nil && e.TargetRef.Name != "" {
				name = e.TargetRef.Name
			}
			if old, twice := byName[name]; twice && old.family <= slice.AddressType {
				continue
			}
			byName[name] = found{loaded.Pod{
				Name:    name,
				Address: net.JoinHostPort(e.Addresses[0], strconv.Itoa(port)),
				Serving: serves(e.Conditions),
			}, slice.AddressType}
		}
	}
	pods := make([]loaded.Pod, 0, len(byName))
	for _, f := range byName {
		pods = append(pods, f.Pod)
	}
	slices.SortFunc(pods, func(a, b loaded.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return pods
}

// serves reads the conditions of an endpoint. Ready alone says nothing where a
// Service publishes addresses that are not; unknown means yes.
func serves(c discoveryv1.EndpointConditions) bool {
	is := func(b *bool, unknown bool) bool {
		if b == nil {
			return unknown
		}
		return *b
	}
	return is(c.Serving, is(c.Ready, true)) && !is(c.Terminating, false)
}
