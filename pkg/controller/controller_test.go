package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/channel"
)

func aConfigMap(name string, data map[string]string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "knative-eventing", Name: name}, Data: data}
}

func TestFlagsAreKnativesDefaultsUntilThereAreSome(t *testing.T) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	flags := NewFlags(corev1listers.NewConfigMapLister(store), "knative-eventing")
	check := func(crossNamespace bool) {
		t.Helper()
		if got := flags.Load(); got.IsCrossNamespaceEventLinks() != crossNamespace || !got.IsEnabled(feature.DeliveryTimeout) {
			t.Errorf("flags %v, want cross-namespace %v", got, crossNamespace)
		}
	}
	check(false)
	store.Add(aConfigMap("config-features", map[string]string{feature.CrossNamespaceEventLinks: "enabled"}))
	check(true)
	store.Update(aConfigMap("config-features", map[string]string{feature.CrossNamespaceEventLinks: "disabled"}))
	check(false)
	store.Update(aConfigMap("config-features", map[string]string{feature.CrossNamespaceEventLinks: "Enabled"}))
	check(true)
	store.Delete(aConfigMap("config-features", nil))
	check(false)
}

func TestFlagsConcernTwoConfigMapsOfOneNamespace(t *testing.T) {
	flags := NewFlags(corev1listers.NewConfigMapLister(cache.NewIndexer(cache.MetaNamespaceKeyFunc, nil)), "knative-eventing")
	elsewhere := aConfigMap("config-features", nil)
	elsewhere.Namespace = "shop"
	for _, c := range []struct {
		obj  any
		want bool
	}{
		{aConfigMap("config-features", nil), true},
		{aConfigMap("config-kreference-mapping", nil), true},
		{cache.DeletedFinalStateUnknown{Obj: aConfigMap("config-features", nil)}, true},
		{aConfigMap("config-other", nil), false},
		{elsewhere, false},
		{&corev1.Secret{}, false},
	} {
		if got := flags.Concerns(c.obj); got != c.want {
			t.Errorf("%T %v: %v", c.obj, c.obj, got)
		}
	}
}

func TestReferencesAreMappedWhereTheFlagIsOn(t *testing.T) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	flags := NewFlags(corev1listers.NewConfigMapLister(store), "knative-eventing")
	store.Add(aConfigMap("config-kreference-mapping", map[string]string{
		"Pod.v1":               "http://{{.Name}}.{{.Namespace}}.pods",
		"Wrong.v1":             "{{.Nobody",
		"Empty.v1.example.com": "nothing",
	}))
	ask := func(kind, version string) (bool, string) {
		handled, url, err := flags.Map(flags.ToContext(t.Context()), &corev1.ObjectReference{Kind: kind, APIVersion: version, Namespace: "shop", Name: "a"})
		if err != nil {
			return handled, err.Error()
		}
		return handled, url.String()
	}
	if handled, _ := ask("Pod", "v1"); handled {
		t.Error("mapped without the flag")
	}
	store.Add(aConfigMap("config-features", map[string]string{feature.KReferenceMapping: "enabled"}))
	if handled, url := ask("Pod", "v1"); !handled || url != "http://a.shop.pods" {
		t.Errorf("%v %s", handled, url)
	}
	if handled, _ := ask("Wrong", "v1"); handled {
		t.Error("a template that does not parse is none")
	}
	if handled, why := ask("Empty", "example.com/v1"); !handled || !strings.Contains(why, "does not give a URL") {
		t.Errorf("%v %s", handled, why)
	}
}

