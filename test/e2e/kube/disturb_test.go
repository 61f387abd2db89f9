package kube

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// load is a stream of events with two Triggers: one whose subscriber always
// answers, one whose subscriber refuses the first attempt of each event.
type load struct {
	s           *kube.Space
	stream      *kube.Stream
	sink, flaky *kube.Receiver
	dead        *kube.Receiver
}

const rate = 100 // events a second

// underLoad starts a stream and returns when it flows.
func underLoad(t *testing.T) *load {
	t.Helper()
	s := space(t)
	l := &load{s: s, sink: s.Receiver("sink"), flaky: s.Receiver("flaky"), dead: s.Receiver("dead")}
	l.flaky.Set(probe.Mood{PerID: true, Steps: []probe.Step{{Times: 1, Status: http.StatusServiceUnavailable}}})
	url := kube.Address(s.ReadyBroker("default", kube.BrokerDelivers(
		kube.Backoff(kube.Delivery(l.dead, 10), eventingduck.BackoffPolicyExponential, "PT0.2S"))))
	s.ReadyTrigger("sink", "default", l.sink.Ref())
	s.ReadyTrigger("flaky", "default", l.flaky.Ref())
	l.stream = s.Stream("load", probe.Stream{URL: url, Prefix: kube.ID("load") + "-", Rate: rate})
	l.stream.Await(rate)
	return l
}

// judge ends the stream and fails the test unless all that was accepted comes.
func (l *load) judge(t *testing.T, what string) {
	t.Helper()
	l.stream.Await(l.stream.Progress().Accepted + 2*rate) // the calm after
	p := l.stream.End()
	one, two := l.stream.Settled(l.sink, settle), l.stream.Settled(l.flaky, settle)
	t.Logf("%s: %d events, answers %v, longest wait for a 202 %v, longest time without one %v; lost %d and %d, twice %d and %d",
		what, p.Begun, p.Codes, p.Worst.Round(time.Millisecond), p.Gap.Round(time.Millisecond), one.Lost, two.Lost, one.Twice, two.Twice)
	if n := l.dead.Total(); n > 0 {
		t.Errorf("%s: %d dead letters", what, n)
	}
	// Unknown is 500, and nobody here makes a write or a sync fail.
	if n := p.Codes["500"]; n > 0 {
		t.Logf("%s: %d answers of 500: the outcome of a request was unknown", what, n)
	}
}

// TestNothingIsLostWhenAPodIsDeletedUnderLoad, one component after the other,
// in order and with no time to stop.
func TestNothingIsLostWhenAPodIsDeletedUnderLoad(t *testing.T) {
	kube.On(t)
	for _, c := range []struct {
		name, component string
		grace           int64
	}{
		{"ingress", kube.Ingress, -1},
		{"dispatcher", kube.Dispatcher, -1},
		{"controller", kube.Controller, -1},
		{"ingress without grace", kube.Ingress, 0},
		{"dispatcher without grace", kube.Dispatcher, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.grace == 0 {
				full(t)
			}
			l := underLoad(t)
			l.s.Kill(c.component, 1, c.grace)
			l.stream.Await(l.stream.Progress().Accepted + rate)
			l.s.Rolled(c.component)
			l.judge(t, c.name)
		})
	}
}

// TestNothingIsLostWhenAllIsRolledUnderLoad is kubectl rollout restart of everything at once.
func TestNothingIsLostWhenAllIsRolledUnderLoad(t *testing.T) {
	l := underLoad(t)
	all := []string{kube.Controller, kube.Ingress, kube.Dispatcher}
	for _, c := range all {
		l.s.Restart(c)
	}
	l.s.Rolled(all...)
	l.judge(t, "all rolled")
	p := l.stream.Progress()
	refused := 0
	for code, n := range p.Codes {
		if code != "202" {
			refused += n
		}
	}
	t.Logf("of %d answers %d were not 202", refused+p.Codes["202"], refused)
}

