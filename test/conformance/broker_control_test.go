package conformance

import (
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
)

var otherConfig = eventingv1.BrokerSpec{Config: &duckv1.KReference{
	Kind: "kind", Namespace: "namespace", Name: "name", APIVersion: "apiversion",
}}

func controlPlaneBroker(t *testing.T) {
	s := kube.New(t)
	dead := s.Receiver("dead")
	s.ReadyBroker("default", kube.BrokerDelivers(kube.Delivery(dead, -1)))
	f := in(t, s, "Broker")

	f.should("Broker objects SHOULD include a Ready condition in their status", func(s *kube.Space) {
		b := s.GetBroker("default")
		if kube.Condition(b.Status.Status, "Ready") == nil || b.Status.ObservedGeneration != b.Generation {
			s.T().Errorf("generation %d, seen %d%s", b.Generation, b.Status.ObservedGeneration, kube.Conditions(b.Status.Status))
		}
	})
	f.should("The Broker SHOULD indicate Ready=True when its ingress is available to receive events.", func(s *kube.Space) {
		b := s.ReadyBroker("another")
		if a := s.Send(kube.Binary(kube.Address(b), kube.Small("first")))[0]; a.Status != http.StatusAccepted {
			s.T().Errorf("the first event after Ready: status %d %s %s", a.Status, a.Body, a.Error)
		}
	})
	f.should("While a Broker is Ready, it SHOULD be a valid Addressable and its `status.address.url` field SHOULD indicate the address of its ingress.", func(s *kube.Space) {
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(s.GetBroker("default")), kube.Small("sometype")))
	})
	f.admission().must("The class of a Broker object MUST be immutable.", func(s *kube.Space) {
		err := s.ChangeBroker("default", func(b *eventingv1.Broker) {
			b.Annotations[eventingv1.BrokerClassAnnotationKey] = "Rekt.brokerClassIsImmutable"
		})
		if err == nil {
			s.T().Error("the class was changed")
		}
	})
	f.should("Set the Broker status.deadLetterSinkURI if there is a valid spec.delivery.deadLetterSink defined", func(s *kube.Space) {
		got := s.GetBroker("default").Status.DeadLetterSinkURI
		if got == nil || got.String() != dead.URL() {
			s.T().Errorf("status.deadLetterSinkUri is %v, want %s", got, dead.URL())
		}
	})
	f.admission().must("Broker config MUST be immutable.", func(s *kube.Space) {
		s.ReadyBroker("copy")
		if err := s.ChangeBroker("copy", func(b *eventingv1.Broker) { b.Spec = otherConfig }); err == nil {
			s.T().Error("spec.config was changed")
		}
	})
}

func controlPlaneTrigger(t *testing.T) {
	s := kube.New(t)
	s.ReadyBroker("default")
	sub := s.Receiver("sub")
	s.Trigger("trigger", "default", sub.Ref())
	f := in(t, s, "Trigger, Given Broker")

	f.should("Triggers SHOULD include a Ready condition in their status.", func(s *kube.Space) {
		s.AwaitTriggerThat("trigger", "has a condition Ready", func(tr *eventingv1.Trigger) bool {
			return kube.Condition(tr.Status.Status, "Ready") != nil && tr.Status.ObservedGeneration == tr.Generation
		})
	})
	f.should("The Trigger SHOULD indicate Ready=True when events can be delivered to its subscriber.", func(s *kube.Space) {
		s.AwaitTrigger("trigger")
		e := kube.Small("first")
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(s.GetBroker("default")), e))
		sub.Await(e.ID(), 1)
	})
	f.must("Triggers MUST be assigned to exactly one Broker.", func(s *kube.Space) {
		if got := s.GetTrigger("trigger").Spec.Broker; got != "default" {
			s.T().Errorf("spec.broker is %q", got)
		}
	})
	f.admission().must("The assigned Broker of a Trigger SHOULD be immutable.", func(s *kube.Space) {
		if err := s.ChangeTrigger("trigger", func(tr *eventingv1.Trigger) { tr.Spec.Broker = "rekt" }); err == nil {
			s.T().Error("spec.broker was changed")
		}
	})
	f.should("While a Trigger is Ready, it SHOULD indicate its subscriber's URI via the `status.subscriberUri` field.", func(s *kube.Space) {
		if got := s.AwaitTrigger("trigger").Status.SubscriberURI; got == nil || got.String() != sub.URL() {
			s.T().Errorf("status.subscriberUri is %v, want %s", got, sub.URL())
		}
	})
}

