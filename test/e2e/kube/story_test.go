package kube

import (
	"net/http"
	"testing"
	"time"

	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// TestAnEventIsSentRetriedRepliedToAndBuried is the way of one event through
// all that a Broker does.
func TestAnEventIsSentRetriedRepliedToAndBuried(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	dead := s.Receiver("dead")
	flaky := s.Receiver("flaky",
		probe.Step{Times: 1, Status: http.StatusServiceUnavailable}, probe.Step{Times: 1, Drop: true},
		probe.Step{Reply: &probe.Reply{Set: map[string]string{"type": "reply"}}})
	fails := s.Receiver("fails", probe.Step{Status: http.StatusInternalServerError, Body: "no"})
	s.ReadyTrigger("flaky", "default", flaky.Ref(), kube.Attributes("type", "order"),
		kube.Delivers(kube.Backoff(kube.Delivery(dead, 5), eventingduck.BackoffPolicyExponential, "PT0.5S")))
	s.ReadyTrigger("fails", "default", fails.Ref(), kube.Attributes("type", "reply"),
		kube.Delivers(kube.Backoff(kube.Delivery(dead, 2), eventingduck.BackoffPolicyLinear, "PT0.5S")))
	e := kube.Full()
	e.SetType("order")
	s.Post(http.StatusAccepted, kube.Structured(url, e))

	letter := s.Read(dead.Exactly(e.ID(), 1)[0])
	if letter.Type() != "reply" || kube.Attrs(letter)["knativeerrorcode"] != "500" {
		t.Errorf("the dead letter is %v", letter)
	}
	waits(t, flaky.Exactly(e.ID(), 3), 500*time.Millisecond, time.Second)
	waits(t, fails.Exactly(e.ID(), 3), 500*time.Millisecond, time.Second)
}

// waits checks the time between attempts: at least what the policy says.
func waits(t *testing.T, attempts []probe.Request, want ...time.Duration) {
	t.Helper()
	for i, w := range want {
		if got := attempts[i+1].At.Sub(attempts[i].At); got < w {
			t.Errorf("attempt %d came %v after the one before, want at least %v", i+2, got, w)
		}
	}
}

// TestChangesTakeEffectWithoutARestart: filter, subscriber and delivery of a
// Trigger, and delivery of a Broker.
func TestChangesTakeEffectWithoutARestart(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default", kube.BrokerDelivers(kube.Delivery(nil, 0))))
	one, two, dead := s.Receiver("one"), s.Receiver("two"), s.Receiver("dead")
	s.ReadyTrigger("trigger", "default", one.Ref(), kube.Attributes("type", "a"))
	post := func(typ string) string {
		e := kube.Small(typ)
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		return e.ID()
	}
	change := func(f func(*eventingv1.Trigger)) {
		t.Helper()
		if err := s.ChangeTrigger("trigger", f); err != nil {
			t.Fatal(err)
		}
		s.AwaitTrigger("trigger")
	}
	one.Await(post("a"), 1)

	change(kube.Attributes("type", "b"))
	a := post("a")
	one.Await(post("b"), 1)
	s.Quiet(time.Second)
	if len(kube.With(one.Got(), a)) > 0 {
		t.Error("the filter of before was in force after Ready")
	}
	change(func(tr *eventingv1.Trigger) { tr.Spec.Subscriber = two.Ref() })
	two.Await(post("b"), 1)

	two.Set(probe.Mood{Steps: []probe.Step{{Status: http.StatusConflict}}})
	change(kube.Delivers(kube.Delivery(dead, 1)))
	id := post("b")
	dead.Exactly(id, 1)
	two.Exactly(id, 2)

	change(kube.Delivers(nil))
	if err := s.ChangeBroker("default", kube.BrokerDelivers(kube.Delivery(dead, 3))); err != nil {
		t.Fatal(err)
	}
	s.AwaitBrokerThat("default", "is Ready for its last generation", func(b *eventingv1.Broker) bool {
		return b.IsReady() && b.Status.ObservedGeneration == b.Generation && b.Status.DeadLetterSinkURI != nil
	})
	s.AwaitTriggerThat("trigger", "has the Broker's dead letter sink", func(tr *eventingv1.Trigger) bool {
		return tr.Status.DeadLetterSinkURI != nil && tr.Status.IsReady()
	})
	id = post("b")
	dead.Exactly(id, 1)
	two.Exactly(id, 4)
}
