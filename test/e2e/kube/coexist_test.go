package kube

import (
	"net/http"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
)

// TestTwoClassesDoNotTouchEachOther: Brokers of Knative's class and of ours in
// one namespace. While the objects of one are changed, those of the other keep
// their resourceVersion: nobody wrote to them.
func TestTwoClassesDoNotTouchEachOther(t *testing.T) {
	s := space(t)
	if !s.HasReference {
		t.Skip("Knative's broker class is not installed")
	}
	of := func(class string) func(*eventingv1.Broker) {
		return func(b *eventingv1.Broker) { b.Annotations[eventingv1.BrokerClassAnnotationKey] = class }
	}
	classes := map[string]string{"ours": kube.DefaultClass, "theirs": kube.Reference}
	sinks := make(map[string]*kube.Receiver)
	for name, class := range classes {
		s.ReadyBroker(name, of(class))
		sinks[name] = s.Receiver(name)
		s.ReadyTrigger(name, name, sinks[name].Ref())
	}
	versions := func(name string) string {
		return s.GetBroker(name).ResourceVersion + " " + s.GetTrigger(name).ResourceVersion
	}
	still := func(name string) { // Knative's controllers write again and again after Ready
		last, since := versions(name), time.Now()
		s.Eventually(name+" are left alone for 5 s", kube.Patience, func() (bool, string) {
			if now := versions(name); now != last {
				last, since = now, time.Now()
			}
			return time.Since(since) > 5*time.Second, last
		})
	}
	for changed, other := range map[string]string{"ours": "theirs", "theirs": "ours"} {
		still(other)
		before := versions(other)
		if err := s.ChangeBroker(changed, kube.BrokerDelivers(kube.Delivery(nil, 7))); err != nil {
			t.Fatal(err)
		}
		if err := s.ChangeTrigger(changed, kube.Delivers(kube.Backoff(kube.Delivery(nil, 7), eventingduck.BackoffPolicyLinear, "PT1S"))); err != nil {
			t.Fatal(err)
		}
		s.AwaitBroker(changed)
		s.AwaitTrigger(changed)
		if changed == "ours" {
			s.Kill(kube.Controller, 1, -1) // which reads everything again
			s.Rolled(kube.Controller)
		}
		s.Quiet(5 * time.Second)
		if after := versions(other); after != before {
			t.Errorf("while %s was changed, somebody wrote to %s: versions %s, were %s", changed, other, after, before)
		}
	}
	for name := range classes {
		if f := strings.Join(s.GetBroker(name).Finalizers, " "); name == "theirs" && strings.Contains(f, "penstock") {
			t.Errorf("a finalizer of ours on a Broker of theirs: %s", f)
		}
		e := kube.Small(name)
		m := kube.Binary(kube.Address(s.GetBroker(name)), e)
		s.Post(http.StatusAccepted, m)
		sinks[name].Await(e.ID(), 1)
	}
	// The door of ours does not lead to theirs.
	url := kube.Address(s.GetBroker("ours"))
	url = url[:len(url)-len("ours")] + "theirs"
	if a := s.Send(kube.Binary(url, kube.Small("any")))[0]; a.Status != http.StatusNotFound {
		t.Errorf("our ingress answers %d for a Broker of another class, want 404", a.Status)
	}
}

// TestATriggerOfNoBrokerIsToldSo.
func TestATriggerOfNoBrokerIsToldSo(t *testing.T) {
	t.Parallel()
	s := space(t)
	sink := s.Receiver("sink")
	tr := s.Trigger("orphan", "nobody", sink.Ref())
	s.AwaitTriggerThat("orphan", "says that there is no Broker", func(tr *eventingv1.Trigger) bool {
		return kube.IsFalse(tr.Status.Status, "Ready")
	})
	if got := s.GetTrigger("orphan").Finalizers; len(got) > len(tr.Finalizers) {
		t.Errorf("finalizers on a Trigger of no Broker: %v", got)
	}
	if err := s.Eventing.EventingV1().Triggers(s.Name).Delete(s.Context(), "orphan", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
