package conformance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	traceparent = "00-" + traceID + "-b7ad6b7169203331-01"
)

func dataPlaneObservability(t *testing.T) {
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("default"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("all", "default", sink.Ref(), kube.Attributes("type", "plain"))
	f := in(t, s, "Observability")

	f.except("counts by other names, not per Broker").should("The Broker SHOULD expose a variety of metrics*.", func(s *kube.Space) {
		// * produce requests of 400 and of 200, and deliveries.
		e := kube.Small("plain")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		s.Post(http.StatusBadRequest, kube.Without(kube.Binary(url, e), "ce-type"))
		sink.Await(e.ID(), 1)
		broker := `broker="` + s.Name + `/default"`
		s.Eventually("the counters", kube.Patience, func() (bool, string) {
			in, out := s.Metrics("ingress"), s.Metrics("dispatcher")
			for _, want := range [][2]string{
				{in, `penstock_events_received_total{` + broker + `,code="202"}`},
				{in, `penstock_events_received_total{` + broker + `,code="400"}`},
				{out, `penstock_deliveries_total{` + broker + `,outcome="delivered",trigger="` + s.Name + `/all"}`},
			} {
				if !strings.Contains(want[0], want[1]) {
					return false, "no " + want[1]
				}
			}
			return true, ""
		})
	})
	f.except("off until configured").should("Metrics SHOULD be enabled by default, with a configuration parameter included to disable them if desired.", func(s *kube.Space) {
		for _, component := range []string{"ingress", "dispatcher"} {
			if !strings.Contains(s.Metrics(component), "\nprocess_resident_memory_bytes ") {
				s.T().Errorf("the %s has no metrics", component)
			}
		}
	})
	f.should("Upon receiving an event with context attributes defined in the CloudEvents Distributed Tracing extension the Broker SHOULD preserve that trace header on delivery to subscribers and on reply events, unless the reply is sent with a different set of tracing attributes.", func(s *kube.Space) {
		other := strings.Replace(traceparent, "0af7", "1bf8", 1)
		keeps := s.Receiver("keeps", probe.Step{Reply: &probe.Reply{Set: map[string]string{"type": "kept"}}})
		sets := s.Receiver("sets", probe.Step{Reply: &probe.Reply{Set: map[string]string{"type": "set", "traceparent": other}}})
		reads := s.Receiver("reads")
		s.ReadyTrigger("keeps", "default", keeps.Ref(), kube.Attributes("type", "traced"))
		s.ReadyTrigger("sets", "default", sets.Ref(), kube.Attributes("type", "traced"))
		s.ReadyTrigger("kept", "default", reads.Ref(), kube.Attributes("type", "kept"))
		s.ReadyTrigger("set", "default", reads.Ref(), kube.Attributes("type", "set"))
		e := kube.Small("traced")
		e.SetExtension("traceparent", traceparent)
		e.SetExtension("tracestate", "rojo=00f067aa0ba902b7")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		for _, req := range append(keeps.Await(e.ID(), 1), sets.Await(e.ID(), 1)...) {
			came := s.Read(req)
			if got, _ := came.Extensions()["traceparent"].(string); !strings.Contains(got, traceID) {
				s.T().Errorf("traceparent %q came to %s, %q was sent", got, req.Host, traceparent)
			}
			if got := came.Extensions()["tracestate"]; got != "rojo=00f067aa0ba902b7" {
				s.T().Errorf("tracestate %q came to %s", got, req.Host)
			}
		}
		for _, req := range reads.Await(e.ID(), 2) {
			came := s.Read(req)
			want := traceparent
			if came.Type() == "set" {
				want = other
			}
			if got, _ := came.Extensions()["traceparent"].(string); !strings.Contains(got, strings.Split(want, "-")[1]) {
				s.T().Errorf("the reply %s has traceparent %q, want the trace of %q", came.Type(), got, want)
			}
		}
	})
	f.should("Forwarded trace headers SHOULD be updated with any intermediate spans emitted by the broker.", func(s *kube.Space) {
		// A Broker that emits no spans has none to update with. In either case
		// the trace of the producer must go on in the header.
		e := kube.Small("plain")
		m := kube.Binary(url, e)
		m.Headers["traceparent"] = traceparent
		s.Post(http.StatusAccepted, m)
		got := kube.Header(sink.Await(e.ID(), 1)[0], "traceparent")
		if !strings.Contains(got, traceID) {
			s.T().Errorf("header traceparent %q came, %q was sent", got, traceparent)
		}
	})
	f.cannot("SHOULD", "Spans emitted by the Broker SHOULD follow the OpenTelemetry Semantic Conventions for Messaging System*.", "no spans are emitted yet")
}
