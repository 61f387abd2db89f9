package conformance

import (
	"encoding/base64"
	"net/http"
	"testing"

	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

func TestBrokerWithDLQ(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	dead := s.Receiver("dead")
	url := kube.Address(s.ReadyBroker("broker", kube.BrokerDelivers(kube.Delivery(dead, 1))))
	s.ReadyTrigger("trigger", "broker", kube.URI("bad://uri"))
	in(t, s, "broker with DLS").must("deliver event to DLQ", func(s *kube.Space) {
		e := kube.Full()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		dead.Await(e.ID(), 1)
	})
}

func TestBrokerDeadLetterSinkExtensions(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	const body = `{ "message": "catastrophic failure" }`

	for _, c := range []struct {
		name, feature, text string
		steps               []probe.Step
		uri                 string
		want                map[string]string // "" must be absent
	}{{
		name: "unreachable", feature: "Broker Subscriber Unreachable", text: "Receives dls extensions when subscriber is unreachable",
		uri: "http://fake.svc.cluster.local", want: map[string]string{"knativeerrordest": "http://fake.svc.cluster.local"},
	}, {
		name: "nodata", feature: "Broker Subscriber Error Nodata", text: "Receives dls extensions without errordata",
		steps: []probe.Step{{Status: http.StatusUnprocessableEntity}}, want: map[string]string{"knativeerrorcode": "422", "knativeerrordata": ""},
	}, {
		name: "withdata", feature: "Broker Subscriber Error With data encoded", text: "Receives dls extensions with errordata",
		steps: []probe.Step{{Status: http.StatusUnprocessableEntity, Body: body}},
		want:  map[string]string{"knativeerrorcode": "422", "knativeerrordata": base64.StdEncoding.EncodeToString([]byte(body))},
	}} {
		in(t, s, c.feature).must(c.text, func(s *kube.Space) {
			dead := s.Receiver("dead-" + c.name)
			var to duckv1.Destination
			if c.uri != "" {
				to = kube.URI(c.uri)
			} else {
				failer := s.Receiver("fails-"+c.name, c.steps...)
				to = failer.Ref()
				c.want["knativeerrordest"] = failer.URL()
			}
			s.ReadyTrigger(c.name, "broker", to, kube.Attributes("type", c.name), kube.Delivers(kube.Delivery(dead, -1)))
			e := kube.Small(c.name)
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			req := dead.Exactly(e.ID(), 1)[0]
			if got := kube.Header(req, "Kn-Namespace"); got != s.Name {
				s.T().Errorf("header Kn-Namespace is %q, want %q", got, s.Name)
			}
			got := kube.Attrs(s.Read(req))
			for name, value := range c.want {
				if got[name] != value {
					s.T().Errorf("%s is %q, want %q", name, got[name], value)
				}
			}
			if got["knativeerrorcode"] == "" {
				s.T().Error("no knativeerrorcode")
			}
		})
	}
}

func TestTriggerWithDLS(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	sent := func(s *kube.Space, url string) (ids []string) {
		for range 3 {
			e := kube.Full()
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			ids = append(ids, e.ID())
		}
		return ids
	}
	in(t, s, "Trigger with DLS").must("deliver event to DLS", func(s *kube.Space) {
		dead := s.Receiver("dead1")
		url := kube.Address(s.ReadyBroker("broker1"))
		s.ReadyTrigger("trigger1", "broker1", kube.URI("bad://uri"), kube.Delivers(kube.Delivery(dead, -1)))
		for _, id := range sent(s, url) {
			dead.Await(id, 1)
		}
	})
	in(t, s, "When Trigger DLS is defined, Broker DLS is ignored").must("deliver events to trigger DLS, not to its broker DLS", func(s *kube.Space) {
		dead, brokers := s.Receiver("dead2"), s.Receiver("dead2-broker")
		url := kube.Address(s.ReadyBroker("broker2", kube.BrokerDelivers(kube.Delivery(brokers, 0))))
		s.ReadyTrigger("trigger2", "broker2", kube.URI("bad://uri"), kube.Delivers(kube.Delivery(dead, -1)))
		for _, id := range sent(s, url) {
			dead.Exactly(id, 1)
		}
		if n := brokers.Total(); n > 0 {
			s.T().Errorf("%d dead letters at the Broker's sink", n)
		}
	})
	in(t, s, "Bad Trigger does not affect good Trigger").must("deliver event to DLQ (via1), deliver event to sink (via2)", func(s *kube.Space) {
		dead, sink := s.Receiver("dead3"), s.Receiver("sink3")
		url := kube.Address(s.ReadyBroker("broker3", kube.BrokerDelivers(kube.Delivery(dead, 0))))
		s.ReadyTrigger("via1", "broker3", kube.URI("bad://uri"))
		s.ReadyTrigger("via2", "broker3", sink.Ref())
		for _, id := range sent(s, url) {
			sink.Await(id, 1)
			dead.Await(id, 1)
		}
	})
	in(t, s, "Trigger delivery without a DLS").must("the Broker's DLS is used", func(s *kube.Space) {
		dead := s.Receiver("dead4")
		url := kube.Address(s.ReadyBroker("broker4", kube.BrokerDelivers(kube.Delivery(dead, 0))))
		s.ReadyTrigger("trigger4", "broker4", kube.URI("bad://uri"), kube.Delivers(kube.Delivery(nil, 1)))
		for _, id := range sent(s, url) {
			dead.Await(id, 1)
		}
	})
}

// TestMultiTriggerTopology: both Triggers use the Broker's and their own sinks
// as they declare.
func TestMultiTriggerTopology(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	brokers, own := s.Receiver("brokers"), s.Receiver("own")
	fails := s.Receiver("fails", probe.Step{Status: http.StatusServiceUnavailable})
	url := kube.Address(s.ReadyBroker("broker", kube.BrokerDelivers(kube.Delivery(brokers, 2))))
	linear := func(d *eventingduck.DeliverySpec) *eventingduck.DeliverySpec {
		return kube.Backoff(d, eventingduck.BackoffPolicyLinear, "PT0.2S")
	}
	s.ReadyTrigger("t0", "broker", fails.Ref())
	s.ReadyTrigger("t1", "broker", fails.Ref(), kube.Delivers(linear(kube.Delivery(own, 3))))
	in(t, s, "Multi trigger topology").must("each Trigger has its own number of attempts and its own DLS", func(s *kube.Space) {
		e := kube.Full()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		brokers.Exactly(e.ID(), 1)
		own.Exactly(e.ID(), 1)
		fails.Exactly(e.ID(), 3+4)
	})
}

func TestTriggerDefaulting(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	in(t, s, "Trigger defaulting").admission().must("spec.filter, the namespace of the subscriber and the label of the Broker are set", func(s *kube.Space) {
		tr := s.Trigger("trigger", "broker", duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "sub"}})
		if tr.Spec.Filter == nil {
			s.T().Error("no spec.filter")
		}
		if got := tr.Spec.Subscriber.Ref.Namespace; got != s.Name {
			s.T().Errorf("the subscriber's namespace is %q", got)
		}
		if got := tr.Labels["eventing.knative.dev/broker"]; got != "broker" {
			s.T().Errorf("the label is %q", got)
		}
	})
}

