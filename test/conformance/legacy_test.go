package conformance

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// Knative's older conformance tests, on a Broker that exists.

func TestBrokerV1ControlPlane(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	sub := s.Receiver("logger-pod")
	f := in(t, s, "Broker V1 control plane")
	f.must("Trigger V1 can be created before Broker (with attributes filter)", func(s *kube.Space) {
		s.Trigger("trigger-no-broker", "br", sub.Ref(), kube.Attributes("type", "logger", "source", ""))
	})
	f.must("Broker V1 can be created and progresses to Ready", func(s *kube.Space) { s.ReadyBroker("br") })
	f.must("Ready Broker V1 is Addressable", func(s *kube.Space) {
		if got := kube.Address(s.GetBroker("br")); !strings.Contains(got, "/"+s.Name+"/br") {
			s.T().Errorf("the address is %q", got)
		}
	})
	f.admission().must("Ready Broker.Spec.Config is immutable", func(s *kube.Space) {
		if err := s.ChangeBroker("br", func(b *eventingv1.Broker) { b.Spec = otherConfig }); err == nil {
			s.T().Error("spec.config was changed")
		}
	})
	f.must("Trigger V1 with Ready broker progresses to Ready", func(s *kube.Space) {
		s.ReadyTrigger("trigger-with-broker", "br", sub.Ref(), kube.Attributes("type", "logger", "source", ""))
	})
	f.must("Trigger V1 made before the Broker progresses to Ready", func(s *kube.Space) { s.AwaitTrigger("trigger-no-broker") })
	f.admission().must("Ready Trigger V1 (no Broker) set Broker and includes status.subscriber Uri", func(s *kube.Space) {
		err := s.ChangeTrigger("trigger-no-broker", func(tr *eventingv1.Trigger) { tr.Spec.Broker = "brdifferent" })
		if err == nil || !strings.Contains(err.Error(), "Immutable fields changed (-old +new): broker, spec") {
			s.T().Errorf("spec.broker was changed, or refused for another reason: %v", err)
		}
	})
	f.must("Ready Trigger V1 includes status.subscriber Uri", func(s *kube.Space) {
		if s.GetTrigger("trigger-with-broker").Status.SubscriberURI == nil {
			s.T().Error("no status.subscriberUri")
		}
	})
}

func TestBrokerDataPlaneIngress(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("br"))
	sink := s.Receiver("logger-pod")
	s.ReadyTrigger("trigger", "br", sink.Ref(), kube.Attributes("type", "", "source", ""))
	f := in(t, s, "Broker data plane, ingress")
	f.must("Ingress supports OPTIONS", func(s *kube.Space) {
		a := s.Send(probe.Send{URL: url, Method: http.MethodOptions})[0]
		if a.Status != http.StatusOK && a.Status != http.StatusMethodNotAllowed {
			s.T().Errorf("status %d, want 200 or 405", a.Status)
		}
		if allow := http.Header(a.Headers).Get("Allow"); !strings.Contains(allow, http.MethodPost) {
			s.T().Errorf("Allow is %q", allow)
		}
	})
	come := func(send func(string, event.Event) probe.Send, version string) func(*kube.Space) {
		return func(s *kube.Space) {
			e := kube.Small("default")
			e.SetSpecVersion(version)
			s.Post(http.StatusAccepted, send(url, e))
			if got := s.Read(sink.Await(e.ID(), 1)[0]); got.SpecVersion() != version {
				s.T().Errorf("specversion %s came, %s was sent", got.SpecVersion(), version)
			}
		}
	}
	f.must("Ingress Supports CE0.3", come(kube.Structured, event.CloudEventsVersionV03))
	f.must("Ingress Supports CE1.0", come(kube.Structured, event.CloudEventsVersionV1))
	f.must("Ingress Supports Structured Mode", come(kube.Structured, event.CloudEventsVersionV1))
	f.must("Ingress Supports Binary Mode", come(kube.Binary, event.CloudEventsVersionV1))
	f.must("Respond with 2XX on good CE", func(s *kube.Space) {
		s.Post(http.StatusAccepted, kube.Binary(url, kube.Small("default")))
	})
	f.must("Respond with 400 on bad CE", func(s *kube.Space) {
		m := kube.Binary(url, kube.Small("default"))
		m.Headers["ce-specversion"] = "9000.1"
		m.Body = []byte(";la}{kjsdf;oai2095{}{}8234092349807asdfashdf")
		s.Post(http.StatusBadRequest, m)
	})
}

func TestBrokerDataPlaneConsumer(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("br"))
	first, second := s.Receiver("logger-pod"), s.Receiver("second-logger-pod")
	transformer := s.Receiver("transformer-pod", probe.Step{Reply: &probe.Reply{
		Set: map[string]string{"type": "reply-check-type", "source": "reply-check-source"}, Data: `{"msg":"Transformed!"}`,
	}})
	s.ReadyTrigger("trigger", "br", first.Ref(), kube.Attributes("type", "", "source", ""))
	s.ReadyTrigger("second-trigger", "br", second.Ref(), kube.Attributes("source", "filtered-event", "type", ""))
	s.ReadyTrigger("transform-trigger", "br", transformer.Ref(), kube.Attributes("source", "origin-for-reply", "type", "default"))
	s.ReadyTrigger("reply-trigger", "br", first.Ref(), kube.Attributes("source", "reply-check-source", "type", "reply-check-type"))
	f := in(t, s, "Broker data plane, consumer")
	post := func(s *kube.Space, source string) event.Event {
		e := kube.Small("default")
		e.SetSource(source)
		s.Post(http.StatusAccepted, kube.Structured(url, e))
		return e
	}
	f.must("No upgrade of version", func(s *kube.Space) {
		e := kube.Small("default")
		e.SetSpecVersion(event.CloudEventsVersionV03)
		s.Post(http.StatusAccepted, kube.Structured(url, e))
		if got := s.Read(first.Exactly(e.ID(), 1)[0]); got.SpecVersion() != event.CloudEventsVersionV03 {
			s.T().Errorf("specversion %s came", got.SpecVersion())
		}
	})
	f.must("Attributes received should be the same as produced (attributes may be added)", func(s *kube.Space) {
		e := post(s, "consumer-test-sender")
		same(s, e, s.Read(first.Exactly(e.ID(), 1)[0]))
	})
	f.must("Events are filtered", func(s *kube.Space) {
		wanted, unwanted := post(s, "filtered-event"), post(s, "consumer-test-sender")
		second.Await(wanted.ID(), 1)
		first.Await(unwanted.ID(), 1)
		s.Quiet(500 * time.Millisecond)
		if len(kube.With(second.Got(), unwanted.ID())) > 0 {
			s.T().Error("an event came that the filter does not match")
		}
	})
	f.must("Events are delivered to multiple subscribers", func(s *kube.Space) {
		e := post(s, "filtered-event")
		first.Await(e.ID(), 1)
		second.Await(e.ID(), 1)
	})
	f.must("Deliveries succeed at least once", func(s *kube.Space) { first.Await(post(s, "delivery-check").ID(), 1) })
	f.must("Replies are accepted and delivered", func(s *kube.Space) {
		e := post(s, "origin-for-reply")
		// The event itself, and the reply by two Triggers.
		for _, req := range first.Exactly(e.ID(), 3) {
			if got := s.Read(req); got.Source() == "reply-check-source" && string(got.Data()) != `{"msg":"Transformed!"}` {
				s.T().Errorf("the reply carries %s", got.Data())
			}
		}
	})
}
