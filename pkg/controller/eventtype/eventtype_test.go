package eventtype

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrs "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	clientgotesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/eventing/v1beta3"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/eventing/pkg/client/clientset/versioned/fake"
	knative "knative.dev/pkg/controller"
	"knative.dev/pkg/reconciler"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// bench is a Reconciler with one Broker and one Trigger, and what it has made.
type bench struct {
	*Reconciler
	t       *testing.T
	flags   cache.Indexer
	fake    *fake.Clientset
	queue   []types.NamespacedName
	now     time.Time
	fail    error // what the API server answers
	creates int
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, fake: fake.NewSimpleClientset(), now: time.Unix(1e9, 0)}
	b.flags = cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	b.switchTo("enabled")
	brokers, triggers := cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexers()), cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexers())
	brokers.Add(aBroker("orders", config.BrokerClass))
	brokers.Add(aBroker("foreign", "MTChannelBasedBroker"))
	triggers.Add(aTrigger())
	b.Reconciler = newReconciler(brokers, triggers, controller.NewFlags(corev1listers.NewConfigMapLister(b.flags), "knative-eventing"))
	b.client, b.limit, b.PromoteFunc = b.fake, rate.NewLimiter(rate.Inf, 1), b.promote
	b.Reconciler.now = func() time.Time { return b.now }
	b.enqueue = func(key types.NamespacedName) { b.queue = append(b.queue, key) }
	b.fake.PrependReactor("create", "eventtypes", func(clientgotesting.Action) (bool, runtime.Object, error) {
		b.creates++
		return b.fail != nil, nil, b.fail
	})
	b.lead()
	return b
}

func (b *bench) lead() {
	b.Promote(reconciler.UniversalBucket(), func(_ reconciler.Bucket, key types.NamespacedName) { b.enqueue(key) })
}

func (b *bench) switchTo(value string) {
	b.flags.Add(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "knative-eventing", Name: "config-features"}, Data: map[string]string{feature.EvenTypeAutoCreate: value}})
}

// work empties the queue.
func (b *bench) work() (err error) {
	for _, key := range b.queue {
		err = errors.Join(err, b.Reconcile(b.t.Context(), key.String()))
	}
	b.queue = nil
	return err
}

func (b *bench) made() (names []string) {
	b.t.Helper()
	list, err := b.fake.EventingV1beta3().EventTypes("").List(b.t.Context(), metav1.ListOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, et := range list.Items {
		names = append(names, et.Namespace+"/"+et.Name)
	}
	slices.Sort(names)
	return names
}

func aBroker(name, class string) *eventingv1.Broker {
	return &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{config.ClassAnnotation: class}}}
}

func aTrigger() *eventingv1.Trigger {
	return &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "till", Name: "bill", UID: "uid-bill"}, Spec: eventingv1.TriggerSpec{Broker: "orders"}}
}

func paid() loaded.Type {
	return loaded.Type{Broker: "uid-orders", Type: "com.example.paid", Source: "/till", Schema: "http://schema.example/paid", SpecVersion: "1.0"}
}

func TestATypeThatPassesGetsTheEventTypeThatKnativeWouldMake(t *testing.T) {
	b := newBench(t)
	b.Report([]loaded.Type{paid()})
	if err := b.work(); err != nil {
		t.Fatal(err)
	}
	et, err := b.fake.EventingV1beta3().EventTypes("shop").Get(t.Context(), "et-orders-9c62c9aa1d7899369b65060c29d20023", metav1.GetOptions{})
	if err != nil {
		t.Fatalf("%v; there are %v", err, b.made())
	}
	if owner := et.OwnerReferences[0]; owner.Kind != "Broker" || owner.UID != "uid-orders" || owner.APIVersion != "eventing.knative.dev/v1" {
		t.Errorf("owner %+v", owner)
	}
	if ref := et.Spec.Reference; ref.Kind != "Broker" || ref.Name != "orders" || ref.Namespace != "shop" {
		t.Errorf("reference %+v", ref)
	}
	want := []v1beta3.EventAttributeDefinition{
		{Name: "type", Value: "com.example.paid", Required: true}, {Name: "source", Value: "/till", Required: true},
		{Name: "schemadata", Value: "http://schema.example/paid", Required: true}, {Name: "specversion", Value: "1.0", Required: true}, {Name: "id", Required: true},
	}
	if !slices.Equal(et.Spec.Attributes, want) {
		t.Errorf("attributes %+v", et.Spec.Attributes)
	}
}

