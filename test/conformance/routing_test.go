package conformance

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

// route is one Trigger of a routing test.
type route struct {
	filter  string // type, "" for none
	replies bool
	want    []string // types of the events that must come, and no others
}

func controlPlaneRouting(t *testing.T) {
	const full, reply = "com.example.FullEvent", "com.example.ReplyEvent"
	s := kube.New(t)
	for i, c := range []struct {
		name   string
		routes []route
	}{
		{"One trigger, no filter, gets event", []route{{want: []string{full}}}},
		{"One trigger, with filter, does not get event", []route{{filter: "mytype"}}},
		{"One trigger, with filter, gets the event", []route{{filter: full, want: []string{full}}}},
		{"Two triggers, with filter, both get the event", []route{{filter: full, want: []string{full}}, {filter: full, want: []string{full}}}},
		{"Two triggers, with filter, only matching one gets the event", []route{{filter: "notmytype"}, {filter: full, want: []string{full}}}},
		{"Two triggers, with filter, first one matches incoming event, creates reply, which matches the second one",
			[]route{{filter: full, replies: true, want: []string{full}}, {filter: reply, want: []string{reply}}}},
		{"Two triggers, with no filters, both get the event", []route{{want: []string{full}}, {want: []string{full}}}},
	} {
		broker := fmt.Sprintf("routing-test-%d", i)
		in(t, s, "Event Routing Spec - "+broker).should(c.name, func(s *kube.Space) {
			url := kube.Address(s.ReadyBroker(broker))
			var sinks []*kube.Receiver
			for n, r := range c.routes {
				name := fmt.Sprintf("r%d-t%d", i, n)
				var steps []probe.Step
				if r.replies {
					steps = []probe.Step{{Reply: &probe.Reply{Set: map[string]string{"type": reply}}}}
				}
				sinks = append(sinks, s.Receiver(name, steps...))
				var change []func(*eventingv1.Trigger)
				if r.filter != "" {
					change = append(change, kube.Attributes("type", r.filter))
				}
				s.ReadyTrigger(name, broker, sinks[n].Ref(), change...)
			}
			e := kube.Full()
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			for n, r := range c.routes {
				sinks[n].Await(e.ID(), len(r.want))
			}
			s.Quiet(time.Second)
			for n, r := range c.routes {
				got := sinks[n].Got()
				if len(got) != len(r.want) {
					s.T().Errorf("Trigger %d received %d events, want %v", n, len(got), r.want)
					continue
				}
				for k, req := range got {
					want := e.Clone()
					want.SetType(r.want[k])
					if r.want[k] == reply {
						caused(s, &want, e)
					}
					same(s, want, s.Read(req))
				}
			}
		})
	}
}

func retries(n int32, sink bool) *delivery { return &delivery{retry: n, sink: sink} }

type delivery struct {
	retry int32
	sink  bool
}

func (d *delivery) spec(sink *kube.Receiver) *eventingduck.DeliverySpec {
	if d == nil {
		return nil
	}
	if !d.sink {
		sink = nil
	}
	return kube.Delivery(sink, d.retry)
}

// controlPlaneDeliverySpec compares the exact number of attempts at each
// subscriber and of dead letters at each sink.
func controlPlaneDeliverySpec(t *testing.T) {
	type trigger struct {
		delivery              *delivery
		fails                 int
		attempts, deadLetters int
	}
	s := kube.New(t)
	for i, c := range []struct {
		name   string
		broker *delivery
		t      [2]trigger
		dead   int // letters at the Broker's sink
	}{
		{"When `BrokerSpec.Delivery` and `TriggerSpec.Delivery` are both not configured, no delivery spec SHOULD be used.",
			nil, [2]trigger{{attempts: 1}, {attempts: 1}}, 0},
		{"When `BrokerSpec.Delivery` is configured, but not the specific `TriggerSpec.Delivery`, then the `BrokerSpec.Delivery` SHOULD be used. (Retry)",
			retries(3, true), [2]trigger{{fails: 3, attempts: 4}, {fails: 4, attempts: 4}}, 1},
		{"When `TriggerSpec.Delivery` is configured, then `TriggerSpec.Delivery` SHOULD be used. (Retry)",
			retries(0, false), [2]trigger{{delivery: retries(3, true), fails: 3, attempts: 4}, {delivery: retries(1, false), fails: 2, attempts: 2}}, 0},
		{"When both `BrokerSpec.Delivery` and `TriggerSpec.Delivery` is configured, then `TriggerSpec.Delivery` SHOULD be used. (Retry)",
			retries(1, true), [2]trigger{{delivery: retries(3, true), fails: 3, attempts: 4}, {fails: 2, attempts: 2}}, 1},
		{"When both `BrokerSpec.Delivery` and `TriggerSpec.Delivery` is configured, then `TriggerSpec.Delivery` SHOULD be used. (Retry+DLQ)",
			retries(1, true), [2]trigger{{delivery: retries(3, true), fails: 4, attempts: 4, deadLetters: 1}, {fails: 2, attempts: 2}}, 1},
	} {
		broker := fmt.Sprintf("dlq-test-%d", i)
		in(t, s, "Delivery Spec - "+broker).should(c.name, func(s *kube.Space) {
			name := func(what string) string { return fmt.Sprintf("d%d-%s", i, what) }
			dead := s.Receiver(name("dead"))
			url := kube.Address(s.ReadyBroker(broker, kube.BrokerDelivers(c.broker.spec(dead))))
			var subs, sinks [2]*kube.Receiver
			for n, tr := range c.t {
				subs[n] = s.Receiver(name(fmt.Sprintf("t%d", n)))
				if tr.fails > 0 {
					subs[n].Set(probe.Mood{Steps: []probe.Step{{Times: tr.fails, Status: http.StatusConflict}}})
				}
				sinks[n] = s.Receiver(name(fmt.Sprintf("t%d-dead", n)))
				s.ReadyTrigger(subs[n].Name, broker, subs[n].Ref(), kube.Delivers(tr.delivery.spec(sinks[n])))
			}
			e := kube.Full()
			if s.Class == kube.Reference {
				s.Send(kube.Binary(url, e)) // it answers 500 where the event is dropped
			} else {
				s.Post(http.StatusAccepted, kube.Binary(url, e))
			}
			for n, tr := range c.t {
				subs[n].Await(e.ID(), tr.attempts)
				sinks[n].Await(e.ID(), tr.deadLetters)
			}
			dead.Await(e.ID(), c.dead)
			s.Quiet(2 * time.Second)
			for n, tr := range c.t {
				if got := subs[n].Total(); got != tr.attempts {
					s.T().Errorf("%d attempts at Trigger %d, want %d", got, n, tr.attempts)
				}
				if got := sinks[n].Total(); got != tr.deadLetters {
					s.T().Errorf("%d dead letters of Trigger %d at its own sink, want %d", got, n, tr.deadLetters)
				}
			}
			if got := dead.Total(); got != c.dead {
				s.T().Errorf("%d dead letters at the Broker's sink, want %d", got, c.dead)
			}
		})
	}
}