func TestInformersKeepWhatIsRead(t *testing.T) {
	many := map[string]string{"_example": "x", "channel-template-spec": "y", "rate": strings.Repeat("1", 5000)}
	for i := range 200 {
		many[fmt.Sprintf("z%03d", i)] = "v"
	}
	cm := aConfigMap("settings", many)
	cm.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
	cm.BinaryData = map[string][]byte{"image": make([]byte, 1<<20)}
	got, err := Slim(cm)
	if err != nil {
		t.Fatal(err)
	}
	kept := got.(*corev1.ConfigMap)
	if len(kept.Data) != maxSettings || len(kept.Data["rate"]) != maxSettingBytes+3 || kept.Data["_example"] != "" || kept.BinaryData != nil || kept.ManagedFields != nil {
		t.Errorf("%d keys, rate of %d bytes: %v", len(kept.Data), len(kept.Data["rate"]), kept)
	}

	tr := &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{
		ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubectl"}},
		Annotations:   map[string]string{corev1.LastAppliedConfigAnnotation: "{}", eventingv1.DependencyAnnotation: "{}"},
	}}
	if Slim(tr); tr.ManagedFields != nil || len(tr.Annotations) != 1 {
		t.Errorf("%+v", tr)
	}
	if got, err := Slim(cache.DeletedFinalStateUnknown{Key: "a/b"}); err != nil || got.(cache.DeletedFinalStateUnknown).Key != "a/b" {
		t.Errorf("%v %v", got, err)
	}
}

func TestTriggersAreFoundByTheBrokerThatTheyName(t *testing.T) {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, TriggerIndexers())
	named := func(name string, spec eventingv1.TriggerSpec) *eventingv1.Trigger {
		return &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: spec}
	}
	store.Add(named("a", eventingv1.TriggerSpec{Broker: "orders"}))
	store.Add(named("b", eventingv1.TriggerSpec{BrokerRef: &duckv1.KReference{Name: "orders"}}))
	store.Add(named("c", eventingv1.TriggerSpec{BrokerRef: &duckv1.KReference{Name: "orders", Namespace: "hub"}}))
	store.Add(named("d", eventingv1.TriggerSpec{Broker: "other"}))
	of := func(namespace, name string) (names []string) {
		for _, tr := range TriggersOf(store, types.NamespacedName{Namespace: namespace, Name: name}) {
			names = append(names, tr.Name)
		}
		slices.Sort(names)
		return names
	}
	if got := of("shop", "orders"); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("at home: %v", got)
	}
	if got := of("hub", "orders"); !slices.Equal(got, []string{"c"}) {
		t.Errorf("abroad: %v", got)
	}
}

func TestWhoWaitsIsWokenByWhatItWaitsFor(t *testing.T) {
	var w Waiting
	var news News
	var woken []string
	news.Wake(&w, func(key types.NamespacedName) { woken = append(woken, key.Name) })
	tell := func(uids ...channel.UID) []string {
		woken = nil
		news.Tell(uids)
		slices.Sort(woken)
		return woken
	}
	w.For(types.NamespacedName{Name: "a"}, "1", "broker")
	w.For(types.NamespacedName{Name: "b"}, "2", "broker")
	for _, c := range []struct {
		uids []channel.UID
		want []string
	}{
		{[]channel.UID{"1"}, []string{"a"}},
		{[]channel.UID{"broker"}, []string{"a", "b"}},
		{[]channel.UID{"3"}, nil},
		{nil, []string{"a", "b"}},
	} {
		if got := tell(c.uids...); !slices.Equal(got, c.want) {
			t.Errorf("%v wakes %v, want %v", c.uids, got, c.want)
		}
	}
	w.Done(types.NamespacedName{Name: "a"})
	if got := tell(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("then %v", got)
	}
}

func TestAConditionNamesAFewPods(t *testing.T) {
	if got := NotLoadedBy([]string{"a: why", "b", "c", "d"}); got != "not loaded everywhere yet: a: why, b, c and 1 more" {
		t.Error(got)
	}
}

func TestValuesOfKeysThatAreNoSettingsAreNotShown(t *testing.T) {
	got, known := (&Judge{}).Public(map[string]string{"rate": "nonsense", "password": "secret", "colour": "key"})
	if got["rate"] != "nonsense" || got["password"] != "" || got["colour"] != "" || len(got) != 3 || !known {
		t.Errorf("%v %v", got, known)
	}
	if _, known := (&Judge{}).Public(map[string]string{"bootstrap.servers": "kafka"}); known {
		t.Error("a key of another class is not known")
	}
}
