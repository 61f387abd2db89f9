package kube

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// until watches until an object is as told, without a poll in between.
func until(s *kube.Space, what string, w func(context.Context, metav1.ListOptions) (watch.Interface, error), name string, is func(watch.Event) bool) {
	s.T().Helper()
	ctx, cancel := context.WithTimeout(s.Context(), kube.Patience)
	defer cancel()
	events, err := w(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		s.T().Fatalf("watch %s %s: %v", what, name, err)
	}
	defer events.Stop()
	for {
		select {
		case e, open := <-events.ResultChan():
			if !open {
				s.T().Fatalf("the watch of %s %s ended", what, name)
			}
			if is(e) {
				return
			}
		case <-ctx.Done():
			s.T().Fatalf("%s %s did not become Ready in %v", what, name, kube.Patience)
		}
	}
}

// TestAnEventPostedTheMomentATriggerIsReadyIsDelivered: Ready means that every
// dispatcher has it, whichever the event meets.
func TestAnEventPostedTheMomentATriggerIsReadyIsDelivered(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	sink := s.Receiver("sink")
	rounds, each := 30, 9
	if quick() {
		rounds = 10
	}
	var took []time.Duration
	for n := range rounds {
		name := fmt.Sprintf("trigger-%d", n)
		var all []probe.Send
		var ids []string
		for range each {
			e := kube.Small(name)
			ids = append(ids, e.ID())
			all = append(all, kube.Binary(url, e))
		}
		begun := time.Now()
		s.Trigger(name, "default", sink.Ref(), kube.Attributes("type", name))
		until(s, "Trigger", s.Eventing.EventingV1().Triggers(s.Name).Watch, name, func(e watch.Event) bool {
			tr, ok := e.Object.(*eventingv1.Trigger)
			return ok && tr.Status.IsReady() && tr.Status.ObservedGeneration == tr.Generation
		})
		took = append(took, time.Since(begun))
		for _, a := range s.Send(all...) {
			if a.Status != http.StatusAccepted {
				t.Fatalf("round %d: status %d %s %s", n, a.Status, a.Body, a.Error)
			}
		}
		for _, id := range ids {
			sink.Await(id, 1)
		}
	}
	slices.Sort(took)
	t.Logf("%d rounds of %d events; made to Ready: median %v, longest %v", rounds, each, took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// TestABrokerThatIsReadyAcceptsAtOnce: at every ingress.
func TestABrokerThatIsReadyAcceptsAtOnce(t *testing.T) {
	t.Parallel()
	s := space(t)
	rounds := 10
	if quick() {
		rounds = 5
	}
	for n := range rounds {
		name := fmt.Sprintf("broker-%d", n)
		s.Broker(name)
		var url string
		until(s, "Broker", s.Eventing.EventingV1().Brokers(s.Name).Watch, name, func(e watch.Event) bool {
			b, ok := e.Object.(*eventingv1.Broker)
			if ok {
				url = kube.Address(b)
			}
			return ok && b.IsReady()
		})
		var all []probe.Send
		for range 6 {
			all = append(all, kube.Binary(url, kube.Small("first")))
		}
		for i, a := range s.Send(all...) {
			if a.Status != http.StatusAccepted {
				t.Errorf("round %d, event %d after Ready: status %d %s %s", n, i, a.Status, a.Body, a.Error)
			}
		}
	}
}

// TestABrokerMadeAgainUnderItsNameIsANewOne: what was stored for the one
// before is not the new one's. A Trigger that outlives its Broker may still get
// what was pending for it; one that is new gets nothing from before.
func TestABrokerMadeAgainUnderItsNameIsANewOne(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default", kube.BrokerDelivers(kube.Delivery(nil, 100))))
	sink, fresh := s.Receiver("sink"), s.Receiver("fresh")
	s.ReadyTrigger("trigger", "default", sink.Ref())
	settled, pending := kube.Small("settled"), kube.Small("pending")
	s.Post(http.StatusAccepted, kube.Binary(url, settled))
	sink.Await(settled.ID(), 1)
	sink.Set(probe.Mood{Steps: []probe.Step{{Status: http.StatusServiceUnavailable}}})
	s.Post(http.StatusAccepted, kube.Binary(url, pending))
	sink.Await(pending.ID(), 1)

	brokers := s.Eventing.EventingV1().Brokers(s.Name)
	if err := brokers.Delete(s.Context(), "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.AwaitTriggerThat("trigger", "is not Ready without a Broker", func(tr *eventingv1.Trigger) bool { return !tr.Status.IsReady() })
	gone := kube.Binary(url, kube.Small("gone"))
	gone.Until = http.StatusNotFound
	if a := s.Send(gone)[0]; a.Status != http.StatusNotFound {
		t.Errorf("an event for a Broker that is gone: status %d, want 404", a.Status)
	}
	s.ReadyBroker("default")
	s.AwaitTrigger("trigger")
	s.ReadyTrigger("fresh", "default", fresh.Ref())
	sink.Set(probe.Mood{})
	e := kube.Small("new")
	s.Post(http.StatusAccepted, kube.Binary(url, e))
	sink.Await(e.ID(), 1)
	fresh.Await(e.ID(), 1)
	s.Quiet(3 * time.Second)
	if n := len(kube.With(sink.Got(), settled.ID())); n != 1 {
		t.Errorf("an event that was delivered under the Broker before came %d times", n)
	}
	for _, req := range fresh.Got() {
		if req.ID != e.ID() {
			t.Errorf("a Trigger of the new Broker was sent %s, which was stored for the one before", req.ID)
		}
	}
	all := kube.With(sink.Got(), pending.ID())
	t.Logf("what was pending at the deletion was answered %d in the end", all[len(all)-1].Status)
}