func controlPlaneLifecycle(t *testing.T) {
	s := kube.New(t)
	sub := s.Receiver("sub")
	s.Trigger("trigger", "later", sub.Ref())
	f := in(t, s, "Trigger, With Broker Lifecycle")
	f.may("A Trigger MAY be created before its assigned Broker exists.", func(s *kube.Space) {
		if s.GetTrigger("trigger").Status.IsReady() {
			s.T().Error("Ready without a Broker")
		}
	})
	f.should("A Trigger SHOULD progress to Ready when its assigned Broker exists and is Ready.", func(s *kube.Space) {
		b := s.ReadyBroker("later")
		s.AwaitTrigger("trigger")
		e := kube.Small("first")
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(b), e))
		sub.Await(e.ID(), 1)
	})
	f.must("When the Broker goes, its Triggers MUST become Ready=False or Unknown.", func(s *kube.Space) {
		if err := s.Eventing.EventingV1().Brokers(s.Name).Delete(s.Context(), "later", metav1.DeleteOptions{}); err != nil {
			s.T().Fatal(err)
		}
		s.AwaitTriggerThat("trigger", "is not Ready", func(tr *eventingv1.Trigger) bool { return !tr.Status.IsReady() })
	})
}

func controlPlaneFilters(t *testing.T) {
	s := kube.New(t)
	s.ReadyBroker("default")
	sub := s.Receiver("sub")
	f := in(t, s, "Trigger, With Filters")
	valid := map[string]string{
		"source": "a source", "id": "an id", "specversion": "the spec version", "type": "the type", "subject": "a subject",
		"time": "a time", "datacontenttype": "a datacontenttype", "dataschema": "a dataschema",
		"aaa": "bbb", "c1d2e3": "123", "abcdefghijklmnopqrst": "max length",
	}
	f.must("The attributes filter specifying a list of key-value pairs MUST be supported by Trigger.", func(s *kube.Space) {
		s.ReadyTrigger("valid", "default", sub.Ref(), func(tr *eventingv1.Trigger) { tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: valid} })
		got := s.GetTrigger("valid").Spec.Filter.Attributes
		for name, value := range valid {
			if got[name] != value {
				s.T().Errorf("filter %s is %q, want %q", name, got[name], value)
			}
		}
	})
	s.ReadyTrigger("trigger", "default", sub.Ref())
	f = in(t, s, "Trigger, With Filters, Negatives")
	for name, why := range map[string]string{
		"SOURCE": "not lower case letters, all", "Source": "not lower case letters, first", "souRce": "not lower case letters, not first",
		"s pace s": "no spaces", "s_pace_s": "no underscores", "s-pace-s": "no dashes", "123": "just numbers",
		"😊": "unicode not supported", "!@#$%^&*()-_=_`~+\\": "other non-(a-z,0-9) type chars, top row",
		"{}[];':\"<>,./?": "other non-(a-z,0-9) type chars, brackets",
	} {
		f.admission().must("Reject invalid filter - "+name+" - "+why, func(s *kube.Space) {
			err := s.ChangeTrigger("trigger", func(tr *eventingv1.Trigger) {
				tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: map[string]string{name: why}}
			})
			if err == nil {
				s.T().Error("the filter was taken")
			}
		})
	}
}
