// Package eventtype makes an EventType for each type of event that passes a
// Broker, while Knative's flag eventtype-auto-create is on, under the names
// that Knative's own ingress gives them.
//
// What the data plane reports is a hint: it may be lost, since it is reported
// again, and it may come twice. Producers decide what types there are, so all
// is bounded: how many wait, how many are made in a second, and how many one
// Broker gets. Only the leader writes.
package eventtype

import (
	"context"
	"crypto/md5" //nolint:gosec // part of a name that Knative has chosen
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
	apierrs "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
	"knative.dev/eventing/pkg/apis/eventing/v1beta3"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/client/clientset/versioned"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/logging"
	"knative.dev/pkg/reconciler"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/controller"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// Bounds. Beyond them a report is forgotten: the same type will be reported
// again, or has been made already.
const (
	maxPending   = 10_000 // reports that wait
	maxSeen      = 20_000 // types remembered as made
	maxPerBroker = 1_000  // EventTypes that one Broker gets in the life of this process
	maxText      = 4 << 10
	perSecond    = 10
	burst        = 50

	// seenFor is how long nobody looks whether an EventType is still there.
	seenFor = 10 * time.Minute
)

// Reconciler makes EventTypes. Its key is the Broker.
type Reconciler struct {
	reconciler.LeaderAwareFuncs

	brokers, triggers cache.Indexer // by uid
	client            versioned.Interface
	flags             *controller.Flags
	limit             *rate.Limiter
	now               func() time.Time
	enqueue           func(types.NamespacedName)

	mu      sync.Mutex
	pending map[types.NamespacedName]map[loaded.Type]struct{}
	waiting int // reports in pending
	seen    map[loaded.Type]time.Time
	made    map[channel.UID]int // EventTypes of a Broker
}

// Report takes what a pod has seen. It does not wait.
func (r *Reconciler) Report(seen []loaded.Type) {
	if !r.flags.Load().IsEnabled(feature.EvenTypeAutoCreate) {
		return
	}
	for _, t := range seen {
		if len(t.Type) > maxText || len(t.Source) > maxText || len(t.Schema) > maxText {
			continue
		}
		b, ok := byUID(r.brokers, t.Broker)
		if !ok {
			continue
		}
		key := types.NamespacedName{Namespace: b.GetNamespace(), Name: b.GetName()}
		if r.remember(key, t) {
			r.enqueue(key)
		}
	}
}

// remember puts a report among those that wait, if it is news and there is room.
func (r *Reconciler) remember(key types.NamespacedName, t loaded.Type) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, known := r.seen[t]; known && r.now().Sub(at) < seenFor {
		return false
	}
	if _, waits := r.pending[key][t]; waits || r.waiting >= maxPending {
		return false
	}
	if r.pending[key] == nil {
		r.pending[key] = make(map[loaded.Type]struct{})
	}
	r.pending[key][t] = struct{}{}
	r.waiting++
	return true
}

// Reconcile makes the EventTypes that wait for one Broker.
func (r *Reconciler) Reconcile(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil {
		return nil // not one of ours
	}
	broker := types.NamespacedName{Namespace: namespace, Name: name}
	if !r.IsLeaderFor(broker) {
		return knative.NewSkipKey(key)
	}
	for {
		t, ok := r.next(broker)
		if !ok {
			return nil
		}
		if !r.flags.Load().IsEnabled(feature.EvenTypeAutoCreate) {
			r.done(broker, t, false)
			continue
		}
		if err := r.limit.Wait(ctx); err != nil {
			return nil // we stop
		}
		made, err := r.create(ctx, t)
		switch {
		case err == nil:
			r.done(broker, t, made)
		case apierrs.IsForbidden(err), apierrs.IsInvalid(err), apierrs.IsBadRequest(err), apierrs.IsNotFound(err):
			// Another attempt would end the same; the next report may not.
			logging.FromContext(ctx).Warnw("an EventType was refused", "broker", key, "error", err)
			r.done(broker, t, false)
		default:
			return fmt.Errorf("create an EventType for Broker %s: %w", key, err)
		}
	}
}