// TestDispatchersAreScaledOutAndInAgain: a shard that is scaled away keeps its
// events on its volume, and goes on with them when it is back.
func TestDispatchersAreScaledOutAndInAgain(t *testing.T) {
	full(t)
	l := underLoad(t)
	was := l.s.Scale(4)
	t.Cleanup(func() {
		l.s.Scale(was)
		l.s.Rolled(kube.Dispatcher)
	})
	l.s.Rolled(kube.Dispatcher)
	// What comes from now on stays pending, some of it on the new volume.
	held := kube.Small("held")
	slow := l.s.Receiver("slow", probe.Step{Status: http.StatusServiceUnavailable})
	l.s.ReadyTrigger("slow", "default", slow.Ref(), kube.Attributes("type", held.Type()),
		kube.Delivers(kube.Backoff(kube.Delivery(nil, 1000), eventingduck.BackoffPolicyLinear, "PT1S")))
	url := kube.Address(l.s.GetBroker("default"))
	var ids []string
	for range 40 {
		e := kube.Small(held.Type())
		ids = append(ids, e.ID())
		l.s.Post(http.StatusAccepted, kube.Binary(url, e))
	}
	l.s.Scale(3)
	l.s.Rolled(kube.Dispatcher)
	l.judgeOpen(t)
	slow.Set(probe.Mood{})
	// Of 40 events on 4 shards all but those on the fourth come now.
	l.s.Eventually("the shards that serve deliver", kube.Patience, func() (bool, string) {
		n := answered(slow, ids)
		return n >= 20, fmt.Sprintf("%d of %d", n, len(ids))
	})
	l.s.Quiet(5 * time.Second)
	t.Logf("with the fourth shard away %d of %d events came", answered(slow, ids), len(ids))
	l.s.Scale(4)
	l.s.Rolled(kube.Dispatcher)
	l.s.Eventually("the shard that is back delivers", settle, func() (bool, string) {
		n := answered(slow, ids)
		return n == len(ids), fmt.Sprintf("%d of %d", n, len(ids))
	})
	l.judge(t, "scaled from 3 to 4, to 3 and to 4")
}

// judgeOpen fails the test if the stream has stopped.
func (l *load) judgeOpen(t *testing.T) {
	t.Helper()
	l.stream.Await(l.stream.Progress().Accepted + rate)
}

// answered counts the events that came and were answered 200.
func answered(r *kube.Receiver, ids []string) (n int) {
	done := make(map[string]bool)
	for _, req := range r.Got() {
		if req.Status == http.StatusOK {
			done[req.ID] = true
		}
	}
	for _, id := range ids {
		if done[id] {
			n++
		}
	}
	return n
}

// TestWhatIsRemovedLeavesItsVolumes is last: everything in config/ is deleted
// while events are pending, and installed again.
func TestWhatIsRemovedLeavesItsVolumes(t *testing.T) {
	full(t)
	s := space(t)
	url := kube.Address(s.ReadyBroker("default", kube.BrokerDelivers(
		kube.Backoff(kube.Delivery(nil, 1000), eventingduck.BackoffPolicyLinear, "PT1S"))))
	sink := s.Receiver("sink", probe.Step{Status: http.StatusServiceUnavailable})
	s.ReadyTrigger("trigger", "default", sink.Ref())
	var ids []string
	for range 30 {
		e := kube.Small("held")
		ids = append(ids, e.ID())
		s.Post(http.StatusAccepted, kube.Binary(url, e))
	}
	t.Cleanup(func() { // whatever happens, those after us find it installed
		apply(t)
		s.Rolled(kube.Ingress, kube.Dispatcher, kube.Controller)
	})
	remove(t)
	s.Eventually("the pods are gone", settle, func() (bool, string) {
		n := len(s.PodsOf(kube.Ingress)) + len(s.PodsOf(kube.Dispatcher)) + len(s.PodsOf(kube.Controller))
		return n == 0, fmt.Sprintf("%d pods", n)
	})
	claims, err := s.Kube.CoreV1().PersistentVolumeClaims(kube.System).List(s.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(claims.Items) < 3 {
		t.Fatalf("%d claims are left, want those of 3 dispatchers", len(claims.Items))
	}
	for _, c := range claims.Items {
		if c.DeletionTimestamp != nil || c.Status.Phase != "Bound" {
			t.Errorf("claim %s is %s, deleted at %v", c.Name, c.Status.Phase, c.DeletionTimestamp)
		}
	}
	sink.Set(probe.Mood{})
	apply(t)
	s.Rolled(kube.Ingress, kube.Dispatcher, kube.Controller)
	for _, id := range ids {
		s.Eventually("an event from before the removal is delivered", settle, func() (bool, string) {
			return answered(sink, []string{id}) == 1, id
		})
	}
}
