package kube

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
)

// TestATriggerMovesFromOneNamespacesBrokerToAnothers: spec.brokerRef may change
// on a living Trigger. After Ready events come from the new Broker only.
func TestATriggerMovesFromOneNamespacesBrokerToAnothers(t *testing.T) {
	here, there := space(t), space(t)
	here.SetFlag("cross-namespace-event-links", "enabled")
	at := func(s *kube.Space) func(*eventingv1.Trigger) {
		return func(tr *eventingv1.Trigger) {
			tr.Spec.Broker = ""
			tr.Spec.BrokerRef = &duckv1.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Name: "default", Namespace: s.Name}
		}
	}
	near, far := kube.Address(here.ReadyBroker("default")), kube.Address(there.ReadyBroker("default"))
	sink := here.Receiver("sink")
	here.Eventually("the webhook takes brokerRef", kube.Patience, func() (bool, string) {
		_, err := here.Eventing.EventingV1().Triggers(here.Name).Create(here.Context(), here.NewTrigger("trigger", "", sink.Ref(), at(there)), metav1.CreateOptions{})
		return err == nil, fmt.Sprint(err)
	})
	here.AwaitTrigger("trigger")
	e := kube.Small("far")
	here.Post(http.StatusAccepted, kube.Binary(far, e))
	got := sink.Exactly(e.ID(), 1)[0]
	if ns := kube.Header(got, "Kn-Namespace"); ns != here.Name {
		t.Errorf("header Kn-Namespace is %q, want the Trigger's %q", ns, here.Name)
	}
	if err := here.ChangeTrigger("trigger", at(here)); err != nil {
		t.Fatal(err)
	}
	here.AwaitTrigger("trigger")
	from, to := kube.Small("far"), kube.Small("near")
	here.Post(http.StatusAccepted, kube.Binary(far, from))
	here.Post(http.StatusAccepted, kube.Binary(near, to))
	sink.Await(to.ID(), 1)
	here.Quiet(2 * time.Second)
	if len(kube.With(sink.Got(), from.ID())) > 0 {
		t.Error("an event of the Broker that the Trigger left was delivered")
	}
}

// TestATriggerAcrossNamespacesWaitsForTheFlag.
func TestATriggerAcrossNamespacesWaitsForTheFlag(t *testing.T) {
	here, there := space(t), space(t)
	there.ReadyBroker("default")
	sink := here.Receiver("sink")
	tr := here.NewTrigger("trigger", "", sink.Ref(), func(tr *eventingv1.Trigger) {
		tr.Spec.BrokerRef = &duckv1.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Name: "default", Namespace: there.Name}
	})
	_, err := here.Eventing.EventingV1().Triggers(here.Name).Create(here.Context(), tr, metav1.CreateOptions{})
	if err != nil {
		if here.Webhook {
			t.Logf("refused by Knative's webhook: %v", err)
			return
		}
		t.Fatal(err)
	}
	here.AwaitTriggerThat("trigger", "says that the flag is off", func(tr *eventingv1.Trigger) bool {
		return kube.IsFalse(tr.Status.Status, "BrokerReady") && !tr.Status.IsReady()
	})
}