func TestTriggerDeliveryFormat(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	for _, format := range []eventingduck.FormatType{"json", "binary"} {
		in(t, s, "Trigger supports sending with "+string(format)+" delivery format").must("dispatch event with correct format", func(s *kube.Space) {
			sink := s.Receiver(string(format))
			s.ReadyTrigger(string(format), "broker", sink.Ref(), kube.Attributes("exstring", string(format)),
				kube.Delivers(&eventingduck.DeliverySpec{Format: &format}))
			for _, send := range []func(string, eventOf) probe.Send{kube.Binary, kube.Structured} {
				e := kube.Full()
				e.SetExtension("exstring", string(format))
				s.Post(http.StatusAccepted, send(url, e))
				req := sink.Await(e.ID(), 1)[0]
				if binary := kube.Header(req, "ce-id") != ""; binary != (format == "binary") {
					s.T().Errorf("came as %v", req.Headers)
				}
				same(s, e, s.Read(req))
			}
		})
	}
}

func TestBrokerTriggerWithDeliveryTimeout(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	dead := s.Receiver("dead")
	slow := s.Receiver("slow", probe.Step{Delay: 20_000_000_000})
	timeout := "PT1S"
	d := kube.Delivery(dead, -1)
	d.Timeout = &timeout
	s.ReadyTrigger("trigger", "broker", slow.Ref(), func(tr *eventingv1.Trigger) { tr.Spec.Delivery = d })
	in(t, s, "Delivery timeout").must("an attempt ends after delivery.timeout, and the event goes to the DLS", func(s *kube.Space) {
		e := kube.Full()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		came := dead.Exactly(e.ID(), 1)[0].At
		if waited := came.Sub(slow.Await(e.ID(), 1)[0].At).Seconds(); waited < 0.9 || waited > 15 {
			s.T().Errorf("dead letter %.1f s after the attempt began, want about 1 s", waited)
		}
	})
}
