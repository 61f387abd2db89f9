package conformance

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// TestBrokerConformance is the data plane and the control plane of the Broker
// specification.
func TestBrokerConformance(t *testing.T) {
	for name, part := range map[string]func(*testing.T){
		"DataPlane/Ingress":         dataPlaneIngress,
		"DataPlane/Addressability":  dataPlaneAddressability,
		"DataPlane/Delivery":        dataPlaneDelivery,
		"DataPlane/Replies":         dataPlaneReplies,
		"DataPlane/Observability":   dataPlaneObservability,
		"ControlPlane/Broker":       controlPlaneBroker,
		"ControlPlane/Trigger":      controlPlaneTrigger,
		"ControlPlane/Lifecycle":    controlPlaneLifecycle,
		"ControlPlane/Filters":      controlPlaneFilters,
		"ControlPlane/EventRouting": controlPlaneRouting,
		"ControlPlane/DeliverySpec": controlPlaneDeliverySpec,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t)
		})
	}
}

func ok(status int) bool { return status/100 == 2 }

func dataPlaneIngress(t *testing.T) {
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("default"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("all", "default", sink.Ref())
	f := in(t, s, "Ingress")

	f.must("The ingress endpoint(s) MUST conform to at least one of the following versions of the specification: 0.3, 1.0", func(s *kube.Space) {
		for _, version := range []string{event.CloudEventsVersionV1, event.CloudEventsVersionV03} {
			e := kube.Full()
			e.SetSpecVersion(version)
			for mode, m := range map[string]probe.Send{"binary": kube.Binary(url, e), "structured": kube.Structured(url, e)} {
				if a := s.Send(m)[0]; !ok(a.Status) {
					s.T().Errorf("%s in %s mode: status %d %s", version, mode, a.Status, a.Body)
				}
			}
		}
	})
	f.may("Other versions MAY be rejected.", func(s *kube.Space) {
		m := kube.Binary(url, kube.Small("sometype"))
		m.Headers["ce-specversion"] = "19.0"
		if a := s.Send(m)[0]; a.Status/100 != 4 {
			s.T().Errorf("status %d, want 4xx", a.Status)
		}
	})
	f.shouldNot("The Broker SHOULD NOT perform an upgrade of the produced event's CloudEvents version.", func(s *kube.Space) {
		for _, send := range []func(string, event.Event) probe.Send{kube.Binary, kube.Structured} {
			e := kube.Small("old")
			e.SetSpecVersion(event.CloudEventsVersionV03)
			s.Post(http.StatusAccepted, send(url, e))
			if got := s.Read(sink.Await(e.ID(), 1)[0]); got.SpecVersion() != event.CloudEventsVersionV03 {
				s.T().Errorf("specversion %s came, 0.3 was sent", got.SpecVersion())
			}
		}
	})
	f.should("It SHOULD support Binary Content Mode of the HTTP Protocol Binding for CloudEvents.", func(s *kube.Space) {
		for _, contentType := range []string{"application/vnd.apache.thrift.binary", "application/xml", "application/json", ""} {
			m := kube.Binary(url, kube.Small("sometype"))
			m.Body = []byte("{}")
			m = kube.Without(m, "Content-Type")
			if contentType != "" {
				m.Headers["Content-Type"] = contentType
			}
			if a := s.Send(m)[0]; !ok(a.Status) {
				s.T().Errorf("content type %q: status %d %s", contentType, a.Status, a.Body)
			}
			got := sink.Await(m.Headers["ce-id"], 1)[0]
			if string(got.Body) != "{}" || kube.Header(got, "Content-Type") != contentType {
				s.T().Errorf("content type %q: came as %q with %q", contentType, kube.Header(got, "Content-Type"), got.Body)
			}
		}
	})
	f.should("It SHOULD support Structured Content Mode of the HTTP Protocol Binding for CloudEvents.", func(s *kube.Space) {
		id := kube.ID("structured")
		body, err := json.Marshal(map[string]any{
			"specversion": "1.0", "type": "sometype", "source": "/e2e", "id": id, "time": "2020-07-06T09:23:12Z",
			"datacontenttype": "application/json", "data": map[string]string{"message": "helloworld"},
		})
		if err != nil {
			s.T().Fatal(err)
		}
		m := probe.Send{URL: url, Body: body, Headers: map[string]string{"Content-Type": "application/cloudevents+json"}}
		if a := s.Send(m)[0]; !ok(a.Status) {
			s.T().Fatalf("status %d %s", a.Status, a.Body)
		}
		e := s.Read(sink.Await(id, 1)[0])
		if !strings.Contains(string(e.Data()), "helloworld") {
			s.T().Errorf("the data is %s", e.Data())
		}
	})
	f.must("Brokers MUST reject all HTTP produce requests with a method other than POST responding with HTTP status code `405 Method Not Supported`.", func(s *kube.Space) {
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodPatch} {
			m := kube.Binary(url, kube.Small("sometype"))
			m.Method = method
			if a := s.Send(m)[0]; a.Status != http.StatusMethodNotAllowed {
				s.T().Errorf("%s: status %d, want 405", method, a.Status)
			}
		}
	})
	f.must("The Broker MUST respond with a 200-level HTTP status code if a produce request is accepted.", func(s *kube.Space) {
		s.Post(http.StatusAccepted, kube.Binary(url, kube.Small("sometype")))
	})
	bad := "If a Broker receives a produce request and is unable to parse a valid CloudEvent, then it MUST reject the request with HTTP status code `400 Bad Request`."
	f.must(bad, func(s *kube.Space) {
		for _, header := range []string{"ce-specversion", "ce-type", "ce-source", "ce-id"} {
			m := kube.Without(kube.Binary(url, kube.Small("sometype")), header)
			if a := s.Send(m)[0]; a.Status != http.StatusBadRequest {
				s.T().Errorf("without %s: status %d, want 400", header, a.Status)
			}
		}
		for what, body := range map[string]string{
			"no JSON":        "{",
			"no object":      "[]",
			"no id":          `{"specversion":"1.0","type":"t","source":"/s"}`,
			"an empty type":  `{"specversion":"1.0","type":"","source":"/s","id":"1"}`,
			"nothing at all": "",
		} {
			m := probe.Send{URL: url, Body: []byte(body), Headers: map[string]string{"Content-Type": "application/cloudevents+json"}}
			if a := s.Send(m)[0]; a.Status != http.StatusBadRequest {
				s.T().Errorf("%s: status %d, want 400", what, a.Status)
			}
		}
	})
}

func dataPlaneAddressability(t *testing.T) {
	s := kube.New(t)
	b := s.ReadyBroker("default")
	f := in(t, s, "Broker Addressability")
	f.should("A Broker SHOULD expose either an HTTP or HTTPS endpoint as ingress. It MAY expose both.", func(s *kube.Space) {
		if url := kube.Address(b); !strings.HasPrefix(url, "http://") && !strings.HasPrefix(url, "https://") {
			s.T().Errorf("the address is %q", url)
		}
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(b), kube.Small("sometype")))
	})
	f.cannot("MAY", "The HTTP(S) endpoint MAY be on any port, not just the standard 80 and 443.", "a permission; there is nothing to assert")
	f.cannot("MAY", "Channels MAY expose other, non-HTTP endpoints in addition to HTTP at their discretion.", "a permission; there is nothing to assert")
}
