package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

func TestABrokerAndItsTriggersAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orders := trigger("shop", "orders", "t1", "default")
		c := start(t, Options{}, broker("shop", "default", "b1"), orders)
		defer c.stop()
		s := c.last()
		b, ok := s.Broker("shop", "default")
		if !ok || !b.Ready || b.UID != "b1" {
			t.Fatalf("broker %+v", b)
		}
		tr, ok := s.Trigger("shop", "orders")
		if !ok || !tr.Ready || tr.Subscriber != "http://orders.shop" || tr.UID != TriggerUID(orders) {
			t.Fatalf("trigger %+v", tr)
		}
		if tr.Version != TriggerVersion(orders) {
			t.Errorf("version %q, want %q", tr.Version, TriggerVersion(orders))
		}
		c.create(trigger("shop", "bills", "t2", "default"))
		if n := len(c.last().TriggersOf("shop", "default")); n != 2 {
			t.Errorf("%d triggers after another was made, want 2", n)
		}
		if err := c.source.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
	})
}

func TestAnEmptyClusterIsASnapshotToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{})
		defer c.stop()
		if n := len(c.last().Brokers()); n != 0 || c.source.Ready() != nil {
			t.Errorf("%d brokers, ready: %v", n, c.source.Ready())
		}
	})
}

// An ingress has no use for Triggers but to know which Brokers keep an order.
func TestWithBrokersOnlyTriggersCountThatOrderByKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ordered := trigger("shop", "audit", "t2", "orders")
		ordered.Annotations = map[string]string{config.OrderAnnotation: config.OrderKey}
		c := start(t, Options{BrokersOnly: true}, broker("shop", "default", "b1"), broker("shop", "orders", "b2"),
			trigger("shop", "billing", "t1", "default"), ordered)
		defer c.stop()
		s := c.last()
		if len(s.Brokers()) != 2 || len(s.Triggers()) != 1 || s.Triggers()[0].Name != "audit" {
			t.Fatalf("brokers %v, triggers %v", s.Brokers(), s.Triggers())
		}
		for name, want := range map[string]channel.Keying{"default": 0, "orders": channel.KeySubject} {
			if b, _ := s.Broker("shop", name); b.Keying() != want {
				t.Errorf("broker %s homes by %d, want %d", name, b.Keying(), want)
			}
		}
	})
}

func TestOtherClassesAreIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := broker("shop", "kafka", "b2")
		other.Annotations[config.ClassAnnotation] = "Kafka"
		bare := broker("shop", "bare", "b3")
		bare.Annotations = nil
		c := start(t, Options{}, broker("shop", "default", "b1"), other, bare,
			trigger("shop", "theirs", "t1", "kafka"), trigger("shop", "nobodys", "t2", "missing"))
		defer c.stop()
		if s := c.last(); len(s.Brokers()) != 1 || len(s.Triggers()) != 0 || len(s.Problems()) != 0 {
			t.Errorf("brokers %v triggers %v problems %v", s.Brokers(), s.Triggers(), s.Problems())
		}
		before := c.count()
		c.create(trigger("shop", "theirs-too", "t3", "kafka"))
		if c.count() != before {
			t.Error("a Trigger of another class made a new snapshot")
		}
		c.create(broker("shop", "missing", "b4"))
		if _, ok := c.last().Trigger("shop", "nobodys"); !ok {
			t.Error("a Trigger was not found when its Broker came")
		}
	})
}

// The controller writes conditions all the time. They are no news.
func TestConditionsAreNoNewSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, tr := broker("shop", "default", "b1"), trigger("shop", "orders", "t1", "default")
		c := start(t, Options{}, b, tr)
		defer c.stop()
		tr.Status.Conditions = duckv1.Conditions{{Type: "Ready", Status: "True"}}
		tr.Labels = map[string]string{"a": "b"}
		tr.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "{}"}
		c.update(tr)
		if c.count() != 1 {
			t.Errorf("%d snapshots, want 1", c.count())
		}
		tr.Status.SubscriberURI = apis.HTTP("new.shop")
		c.update(tr)
		if got, _ := c.last().Trigger("shop", "orders"); got.Subscriber != "http://new.shop" {
			t.Errorf("subscriber %q after it moved", got.Subscriber)
		}
		tr.Status.SubscriberURI = nil
		c.update(tr)
		if got, _ := c.last().Trigger("shop", "orders"); got.Ready || got.Reason != config.ReasonSubscriberNotResolved {
			t.Errorf("%v %q after its subscriber went", got.Ready, got.Reason)
		}
	})
}

func TestADeletedTriggerIsRemovedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := trigger("shop", "orders", "t1", "default")
		c := start(t, Options{}, broker("shop", "default", "b1"), tr)
		defer c.stop()
		c.delete(tr)
		if got := c.removed(); !slices.Equal(got, []channel.UID{TriggerUID(tr)}) {
			t.Fatalf("removed %v", got)
		}
		if r := c.last().Removed()[0]; r.Kind != config.KindTrigger || r.Name != "orders" || r.Broker != "default" {
			t.Errorf("removed %+v", r)
		}
		// Who comes back alive must not be cancelled.
		c.create(tr)
		if got := c.removed(); got != nil {
			t.Errorf("removed %v after it came back", got)
		}
		// The list does not grow for ever.
		c.delete(tr)
		time.Sleep(removedFor + time.Second)
		c.create(trigger("shop", "bills", "t2", "default"))
		if got := c.removed(); got != nil {
			t.Errorf("removed %v long after", got)
		}
	})
}

func TestATriggerThatMovesIsAnotherLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := trigger("shop", "orders", "t1", "")
		tr.Spec.BrokerRef = &duckv1.KReference{Kind: "Broker", Name: "one"}
		c := start(t, Options{}, broker("shop", "one", "b1"), broker("shop", "two", "b2"), tr)
		defer c.stop()
		first := TriggerUID(tr)
		tr = tr.DeepCopy()
		tr.Spec.BrokerRef.Name, tr.Generation = "two", 2
		c.update(tr)
		if got := c.removed(); !slices.Equal(got, []channel.UID{first}) {
			t.Errorf("removed %v, want the lane at its first Broker", got)
		}
		if got := c.last().TriggersOf("shop", "two"); len(got) != 1 || got[0].UID == first {
			t.Errorf("triggers of the second Broker: %v", got)
		}
		tr = tr.DeepCopy()
		tr.Spec.BrokerRef.Name, tr.Generation = "one", 3
		c.update(tr)
		if got := c.removed(); len(got) != 1 || got[0] == first {
			t.Errorf("removed %v after it went back, want the lane at the second Broker alone", got)
		}
	})
}

func TestABrokerThatIsGoneIsHeldAndThenRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, tr := broker("shop", "default", "b1"), trigger("shop", "orders", "t1", "default")
		c := start(t, Options{}, b, tr)
		defer c.stop()
		c.delete(b)
		gone := time.Now()
		s := c.last()
		if _, ok := s.Broker("shop", "default"); ok {
			t.Error("a Broker that is gone is served")
		}
		if len(s.HeldBrokers()) != 1 || len(s.Removed()) != 0 {
			t.Fatalf("held %v, removed %v", s.HeldBrokers(), s.Removed())
		}
		if got, ok := s.Trigger("shop", "orders"); !ok || got.Ready || got.Reason != config.ReasonBrokerDoesNotExist || got.Filter == nil {
			t.Errorf("its trigger: %+v", got)
		}
		time.Sleep(DefaultGrace - time.Since(gone) - 3*time.Second)
		if got := c.removed(); got != nil {
			t.Errorf("removed %v within the grace", got)
		}
		time.Sleep(5 * time.Second)
		if got := c.removed(); !slices.Equal(got, []channel.UID{"b1"}) {
			t.Errorf("removed %v after the grace, want the Broker", got)
		}
		if s := c.last(); len(s.HeldBrokers()) != 0 || len(s.Triggers()) != 0 {
			t.Errorf("held %v triggers %v after the grace", s.HeldBrokers(), s.Triggers())
		}
	})
}

// An API server that was restored from a backup shows nothing for a while, and
// then the same objects again.
func TestARestoredAPIServerCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, tr, bills := broker("shop", "default", "b1"), trigger("shop", "orders", "t1", "default"), trigger("shop", "bills", "t2", "default")
		c := start(t, Options{}, b, tr, bills)
		defer c.stop()
		for _, o := range []runtime.Object{b, tr, bills} {
			c.delete(o)
		}
		if got := c.removed(); got != nil {
			t.Fatalf("removed %v though their Broker is gone too", got)
		}
		if held := c.last().Triggers(); len(held) != 2 || !held[0].Held || held[0].Filter == nil {
			t.Errorf("triggers %v, want both held", held)
		}
		time.Sleep(time.Minute)
		c.create(b)
		if got := c.removed(); got != nil {
			t.Fatalf("removed %v when the Broker was back and they were not yet", got)
		}
		c.create(tr)
		s := c.last()
		if got, ok := s.Trigger("shop", "orders"); !ok || !got.Ready || len(s.Removed()) != 0 {
			t.Errorf("trigger %+v removed %v after all came back", got, s.Removed())
		}
		// The one that did not come back ends with its own grace.
		time.Sleep(DefaultGrace)
		if got := c.removed(); !slices.Equal(got, []channel.UID{TriggerUID(bills)}) {
			t.Errorf("removed %v, want the Trigger that stayed away", got)
		}
	})
}

func TestARecreatedBrokerIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, tr := broker("shop", "default", "b1"), trigger("shop", "orders", "t1", "default")
		c := start(t, Options{}, b, tr)
		defer c.stop()
		c.delete(b)
		c.create(broker("shop", "default", "b2"))
		s := c.last()
		if live, ok := s.Broker("shop", "default"); !ok || live.UID != "b2" || len(s.HeldBrokers()) != 1 {
			t.Errorf("live %+v held %v", live, s.HeldBrokers())
		}
		if got, _ := s.Trigger("shop", "orders"); !got.Ready {
			t.Errorf("trigger %+v", got)
		}
		time.Sleep(DefaultGrace)
		if got := c.removed(); !slices.Equal(got, []channel.UID{"b1"}) {
			t.Errorf("removed %v, want the first Broker", got)
		}
	})
}

func TestWhatIsStoredAndNotDeclaredGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := trigger("shop", "orders", "t1", "default")
		c := start(t, Options{Stored: func() []Stored {
			return []Stored{
				{Broker: "b1", Name: "shop/default", Triggers: []channel.UID{TriggerUID(tr), "gone.1"}},
				{Broker: "b9", Name: "shop/old", Triggers: []channel.UID{"gone.2"}},
				{Broker: "b8", Name: "shop/back", Triggers: []channel.UID{"gone.3"}},
			}
		}}, broker("shop", "default", "b1"), tr)
		defer c.stop()
		if got := c.removed(); !slices.Equal(got, []channel.UID{"gone.1"}) {
			t.Errorf("removed %v at the start, want the trigger of the live Broker", got)
		}
		if got := c.last().HeldBrokers(); len(got) != 0 {
			t.Errorf("held %v: nothing is known that it could be opened with", got)
		}
		time.Sleep(time.Minute)
		c.create(broker("shop", "back", "b8"))
		time.Sleep(DefaultGrace)
		c.create(trigger("shop", "any", "t5", "default")) // and the list is another
		if got := c.removed(); !slices.Equal(got, []channel.UID{"gone.1", "b9", "gone.3"}) && !slices.Equal(got, []channel.UID{"gone.1", "gone.3", "b9"}) {
			t.Errorf("removed %v after the grace", got)
		}
	})
}

// A cache that is not in step says nothing about what is gone.
func TestWithoutTheAPIServerNothingIsRemovedAndNothingBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, client: newFake(), done: make(chan error, 1)}
		var away atomic.Bool
		away.Store(true)
		c.client.PrependReactor("list", "triggers", func(k8stesting.Action) (bool, runtime.Object, error) {
			if away.Load() {
				return true, nil, errors.New("connection refused")
			}
			return false, nil, nil
		})
		c.follow(Options{Stored: func() []Stored { return []Stored{{Broker: "b1", Name: "shop/default"}} }})
		time.Sleep(time.Hour)
		if c.count() != 0 {
			t.Fatal("a snapshot without Triggers was applied")
		}
		if c.source.Ready() == nil {
			t.Error("ready without having seen Triggers")
		}
		away.Store(false)
		time.Sleep(2 * time.Minute)
		if got := c.removed(); got != nil {
			t.Errorf("removed %v: the grace counts from when the cache is in step", got)
		}
		c.stop()
	})
}

// The bad object is not ready and says why; the others run.
func TestABadObjectHarmsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := trigger("shop", "bad", "t1", "default")
		bad.Spec.Filters = []eventingv1.SubscriptionsAPIFilter{{CESQL: "1 +"}}
		unknown := trigger("shop", "unknown", "t2", "default")
		unknown.Annotations = map[string]string{"penstock.dev/no-such": "1"}
		odd := trigger("shop", "odd", "t3", "default")
		odd.Spec.Subscriber.URI = &apis.URL{Scheme: "bad", Host: "uri"}
		odd.Status.SubscriberURI = odd.Spec.Subscriber.URI
		password := trigger("shop", "password", "t4", "default")
		u, _ := apis.ParseURL("http://me:secret@host/")
		password.Spec.Subscriber.URI, password.Status.SubscriberURI = u, u
		c := start(t, Options{}, broker("shop", "default", "b1"), bad, unknown, odd, password, trigger("shop", "good", "t5", "default"))
		defer c.stop()
		for name, want := range map[string]string{
			"bad": config.ReasonFilterInvalid, "unknown": config.ReasonUnsupportedAnnotation, "odd": "", "good": "",
			"password": config.ReasonSubscriberInvalid,
		} {
			tr, ok := c.last().Trigger("shop", name)
			if !ok || tr.Reason != want || tr.Ready != (want == "") {
				t.Errorf("%s: %+v, want reason %q", name, tr, want)
			}
			if ok && strings.Contains(tr.Message, "secret") {
				t.Errorf("%s: its message repeats the password", name)
			}
		}
	})
}

// What comes while a snapshot is being applied goes into the next, together.
func TestChangesAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{}, broker("shop", "default", "b1"))
		defer c.stop()
		c.block = make(chan struct{})
		for i := range 50 {
			if err := c.client.Tracker().Add(trigger("shop", fmt.Sprint("t-", i), fmt.Sprint("u-", i), "default")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Millisecond)
		}
		close(c.block)
		c.settle()
		if n := c.count(); n != 3 {
			t.Errorf("%d snapshots, want 3: the first, one under way, and one for all the others", n)
		}
		if n := len(c.last().Triggers()); n != 50 {
			t.Errorf("%d triggers, want 50", n)
		}
	})
}

func TestAnEndedContextEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{Client: newFake()})
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Run(ctx, func(*config.Snapshot) { t.Error("applied") }); err != nil {
			t.Error(err)
		}
		if err := New(Options{}).Run(ctx, nil); err == nil {
			t.Error("a Source without a client ran")
		}
	})
}
