package kube

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// FleetOptions name the pods to follow. All but Logger are needed.
type FleetOptions struct {
	Client      kubernetes.Interface
	Namespace   string
	Service     string // headless, of the StatefulSet's pods
	Port        string // name of a port of the Service
	StatefulSet string
	Logger      *slog.Logger // nil is silent
}

// Members are the pods of a StatefulSet as its Service shows them.
type Members struct {
	// Declared is how many replicas the StatefulSet asks for; 0 where there never
	// was one. While it is deleted and made again it is what it was.
	Declared int
	Pods     []Pod // by ordinal
}

// Pod is one of them.
type Pod struct {
	Name    string
	Ordinal int    // what its name ends with
	Address string // host:port

	Ready       bool // passes its readiness probe and does not stop
	Serving     bool // passes its readiness probe, also while it stops
	Terminating bool
}

// Fleet follows the pods of one StatefulSet: who there is to be, who serves and
// where. It needs to list and watch EndpointSlices with the label
// kubernetes.io/service-name, and the StatefulSet with its name, both in the
// one namespace.
type Fleet struct {
	o       FleetOptions
	touched chan struct{} // holds one token while there is a change
	last    *Members
}

// NewFleet makes a Fleet. It asks nobody yet.
func NewFleet(o FleetOptions) *Fleet {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Fleet{o: o, touched: make(chan struct{}, 1)}
}

// Run calls changed with the members whenever they are others than before, from
// its own goroutine and never twice at once, for the first time when both
// caches have come into step. While the API server is away the last ones stay.
// It returns nil when ctx ends, after all it started has ended. It is called
// once.
func (f *Fleet) Run(ctx context.Context, changed func(Members)) error {
	ofService := f.factory(func(o *metav1.ListOptions) {
		o.LabelSelector = labels.Set{discoveryv1.LabelServiceName: f.o.Service}.String()
	})
	ofName := f.factory(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", f.o.StatefulSet).String()
	})
	endpoints, sets := ofService.Discovery().V1().EndpointSlices(), ofName.Apps().V1().StatefulSets()
	var synced []cache.InformerSynced
	for kind, informer := range map[string]cache.SharedIndexInformer{"EndpointSlice": endpoints.Informer(), "StatefulSet": sets.Informer()} {
		_ = informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { f.failed(kind, err) })
		registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { f.touch() },
			UpdateFunc: func(any, any) { f.touch() },
			DeleteFunc: func(any) { f.touch() },
		})
		if err != nil {
			return fmt.Errorf("watch pods of %s/%s: %w", f.o.Namespace, f.o.StatefulSet, err)
		}
		synced = append(synced, registration.HasSynced)
	}

	ctx, cancel := context.WithCancel(ctx)
	for _, factory := range []informers.SharedInformerFactory{ofService, ofName} {
		factory.Start(ctx.Done())
		defer factory.Shutdown() // waits for the informers
	}
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), synced...) {
		return nil
	}
	for {
		all, err := endpoints.Lister().EndpointSlices(f.o.Namespace).List(labels.Everything())
		if err != nil {
			return fmt.Errorf("watch pods of %s/%s: %w", f.o.Namespace, f.o.StatefulSet, err)
		}
		set, err := sets.Lister().StatefulSets(f.o.Namespace).Get(f.o.StatefulSet)
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("watch pods of %s/%s: %w", f.o.Namespace, f.o.StatefulSet, err)
		}
		if now := f.members(set, all); f.last == nil || !now.equal(*f.last) {
			f.last = &now
			changed(now)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.touched:
		}
	}
}

func (f *Fleet) factory(tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(f.o.Client, 0, informers.WithNamespace(f.o.Namespace),
		informers.WithTweakListOptions(tweak), informers.WithTransform(func(obj any) (any, error) {
			if o, err := meta.Accessor(obj); err == nil {
				o.SetManagedFields(nil)
			}
			return obj, nil
		}))
}

func (f *Fleet) failed(kind string, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	f.o.Logger.Warn("the Kubernetes API cannot be watched, the pods known stay", "kind", kind, "error", err)
}

func (f *Fleet) touch() {
	select {
	case f.touched <- struct{}{}:
	default:
	}
}

// members joins what the StatefulSet declares and what the slices show.
func (f *Fleet) members(set *appsv1.StatefulSet, all []*discoveryv1.EndpointSlice) Members {
	m := Members{Pods: f.pods(all)}
	switch {
	case set != nil && set.Spec.Replicas != nil:
		m.Declared = int(*set.Spec.Replicas)
	case set != nil:
		m.Declared = 1 // Kubernetes' own default
	case f.last != nil:
		m.Declared = f.last.Declared
	}
	return m
}

func (m Members) equal(other Members) bool {
	return m.Declared == other.Declared && slices.Equal(m.Pods, other.Pods)
}