// Known answers of Knative's own rule.
func TestNamesAreKnatives(t *testing.T) {
	o := &metav1.ObjectMeta{Namespace: "default", Name: "example"}
	if got := nameOf(o, loaded.Type{Type: "events.type", Source: "events.source"}); got != "et-example-eaed2996d719048dfae11b607d68b7ad" {
		t.Error(got)
	}
}

func TestTheTypeOfAReplyBelongsToItsTrigger(t *testing.T) {
	b := newBench(t)
	reply := paid()
	reply.Trigger = kube.TriggerUID(aTrigger())
	b.Report([]loaded.Type{reply})
	b.work()
	list, _ := b.fake.EventingV1beta3().EventTypes("till").List(t.Context(), metav1.ListOptions{})
	if len(list.Items) != 1 || list.Items[0].OwnerReferences[0].UID != "uid-bill" || list.Items[0].Spec.Reference.Kind != "Trigger" {
		t.Errorf("%+v", list.Items)
	}
}

func TestATypeIsMadeOnceAndLookedForAgainAfterAWhile(t *testing.T) {
	b := newBench(t)
	for range 3 {
		b.Report([]loaded.Type{paid(), paid()})
		b.work()
	}
	if b.creates != 1 {
		t.Errorf("%d requests", b.creates)
	}
	b.now = b.now.Add(seenFor)
	b.Report([]loaded.Type{paid()})
	if err := b.work(); err != nil || b.creates != 2 || len(b.made()) != 1 {
		t.Errorf("%v, %d requests, %v", err, b.creates, b.made())
	}
}

func TestNothingIsMadeWithoutTheFlagOrForOtherClasses(t *testing.T) {
	b := newBench(t)
	foreign, unknown := paid(), paid()
	foreign.Broker, unknown.Broker = "uid-foreign", "uid-nobody"
	b.Report([]loaded.Type{foreign, unknown})
	b.switchTo("disabled")
	b.Report([]loaded.Type{paid()})
	if b.work(); b.creates != 0 || b.waiting != 0 {
		t.Errorf("%d requests, %d wait", b.creates, b.waiting)
	}
	// Reported while it was on, and then it goes off.
	b.switchTo("enabled")
	b.Report([]loaded.Type{paid()})
	b.switchTo("disabled")
	if b.work(); b.creates != 0 || b.waiting != 0 {
		t.Errorf("then %d requests, %d wait", b.creates, b.waiting)
	}
}

func TestOnlyTheLeaderWrites(t *testing.T) {
	b := newBench(t)
	b.Demote(reconciler.UniversalBucket())
	b.Report([]loaded.Type{paid()})
	if err := b.work(); !knative.IsSkipKey(err) && b.creates != 0 {
		t.Errorf("%v, %d requests", err, b.creates)
	}
	b.lead()
	if err := b.work(); err != nil || len(b.made()) != 1 {
		t.Errorf("%v, %v", err, b.made())
	}
}

func TestAFailureIsTriedAgainAndARefusalIsNot(t *testing.T) {
	b := newBench(t)
	b.fail = apierrs.NewServiceUnavailable("not now")
	b.Report([]loaded.Type{paid()})
	if err := b.work(); err == nil || b.waiting != 1 {
		t.Errorf("%v, %d wait", err, b.waiting)
	}
	b.fail = apierrs.NewForbidden(v1beta3.Resource("eventtypes"), "", nil)
	b.queue = []types.NamespacedName{{Namespace: "shop", Name: "orders"}}
	if err := b.work(); err != nil || b.waiting != 0 || b.creates != 2 {
		t.Errorf("%v, %d wait, %d requests", err, b.waiting, b.creates)
	}
}

func TestABrokerGetsSoManyAndNoMore(t *testing.T) {
	b := newBench(t)
	var all []loaded.Type
	for i := range maxPerBroker + 20 {
		one := paid()
		one.Type = fmt.Sprintf("com.example.%d", i)
		all = append(all, one)
	}
	b.Report(all)
	if err := b.work(); err != nil || b.creates != maxPerBroker || b.waiting != 0 {
		t.Errorf("%v, %d requests, %d wait", err, b.creates, b.waiting)
	}
}

func TestWhatWaitsIsBounded(t *testing.T) {
	b := newBench(t)
	long := paid()
	long.Type = string(make([]byte, maxText+1))
	b.Report([]loaded.Type{long})
	for i := range maxPending + 10 {
		one := paid()
		one.Type = fmt.Sprintf("com.example.%d", i)
		b.Report([]loaded.Type{one})
	}
	if b.waiting != maxPending {
		t.Errorf("%d wait", b.waiting)
	}
}
