package controller

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrs "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/client/injection/ducks/duck/v1/addressable"
	fakedynamicclient "knative.dev/pkg/injection/clients/dynamicclient/fake"
	"knative.dev/pkg/tracker"

	"k8s.io/apimachinery/pkg/runtime"
)

// groups is an API server that has these.
type groups []metav1.APIGroup

func (g groups) ServerGroups() (*metav1.APIGroupList, error) {
	if g == nil {
		return nil, errors.New("away")
	}
	return &metav1.APIGroupList{Groups: g}, nil
}

// aResolver has one Service, shop/biller.
func aResolver(t *testing.T, g groups) (*Resolver, context.Context) {
	scheme := runtime.NewScheme()
	corev1.AddToScheme(scheme)
	service := &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "biller"}}
	ctx, _ := fakedynamicclient.With(t.Context(), scheme, service)
	ctx = addressable.WithDuck(ctx)
	flags := NewFlags(corev1listers.NewConfigMapLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})), "knative-eventing")
	return NewResolver(ctx, tracker.New(func(types.NamespacedName) {}, 0), flags, g), ctx
}

func aParent() *eventingv1.Trigger {
	return &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "bill"}}
}

func TestAPasswordIsRefusedAndNotRepeated(t *testing.T) {
	r, ctx := aResolver(t, nil)
	url, err := apis.ParseURL("http://me:secret@a.example/")
	if err != nil {
		t.Fatal(err)
	}
	_, why := r.Resolve(ctx, duckv1.Destination{URI: url}, aParent())
	if why == nil || !why.Invalid || strings.Contains(why.Message, "secret") || why.Again {
		t.Errorf("%+v", why)
	}
}

func TestAReferenceMayGiveItsGroupAlone(t *testing.T) {
	d := duckv1.Destination{Ref: &duckv1.KReference{Kind: "Service", Name: "biller", Group: "serving.knative.dev"}}
	on := func(ctx context.Context) context.Context {
		flags, _ := feature.NewFlagsConfigFromMap(map[string]string{feature.KReferenceGroup: "enabled"})
		return feature.ToContext(ctx, flags)
	}
	r, ctx := aResolver(t, groups{})
	if _, why := r.Resolve(on(ctx), d, aParent()); why == nil || !why.Again || !strings.Contains(why.Message, `no API group "serving.knative.dev"`) {
		t.Errorf("%+v", why)
	}
	r, ctx = aResolver(t, nil)
	if _, why := r.Resolve(on(ctx), d, aParent()); why == nil || !why.Again || !strings.Contains(why.Message, "away") {
		t.Errorf("%+v", why)
	}
	// A group that prefers the version of the core one, to have a kind to find.
	r, ctx = aResolver(t, groups{{Name: "serving.knative.dev", PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: "v1"}}})
	if found, why := r.Resolve(on(ctx), d, aParent()); why != nil || found.URL.String() != "http://biller.shop.svc.cluster.local" {
		t.Errorf("%+v %+v", found, why)
	}
	if d.Ref.APIVersion != "" || d.Ref.Namespace != "" {
		t.Errorf("the declaration was changed: %v", d.Ref)
	}
}

func TestWhyADestinationIsNotFoundIsSaidForPeople(t *testing.T) {
	var d duckv1.Destination
	resource := schema.GroupResource{Group: "serving.knative.dev", Resource: "services"}
	for want, c := range map[string]struct {
		err   error
		again bool
	}{
		"Service shop/fn does not exist: create it, or name another":                                                             {apierrs.NewNotFound(resource, "fn"), false},
		"Service shop/fn: there is no kind Service in serving.knative.dev/v1 here: install it, or name another":                  {apierrs.NewGenericServerResponse(404, "list", resource, "", "", 0, true), true},
		"Service shop/fn: the controller may not read it: label a ClusterRole that permits it duck.knative.dev/addressable=true": {apierrs.NewForbidden(resource, "", nil), true},
		"Service shop/fn: address not set: wait until it is ready, or look at its status":                                        {apierrs.NewBadRequest("address not set"), false},
		"Secret shop/fn is nothing that takes events: name a Service, or another addressable":                                    {apierrs.NewForbidden(resource, "", nil), true},
		"Service shop/fn: out of luck": {errors.New("out of luck"), true},
	} {
		if strings.Contains(want, "Secret") {
			d.Ref = &duckv1.KReference{APIVersion: "v1", Kind: "Secret", Namespace: "shop", Name: "fn"}
		} else {
			d.Ref = &duckv1.KReference{APIVersion: "serving.knative.dev/v1", Kind: "Service", Namespace: "shop", Name: "fn"}
		}
		if why := explain(d, c.err); why.Message != want || why.Again != c.again || why.Invalid {
			t.Errorf("%v: %+v, want %s", c.err, why, want)
		}
	}
}
