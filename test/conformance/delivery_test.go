package conformance

import (
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// added is what a Broker may add to an event.
var added = []string{"knativearrivaltime", "knativebrokerttl"}

// same fails the test unless an event came as it was sent.
func same(s *kube.Space, sent, came event.Event) {
	s.T().Helper()
	want, got := kube.Attrs(sent), kube.Attrs(came)
	for _, name := range added {
		delete(got, name)
	}
	if !maps.Equal(want, got) {
		s.T().Errorf("attributes\n sent %v\n came %v", want, got)
	}
	if string(sent.Data()) != string(came.Data()) {
		s.T().Errorf("data %q came, %q was sent", came.Data(), sent.Data())
	}
}

// caused is what a reply has besides what the subscriber wrote: its cause, and
// the beginning of the chain (CloudEvents correlation extension). The reference
// adds neither.
func caused(s *kube.Space, reply *event.Event, by event.Event) {
	if s.Class != kube.Reference {
		reply.SetExtension("causationid", by.ID())
		reply.SetExtension("correlationid", by.ID())
	}
}

func dataPlaneDelivery(t *testing.T) {
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("default", kube.BrokerDelivers(kube.Delivery(nil, 5))))
	sink := s.Receiver("sink")
	s.ReadyTrigger("all", "default", sink.Ref())
	f := in(t, s, "Delivery")

	f.must("Delivered events MUST conform to the CloudEvents specification.", func(s *kube.Space) {
		for _, send := range []func(string, event.Event) probe.Send{kube.Binary, kube.Structured} {
			e := kube.Full()
			s.Post(http.StatusAccepted, send(url, e))
			if err := s.Read(sink.Await(e.ID(), 1)[0]).Validate(); err != nil {
				s.T().Error(err)
			}
		}
	})
	f.should("All CloudEvent attributes set by the producer, including the data and specversion attributes, SHOULD be received at the subscriber identical to how they were received by the Broker.", func(s *kube.Space) {
		for _, version := range []string{event.CloudEventsVersionV1, event.CloudEventsVersionV03} {
			for _, send := range []func(string, event.Event) probe.Send{kube.Binary, kube.Structured} {
				e := kube.Full()
				e.SetSpecVersion(version)
				s.Post(http.StatusAccepted, send(url, e))
				same(s, e, s.Read(sink.Await(e.ID(), 1)[0]))
			}
		}
		e := kube.Small("bytes")
		if err := e.SetData("application/octet-stream", []byte{0, 0xff, 0xfe, '\n', 0}); err != nil {
			s.T().Fatal(err)
		}
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		same(s, e, s.Read(sink.Await(e.ID(), 1)[0]))
	})
	f.should("The same, for values that the HTTP binding percent-encodes.", func(s *kube.Space) {
		for _, send := range []func(string, event.Event) probe.Send{kube.Binary, kube.Structured} {
			e := kube.Small("encoded")
			e.SetExtension("odd", "Euro € \U0001F600 \"quoted\" 100%")
			e.SetSubject("ü")
			s.Post(http.StatusAccepted, send(url, e))
			same(s, e, s.Read(sink.Await(e.ID(), 1)[0]))
		}
	})
	f.should("The Broker SHOULD support delivering events via Binary Content Mode or Structured Content Mode of the HTTP Protocol Binding for CloudEvents.", func(s *kube.Space) {
		e := kube.Full()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		got := sink.Await(e.ID(), 1)[0]
		binary := kube.Header(got, "ce-id") != ""
		structured := strings.HasPrefix(kube.Header(got, "Content-Type"), "application/cloudevents+json")
		if binary == structured {
			s.T().Errorf("came in neither mode or in both: %v", got.Headers)
		}
	})
	f.should("Events accepted by the Broker SHOULD be delivered at least once to all subscribers of all Triggers*.", func(s *kube.Space) {
		flaky := s.Receiver("flaky", probe.Step{Times: 2, Status: http.StatusServiceUnavailable}, probe.Step{Times: 1, Drop: true})
		wanted, unwanted := s.Receiver("wanted"), s.Receiver("unwanted")
		s.ReadyTrigger("flaky", "default", flaky.Ref(), kube.Attributes("type", "all.subscribers"))
		s.ReadyTrigger("wanted", "default", wanted.Ref(), kube.Attributes("type", "all.subscribers"))
		s.ReadyTrigger("unwanted", "default", unwanted.Ref(), kube.Attributes("type", "another"))
		e := kube.Small("all.subscribers")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		sink.Await(e.ID(), 1)
		wanted.Await(e.ID(), 1)
		flaky.Await(e.ID(), 4)
		if n := unwanted.Total(); n > 0 {
			s.T().Errorf("a Trigger whose filter does not match was offered %d events", n)
		}
	})
	f.may("Events MAY additionally be delivered to Triggers that become Ready after the event was accepted.", func(s *kube.Space) {
		late := s.Receiver("late")
		before, after := kube.Small("late"), kube.Small("late")
		s.Post(http.StatusAccepted, kube.Binary(url, before))
		s.ReadyTrigger("late", "default", late.Ref(), kube.Attributes("type", "late"))
		s.Post(http.StatusAccepted, kube.Binary(url, after))
		late.Await(after.ID(), 1)
		s.T().Logf("the event before was delivered %d times", len(kube.With(late.Got(), before.ID())))
	})
	f.except("the in-memory channel answers when the subscribers have").may("Events MAY be enqueued or delayed between acceptance from a producer and delivery to a subscriber.", func(s *kube.Space) {
		slow := s.Receiver("slow", probe.Step{Delay: 4 * time.Second})
		s.ReadyTrigger("slow", "default", slow.Ref(), kube.Attributes("type", "slow"))
		e := kube.Small("slow")
		begun := time.Now()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		if took := time.Since(begun); took > 3*time.Second {
			s.T().Errorf("accepted after %v: as slow as the subscriber", took)
		}
		slow.Await(e.ID(), 1)
	})
	f.cannot("MAY", "The Broker MAY choose not to deliver an event due to persistent unavailability of a subscriber or limitations such as storage capacity.", "a permission; there is nothing to assert")
	f.cannot("SHOULD", "The Broker SHOULD attempt to notify the operator in this case.", "it does not say how; ours keeps the dead letter and counts it")
	f.may("The Broker MAY forward these events to an alternate endpoint or storage mechanism such as a dead letter queue.", func(s *kube.Space) {
		dead, down := s.Receiver("dead"), s.Receiver("down", probe.Step{Status: http.StatusBadRequest})
		s.ReadyTrigger("down", "default", down.Ref(), kube.Attributes("type", "down"), kube.Delivers(kube.Delivery(dead, 0)))
		e := kube.Small("down")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		dead.Await(e.ID(), 1)
	})
	f.may("If no ready Trigger would match an accepted event, the Broker MAY drop that event without notifying the producer.", func(s *kube.Space) {
		s.ReadyBroker("lonely")
		s.Post(http.StatusAccepted, kube.Binary(kube.Address(s.GetBroker("lonely")), kube.Small("nobody")))
	})
	f.may("If multiple Triggers reference the same subscriber, the subscriber MAY be expected to acknowledge successful delivery of an event multiple times.", func(s *kube.Space) {
		both := s.Receiver("both")
		s.Trigger("both-1", "default", both.Ref(), kube.Attributes("type", "both"))
		s.Trigger("both-2", "default", both.Ref(), kube.Attributes("type", "both"))
		s.AwaitTrigger("both-1")
		s.AwaitTrigger("both-2")
		e := kube.Small("both")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		both.Exactly(e.ID(), 2)
	})
}
