package conformance

import (
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

func dataPlaneReplies(t *testing.T) {
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("default"))
	f := in(t, s, "Delivery")

	f.should("Events contained in delivery responses SHOULD be published to the Broker ingress and processed as if the event had been produced to the Broker's addressable endpoint.", func(s *kube.Space) {
		asks := s.Receiver("asks", probe.Step{Reply: &probe.Reply{
			Set: map[string]string{"type": "answer", "source": "/answers", "subject": "again", "extra": "kept"}, Data: `{"answer":42}`,
		}})
		reads, every := s.Receiver("reads"), s.Receiver("every")
		s.ReadyTrigger("asks", "default", asks.Ref(), kube.Attributes("type", "question"))
		s.ReadyTrigger("reads", "default", reads.Ref(), kube.Attributes("type", "answer", "extra", "kept"))
		s.ReadyTrigger("every", "default", every.Ref())
		e := kube.Full()
		e.SetType("question")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		want := e.Clone()
		want.SetType("answer")
		want.SetSource("/answers")
		want.SetSubject("again")
		want.SetExtension("extra", "kept")
		if err := want.SetData("application/json", []byte(`{"answer":42}`)); err != nil {
			s.T().Fatal(err)
		}
		caused(s, &want, e)
		same(s, want, s.Read(reads.Await(e.ID(), 1)[0]))
		every.Await(e.ID(), 2)
		asks.Exactly(e.ID(), 1)
	})
	f.should("Events contained in delivery responses that are malformed SHOULD be treated as if the event delivery had failed.", func(s *kube.Space) {
		for name, step := range map[string]probe.Step{
			"noid":    {Headers: map[string]string{"ce-specversion": "1.0", "ce-type": "answer", "ce-source": "/s", "Content-Type": "application/json"}, Body: "{}"},
			"version": {Headers: map[string]string{"ce-specversion": "9000.1", "ce-type": "answer", "ce-source": "/s", "ce-id": "1", "Content-Type": "application/json"}, Body: "{}"},
			"nojson":  {Headers: map[string]string{"Content-Type": "application/cloudevents+json"}, Body: "{"},
		} {
			bad, dead := s.Receiver("bad-"+name, step), s.Receiver("dead-"+name)
			s.ReadyTrigger("bad-"+name, "default", bad.Ref(), kube.Attributes("type", name), kube.Delivers(kube.Delivery(dead, 2)))
			e := kube.Small(name)
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			dead.Exactly(e.ID(), 1)
			if s.Class != kube.Reference { // which tries again to store the reply only
				bad.Exactly(e.ID(), 3)
			}
		}
	})
	f.cannot("MAY", "The subscriber MAY receive a confirmation that a reply event was accepted by the Broker.", "a permission; no class does")
	f.should("If the reply event was not accepted, the initial event SHOULD be redelivered to the subscriber.", func(s *kube.Space) {
		// A reply of 3 MiB is more than most Brokers take. One that takes it
		// has to deliver it.
		huge := s.Receiver("huge", probe.Step{Reply: &probe.Reply{
			Set: map[string]string{"type": "huge.answer"}, Data: `"` + strings.Repeat("x", 3<<20) + `"`,
		}})
		dead, reads := s.Receiver("huge-dead"), s.Receiver("huge-reads")
		s.ReadyTrigger("huge", "default", huge.Ref(), kube.Attributes("type", "huge"), kube.Delivers(kube.Delivery(dead, 2)))
		s.ReadyTrigger("huge-reads", "default", reads.Ref(), kube.Attributes("type", "huge.answer"))
		e := kube.Small("huge")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		s.Eventually("the reply is delivered, or the event again", kube.Patience, func() (bool, string) {
			return reads.Total() > 0 || huge.Total() == 3 && dead.Total() == 1, "neither"
		})
		s.T().Logf("the reply was accepted %d times, the event delivered %d times", reads.Total(), huge.Total())
	})
}