// create makes the EventType of one report; made is false where it needs none.
// The object that it refers to owns it, so that it goes with it.
func (r *Reconciler) create(ctx context.Context, t loaded.Type) (made bool, err error) {
	of, kind, uid := r.brokers, "Broker", t.Broker
	if t.Trigger != "" {
		of, kind, uid = r.triggers, "Trigger", t.Trigger
	}
	owner, ok := byUID(of, uid)
	if !ok || !r.room(ctx, t.Broker) {
		return false, nil
	}
	_, err = r.client.EventingV1beta3().EventTypes(owner.GetNamespace()).Create(ctx, eventType(owner, kind, t), metav1.CreateOptions{})
	if apierrs.IsAlreadyExists(err) {
		return false, nil
	}
	return err == nil, err
}

// room reports whether a Broker may have one more, and says so once when not.
func (r *Reconciler) room(ctx context.Context, broker channel.UID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.made[broker] < maxPerBroker {
		return true
	}
	if r.made[broker] == maxPerBroker {
		r.made[broker]++
		logging.FromContext(ctx).Warnw("a Broker has seen too many types of events: no more EventTypes are made for it until the controller starts again",
			"uid", string(broker), "limit", maxPerBroker)
	}
	return false
}

func (r *Reconciler) next(broker types.NamespacedName) (loaded.Type, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.pending[broker] {
		return t, true
	}
	return loaded.Type{}, false
}

// done takes a report off those that wait and remembers it.
func (r *Reconciler) done(broker types.NamespacedName, t loaded.Type, made bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, waits := r.pending[broker][t]; waits {
		delete(r.pending[broker], t)
		r.waiting--
	}
	if len(r.pending[broker]) == 0 {
		delete(r.pending, broker)
	}
	if len(r.seen) >= maxSeen {
		clear(r.seen) // each costs one request that finds it there
	}
	r.seen[t] = r.now()
	if made {
		r.made[t.Broker]++
	}
}

// promote enqueues what has been reported while another was the leader.
func (r *Reconciler) promote(b reconciler.Bucket, enqueue func(reconciler.Bucket, types.NamespacedName)) error {
	r.mu.Lock()
	var keys []types.NamespacedName
	for key := range r.pending {
		keys = append(keys, key)
	}
	r.mu.Unlock()
	for _, key := range keys {
		enqueue(b, key)
	}
	return nil
}

// eventType is what Knative's ingress would make of the same event.
func eventType(owner metav1.Object, kind string, t loaded.Type) *v1beta3.EventType {
	source, _ := apis.ParseURL(t.Source)
	schema, _ := apis.ParseURL(t.Schema)
	version := "eventing.knative.dev/v1"
	return &v1beta3.EventType{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       owner.GetNamespace(),
			Name:            nameOf(owner, t),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: owner.GetName(), UID: owner.GetUID()}},
		},
		Spec: v1beta3.EventTypeSpec{
			Reference:   &duckv1.KReference{APIVersion: version, Kind: kind, Namespace: owner.GetNamespace(), Name: owner.GetName()},
			Description: "made by Penstock when it saw the first such event",
			Attributes: []v1beta3.EventAttributeDefinition{
				{Name: "type", Value: t.Type, Required: true},
				{Name: "source", Value: source.String(), Required: true},
				{Name: "schemadata", Value: schema.String(), Required: true},
				{Name: "specversion", Value: t.SpecVersion, Required: true},
				{Name: "id", Required: true},
			},
		},
	}
}

// nameOf is Knative's rule, so that a Broker that changes its class keeps its
// EventTypes.
func nameOf(owner metav1.Object, t loaded.Type) string {
	sum := md5.Sum([]byte(t.Type + t.Source + owner.GetNamespace() + owner.GetName())) //nolint:gosec // no secret
	return fmt.Sprintf("et-%s-%x", owner.GetName(), sum)
}
