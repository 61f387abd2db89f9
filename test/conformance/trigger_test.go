package conformance

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	sourcesv1 "knative.dev/eventing/pkg/apis/sources/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
)

func TestSmoke_Broker(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	for _, name := range smokes {
		in(t, s, "Broker goes ready").must(name, func(s *kube.Space) {
			b := s.ReadyBroker(name)
			s.Post(http.StatusAccepted, kube.Binary(kube.Address(b), kube.Small("smoke")))
		})
	}
}

var smokes = []string{
	"default", "customname", "name-with-dash", "name1with2numbers3",
	"name63-01234567890123456789012345678901234567890123456789012345",
}

func TestSmoke_Trigger(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker-rekt"))
	sink := s.Receiver("sub")
	for _, name := range smokes {
		in(t, s, "Trigger goes ready").must(name, func(s *kube.Space) {
			s.ReadyTrigger(name, "broker-rekt", sink.Ref(), kube.Attributes("type", name))
			e := kube.Small(name)
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			sink.Await(e.ID(), 1)
		})
	}
}

// TestTriggerDependencyAnnotation has a PingSource whose status the test
// writes, so that it needs neither Knative's controller nor a minute.
func TestTriggerDependencyAnnotation(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	sink := s.Receiver("sink")
	s.Trigger("trigger", "broker", sink.Ref(), func(tr *eventingv1.Trigger) {
		tr.Annotations = map[string]string{"knative.dev/dependency": `{"kind":"PingSource","name":"source","apiVersion":"sources.knative.dev/v1"}`}
	})
	f := in(t, s, "Trigger dependency annotation")
	f.must("trigger has DependencyDoesNotExist condition", func(s *kube.Space) {
		s.AwaitTriggerThat("trigger", "is not Ready for want of its dependency", func(tr *eventingv1.Trigger) bool {
			c := kube.Condition(tr.Status.Status, "DependencyReady")
			return c.IsFalse() && c.Reason == "DependencyDoesNotExist" && !tr.Status.IsReady()
		})
	})
	f.must("trigger goes ready when the dependency is", func(s *kube.Space) {
		sources := s.Eventing.SourcesV1().PingSources(s.Name)
		p, err := sources.Create(s.Context(), &sourcesv1.PingSource{
			ObjectMeta: metav1.ObjectMeta{Name: "source"},
			Spec: sourcesv1.PingSourceSpec{
				SourceSpec: duckv1.SourceSpec{Sink: kube.URI(url)},
				Schedule:   "0 0 1 1 *",
			},
		}, metav1.CreateOptions{})
		if err != nil {
			s.T().Fatal(err)
		}
		if s.Webhook { // Knative's controller makes it Ready
			s.AwaitTrigger("trigger")
			return
		}
		p.Status.ObservedGeneration = p.Generation
		p.Status.Conditions = duckv1.Conditions{{Type: apis.ConditionReady, Status: "True"}}
		p.Status.SinkURI = p.Spec.Sink.URI
		if _, err := sources.UpdateStatus(s.Context(), p, metav1.UpdateOptions{}); err != nil {
			s.T().Fatal(err)
		}
		s.AwaitTrigger("trigger")
	})
	f.must("delivers events", func(s *kube.Space) {
		s.AwaitTrigger("trigger")
		e := kube.Small("dependency")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		sink.Await(e.ID(), 1)
	})
}

func TestBrokerTriggerCrossNamespaceReference(t *testing.T) {
	there, here := kube.New(t), kube.New(t)
	here.SetFlag("cross-namespace-event-links", "enabled")
	url := kube.Address(there.ReadyBroker("broker"))
	// Whoever makes the Trigger must be allowed to knsubscribe to the Broker.
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: here.Name + "-crossnamespace-subscriber"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"eventing.knative.dev"}, Resources: []string{"brokers"}, Verbs: []string{"knsubscribe"}}},
	}
	if _, err := here.Kube.RbacV1().ClusterRoles().Create(here.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = here.Kube.RbacV1().ClusterRoles().Delete(here.Context(), role.Name, metav1.DeleteOptions{})
	})
	sink := here.Receiver("subscriber")
	in(t, here, "Cross Namespace Event Links").must("event is received by subscriber", func(s *kube.Space) {
		crossing := func(tr *eventingv1.Trigger) {
			tr.Spec.Broker = ""
			tr.Spec.BrokerRef = &duckv1.KReference{APIVersion: "eventing.knative.dev/v1", Kind: "Broker", Name: "broker", Namespace: there.Name}
		}
		s.Eventually("the webhook takes brokerRef", kube.Patience, func() (bool, string) {
			_, err := s.Eventing.EventingV1().Triggers(s.Name).Create(s.Context(), s.NewTrigger("trigger", "", sink.Ref(), crossing), metav1.CreateOptions{})
			return err == nil, fmt.Sprint(err)
		})
		s.AwaitTrigger("trigger")
		e := kube.Full()
		there.In(s.T()).Post(http.StatusAccepted, kube.Binary(url, e))
		sink.Exactly(e.ID(), 1)
	})
}

func TestBrokerEventTypeAutoCreate(t *testing.T) {
	s := kube.New(t)
	s.SetFlag("eventtype-auto-create", "enabled")
	url := kube.Address(s.ReadyBroker("broker"))
	asks := s.Receiver("asks", transform)
	s.ReadyTrigger("trigger", "broker", asks.Ref(), kube.Attributes("type", "type1"))
	awaits := func(s *kube.Space, typ, kind, name string) {
		s.T().Helper()
		// The flag takes effect some time after it is set, hence again and again.
		s.Eventually("an EventType for "+typ, kube.Patience, func() (bool, string) {
			s.Post(http.StatusAccepted, kube.Binary(url, original()))
			s.Quiet(500 * time.Millisecond)
			all, err := s.Eventing.EventingV1beta3().EventTypes(s.Name).List(s.Context(), metav1.ListOptions{})
			if err != nil {
				return false, err.Error()
			}
			why := fmt.Sprintf("%d EventTypes", len(all.Items))
			for _, et := range all.Items {
				ref := et.Spec.Reference
				why += fmt.Sprintf("; %v of %v", et.Spec.Attributes, ref)
				for _, a := range et.Spec.Attributes {
					if a.Name == "type" && a.Value == typ && ref != nil && ref.Kind == kind && ref.Name == name {
						return true, ""
					}
				}
			}
			return false, why
		})
	}
	in(t, s, "Broker event type auto create").must("an EventType of the Broker is made for what is sent to it", func(s *kube.Space) {
		awaits(s, "type1", "Broker", "broker")
	})
	in(t, s, "Trigger event type auto create").must("an EventType is made for a reply", func(s *kube.Space) {
		s.Eventually("an EventType for the reply", kube.Patience, func() (bool, string) {
			all, err := s.Eventing.EventingV1beta3().EventTypes(s.Name).List(s.Context(), metav1.ListOptions{})
			if err != nil {
				return false, err.Error()
			}
			for _, et := range all.Items {
				for _, a := range et.Spec.Attributes {
					if a.Name == "type" && a.Value == "type2" {
						return true, ""
					}
				}
			}
			return false, fmt.Sprintf("%d EventTypes, none for type2", len(all.Items))
		})
	})
}
