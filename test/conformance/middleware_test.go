package conformance

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/test/kube"
	"github.com/penstock-events/penstock/test/kube/probe"
)

func TestBrokerAsMiddleware(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("default"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("via", "default", sink.Ref())
	in(t, s, "broker as middleware").must("deliver an event", func(s *kube.Space) {
		e := kube.Full()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		sink.Exactly(e.ID(), 1)
	})
}

// TestBrokerWithManyTriggers sends every event to a Broker with many filters:
// each subscriber gets what its filter matches, and nothing else.
func TestBrokerWithManyTriggers(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	const any = ""
	type attrs map[string]string
	for i, c := range []struct {
		name    string
		filters map[string]attrs
		events  []attrs
	}{{
		name: "test default broker with many attribute triggers",
		filters: map[string]attrs{
			"a1": {"type": any, "source": any}, "a12": {"type": "type1", "source": any},
			"a123": {"type": any, "source": "http://source1.com"}, "a1234": {"type": "type1", "source": "http://source1.com"},
		},
		events: []attrs{
			{"type": "type1", "source": "http://source1.com"}, {"type": "type1", "source": "http://source2.com"},
			{"type": "type2", "source": "http://source1.com"}, {"type": "type2", "source": "http://source2.com"},
		},
	}, {
		name: "test default broker with many attribute and extension triggers",
		filters: map[string]attrs{
			"b12345":   {"type": any, "source": any, "extname1": "extval1"},
			"b123456":  {"type": any, "source": any, "extname1": "extval1", "extname2": "extvalue2"},
			"b1234567": {"type": any, "source": any, "extname2": "extvalue2"},
			"b654321":  {"type": "type1", "source": any, "extname1": "extval1"},
			"b54321":   {"type": any, "source": any, "extname1": any},
			"b4321":    {"type": any, "source": "http://source1.com", "extname1": "extval1"},
			"b321":     {"type": any, "source": "http://source1.com", "extname1": "extval1", "extname2": "extvalue2"},
			"b21":      {"type": any, "source": "http://source2.com", "extname1": "extval1", "extname2": "extval1"},
		},
		events: []attrs{
			{"type": "type1", "source": "http://source1.com", "extname1": "extval1"},
			{"type": "type1", "source": "http://source1.com", "extname1": "extval1", "extname2": "extvalue2"},
			{"type": "type1", "source": "http://source1.com", "extname2": "extvalue2"},
			{"type": "type1", "source": "http://source2.com", "extname1": "extval1"},
			{"type": "type2", "source": "http://source1.com", "extname1": "nonmatchingextval"},
			{"type": "type2", "source": "http://source2.com", "nonmatchingextname": "extval1"},
			{"type": "type2", "source": "http://source2.com", "extname1": "extval1", "extname2": "extvalue2"},
			{"type": "type2", "source": "http://source2.com", "extname1": "extval1", "nonmatchingextname": "extvalue2"},
		},
	}} {
		in(t, s, "Broker with many triggers").must(c.name, func(s *kube.Space) {
			broker := fmt.Sprintf("many-%d", i)
			url := kube.Address(s.ReadyBroker(broker))
			sinks := make(map[string]*kube.Receiver)
			for name, filter := range c.filters {
				var pairs []string
				for k, v := range filter {
					pairs = append(pairs, k, v)
				}
				sinks[name] = s.Receiver(name)
				s.Trigger(name, broker, sinks[name].Ref(), kube.Attributes(pairs...))
			}
			for name := range c.filters {
				s.AwaitTrigger(name)
			}
			want := make(map[string]map[string]bool) // sink, then id
			for n, attrs := range c.events {
				e := kube.Small("")
				for k, v := range attrs {
					switch k {
					case "type":
						e.SetType(v)
					case "source":
						e.SetSource(v)
					default:
						e.SetExtension(k, v)
					}
				}
				for name, filter := range c.filters {
					if matches(filter, attrs) {
						if want[name] == nil {
							want[name] = make(map[string]bool)
						}
						want[name][e.ID()] = true
					}
				}
				m := kube.Binary(url, e)
				if n%2 == 1 {
					m = kube.Structured(url, e)
				}
				s.Post(http.StatusAccepted, m)
			}
			for name, ids := range want {
				for id := range ids {
					sinks[name].Await(id, 1)
				}
			}
			s.Quiet(time.Second)
			for name, sink := range sinks {
				for _, req := range sink.Got() {
					if !want[name][req.ID] {
						s.T().Errorf("%s received an event that its filter %v does not match: %v", name, c.filters[name], req.Headers)
					}
					if got := kube.Header(req, "Kn-Namespace"); got != s.Name {
						s.T().Errorf("%s: header Kn-Namespace is %q, want %q", name, got, s.Name)
					}
				}
			}
		})
	}
}

func matches(filter, attrs map[string]string) bool {
	for k, v := range filter {
		got, present := attrs[k]
		if !present || v != "" && v != got {
			return false
		}
	}
	return true
}

var transform = probe.Step{Reply: &probe.Reply{
	Set: map[string]string{"type": "type2", "source": "http://source2.com"}, Data: `{"msg":"transformed body"}`,
}}

func original() event.Event {
	e := kube.Small("type1")
	e.SetSource("http://source1.com")
	_ = e.SetData(event.ApplicationJSON, []byte(`{"msg":"e2e-brokerchannel-body"}`))
	return e
}

// countTypes counts what came by type.
func countTypes(s *kube.Space, all []probe.Request) map[string]int {
	n := make(map[string]int)
	for _, req := range all {
		n[s.Read(req).Type()]++
	}
	return n
}

func TestBrokerWorkFlowWithTransformation(t *testing.T) {
	t.Parallel()
	s := kube.New(t)

	f := in(t, s, "Broker topology of transformation")
	if !s.HasReference {
		f.absent = "Knative's in-memory channel is not installed"
	}
	f.must("delivers the transformed event, and no other, to the Channel's subscriber", func(s *kube.Space) {
		url := kube.Address(s.ReadyBroker("flow"))
		sink1, sink2, sink3 := s.Receiver("sink1", transform), s.Receiver("sink2"), s.Receiver("sink3")
		channel(s, "channel", sink3)
		s.ReadyTrigger("flow1", "flow", sink1.Ref(), kube.Attributes("type", "type1", "source", "http://source1.com"))
		s.ReadyTrigger("flow2", "flow", sink2.Ref(), kube.Attributes("type", ""))
		s.ReadyTrigger("flow3", "flow", duckv1.Destination{Ref: &duckv1.KReference{
			APIVersion: "messaging.knative.dev/v1", Kind: "InMemoryChannel", Name: "channel", Namespace: s.Name,
		}}, kube.Attributes("type", "type2", "source", "http://source2.com"))
		e := original()
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		sink1.Await(e.ID(), 1)
		sink2.Await(e.ID(), 2)
		sink3.Await(e.ID(), 1)
		s.Quiet(time.Second)
		if got := countTypes(s, sink2.Got()); got["type1"] < 1 || got["type2"] < 1 {
			s.T().Errorf("the subscriber to all received %v", got)
		}
		if got := countTypes(s, sink3.Got()); got["type1"] > 0 {
			s.T().Errorf("the Channel's subscriber received %v", got)
		}
	})
	in(t, s, "Broker event transformation for trigger").must("Trigger has filtered all transformed events", func(s *kube.Space) {
		url := kube.Address(s.ReadyBroker("transformation"))
		one, two := s.Receiver("one", transform), s.Receiver("two")
		s.ReadyTrigger("one", "transformation", one.Ref(), kube.Attributes("type", "type1", "source", "http://source1.com"))
		s.ReadyTrigger("two", "transformation", two.Ref(), kube.Attributes("type", "type2", "source", "http://source2.com"))
		e := original()
		s.Post(http.StatusAccepted, kube.Structured(url, e))
		got := s.Read(two.Await(e.ID(), 1)[0])
		if got.Type() != "type2" || got.Source() != "http://source2.com" || string(got.Data()) != `{"msg":"transformed body"}` {
			s.T().Errorf("the transformed event came as %v", got)
		}
		one.Exactly(e.ID(), 1)
		two.Exactly(e.ID(), 1)
	})
}

// channel makes an InMemoryChannel with one subscriber.
func channel(s *kube.Space, name string, to *kube.Receiver) {
	s.T().Helper()
	objects := map[string]map[string]any{
		"inmemorychannels": {"kind": "InMemoryChannel", "metadata": map[string]any{"name": name}},
		"subscriptions": {"kind": "Subscription", "metadata": map[string]any{"name": name}, "spec": map[string]any{
			"channel":    map[string]any{"apiVersion": "messaging.knative.dev/v1", "kind": "InMemoryChannel", "name": name},
			"subscriber": map[string]any{"uri": to.URL()},
		}},
	}
	for _, resource := range []string{"inmemorychannels", "subscriptions"} {
		object := objects[resource]
		object["apiVersion"] = "messaging.knative.dev/v1"
		client := s.Dynamic.Resource(schema.GroupVersionResource{Group: "messaging.knative.dev", Version: "v1", Resource: resource}).Namespace(s.Name)
		if _, err := client.Create(s.Context(), &unstructured.Unstructured{Object: object}, metav1.CreateOptions{}); err != nil {
			s.T().Fatalf("make %s %s: %v", object["kind"], name, err)
		}
		if resource == "subscriptions" {
			// Its finalizer needs the channel, which goes with the namespace.
			s.T().Cleanup(func() {
				_ = client.Delete(s.Context(), name, metav1.DeleteOptions{})
				s.Eventually("the Subscription is gone", kube.Patience, func() (bool, string) {
					_, err := client.Get(s.Context(), name, metav1.GetOptions{})
					return apierrors.IsNotFound(err), fmt.Sprint(err)
				})
			})
		}
		s.Eventually(fmt.Sprint(object["kind"], " is Ready"), kube.Patience, func() (bool, string) {
			got, err := client.Get(s.Context(), name, metav1.GetOptions{})
			if err != nil {
				return false, err.Error()
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			for _, c := range conditions {
				if c, ok := c.(map[string]any); ok && c["type"] == "Ready" && c["status"] == "True" {
					return true, ""
				}
			}
			return false, fmt.Sprint(conditions)
		})
	}
}

func TestBrokerPreferHeaderCheck(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("via", "broker", sink.Ref())
	in(t, s, "Broker PreferHeader Check").must("test message without explicit prefer header should have the header", func(s *kube.Space) {
		e := kube.Small("type1")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		if got := kube.Header(sink.Await(e.ID(), 1)[0], "Prefer"); got != "reply" {
			s.T().Errorf("header Prefer is %q", got)
		}
	})
}

func TestBrokerDefaultDelivery(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	s.ReadyBroker("broker")
	in(t, s, "default delivery spec").admission().must("broker has delivery spec set", func(s *kube.Space) {
		d := s.GetBroker("broker").Spec.Delivery
		if d == nil || d.Retry == nil || d.BackoffDelay == nil || d.BackoffPolicy == nil {
			s.T().Errorf("spec.delivery is %+v", d)
		}
	})
}

func TestBrokerDeliverLongMessage(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("trigger", "broker", sink.Ref())
	in(t, s, "Broker Subscriber with long data message").must("receive long event on sink exactly once", func(s *kube.Space) {
		e := kube.Small("type1")
		if err := e.SetData(event.TextPlain, []byte(strings.Repeat("X", 36864))); err != nil {
			s.T().Fatal(err)
		}
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		same(s, e, s.Read(sink.Exactly(e.ID(), 1)[0]))
	})
}

func TestBrokerDeliverLongResponseMessage(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	url := kube.Address(s.ReadyBroker("broker"))
	long := `{"msg":"` + strings.Repeat("X", 36000) + `"}`
	sink1 := s.Receiver("sink1", probe.Step{Reply: &probe.Reply{Set: map[string]string{"type": "type2", "source": "source2"}, Data: long}})
	sink2 := s.Receiver("sink2")
	s.ReadyTrigger("trigger1", "broker", sink1.Ref(), kube.Attributes("type", "type1"))
	s.ReadyTrigger("trigger2", "broker", sink2.Ref(), kube.Attributes("type", "type2", "source", "source2"))
	in(t, s, "Broker, chain of Triggers, long response message from first subscriber").must("receive long event on sink1 and sink2 exactly once", func(s *kube.Space) {
		e := kube.Small("type1")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		if got := s.Read(sink2.Exactly(e.ID(), 1)[0]); string(got.Data()) != long {
			s.T().Errorf("%d bytes came, %d were sent", len(got.Data()), len(long))
		}
		sink1.Exactly(e.ID(), 1)
	})
}

// TestBrokerRedelivery has the failures at the receiver, where Knative's older
// test of this name has them; its newer one has them at the sender.
func TestBrokerRedelivery(t *testing.T) {
	t.Parallel()
	s := kube.New(t)
	const retry = 5
	for name, fails := range map[string][]int{
		"fibonacci": {1, 2, 3, 5, 8}, // of the requests, by number
		"sequence":  {1, 2, 3, 4, 5},
	} {
		in(t, s, "Knative Broker - Redelivery - with different sequences").must(name, func(s *kube.Space) {
			var steps []probe.Step
			for n := 1; n <= retry+1; n++ {
				step := probe.Step{Times: 1}
				for _, bad := range fails {
					if bad == n {
						step.Status = http.StatusConflict
					}
				}
				steps = append(steps, step)
			}
			sink := s.Receiver(name, steps...)
			url := kube.Address(s.ReadyBroker(name, kube.BrokerDelivers(kube.Backoff(kube.Delivery(nil, retry), eventingduck.BackoffPolicyLinear, "PT0.2S"))))
			s.ReadyTrigger(name, name, sink.Ref())
			e := kube.Small("type")
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			s.Eventually("a delivery that is answered 200", kube.Patience, func() (bool, string) {
				all := sink.Got()
				return len(all) > 0 && all[len(all)-1].Status == http.StatusOK, fmt.Sprintf("%d attempts", len(all))
			})
			for _, req := range sink.Got() {
				if got := kube.Header(req, "Kn-Namespace"); got != s.Name {
					s.T().Errorf("header Kn-Namespace is %q, want %q", got, s.Name)
				}
				same(s, e, s.Read(req))
			}
		})
	}
}
