package kube

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/kube"
)

// blame is what a status complains about: reason and message of a condition
// that is not True, other than the one on top.
func blame(status duckv1.Status, reason string) string {
	for _, c := range status.Conditions {
		if c.Type != "Ready" && !c.IsTrue() && regexp.MustCompile("^("+reason+")$").MatchString(c.Reason) {
			return c.Message
		}
	}
	return ""
}

var nowhere = duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "nowhere"}}

// here gives a reference the namespace that the webhook would give it.
func here(s *kube.Space, d duckv1.Destination) duckv1.Destination {
	d = *d.DeepCopy()
	d.Ref.Namespace = s.Name
	return d
}

// TestAMistakeInATriggerIsNamedAndHurtsNobodyElse: each is a condition with a
// reason and a message that names the cure, goes when it is mended, and the
// neighbour on the same Broker does not notice.
func TestAMistakeInATriggerIsNamedAndHurtsNobodyElse(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	good, sink := s.Receiver("good"), s.Receiver("sink")
	s.ReadyTrigger("good", "default", good.Ref(), kube.Attributes("type", "good"))
	lost := here(s, nowhere)
	for _, c := range []struct {
		name, reason, says string
		change             func(*eventingv1.Trigger)
		mend               func(*eventingv1.Trigger)
		refusable          bool // by Knative's webhook
	}{{
		name: "filter that is no boolean", reason: "FilterInvalid", says: "filters", refusable: true,
		change: kube.Filters(eventingv1.SubscriptionsAPIFilter{CESQL: "1 + 1"}),
		mend:   kube.Filters(eventingv1.SubscriptionsAPIFilter{CESQL: "1 + 1 = 2"}),
	}, {
		name: "filter that does not parse", reason: "FilterInvalid", says: "filters", refusable: true,
		change: kube.Filters(eventingv1.SubscriptionsAPIFilter{CESQL: "type = "}),
		mend:   kube.Filters(),
	}, {
		name: "subscriber that is not there", reason: "SubscriberNotResolved", says: "nowhere",
		change: func(tr *eventingv1.Trigger) { tr.Spec.Subscriber = lost },
		mend:   func(tr *eventingv1.Trigger) { tr.Spec.Subscriber = sink.Ref() },
	}, {
		name: "dead letter sink that is not there", reason: "DeadLetterSinkNotResolved", says: "nowhere",
		change: kube.Delivers(&eventingduck.DeliverySpec{DeadLetterSink: &lost}),
		mend:   kube.Delivers(nil),
	}, {
		name: "annotation that nobody knows", reason: "UnsupportedAnnotation", says: "penstock.dev/colour",
		change: func(tr *eventingv1.Trigger) { tr.Annotations = map[string]string{"penstock.dev/colour": "red"} },
		mend:   func(tr *eventingv1.Trigger) { delete(tr.Annotations, "penstock.dev/colour") },
	}, {
		name: "annotation of no value", reason: "AnnotationInvalid", says: "penstock.dev/backoff-max",
		change: func(tr *eventingv1.Trigger) { tr.Annotations = map[string]string{"penstock.dev/backoff-max": "long"} },
		mend:   func(tr *eventingv1.Trigger) { delete(tr.Annotations, "penstock.dev/backoff-max") },
	}} {
		t.Run(c.name, func(t *testing.T) {
			s := s.In(t)
			name := strings.ReplaceAll(c.name, " ", "-")
			_, err := s.Eventing.EventingV1().Triggers(s.Name).Create(s.Context(),
				s.NewTrigger(name, "default", sink.Ref(), kube.Attributes("type", name), c.change), metav1.CreateOptions{})
			if err != nil {
				if c.refusable && s.Webhook {
					t.Logf("refused by Knative's webhook: %v", err)
					return
				}
				t.Fatal(err)
			}
			tr := s.AwaitTriggerThat(name, "names the mistake", func(tr *eventingv1.Trigger) bool {
				return blame(tr.Status.Status, c.reason) != "" && kube.IsFalse(tr.Status.Status, "Ready")
			})
			if says := blame(tr.Status.Status, c.reason); !strings.Contains(says, c.says) {
				t.Errorf("the message does not name %s: %s", c.says, says)
			} else {
				t.Logf("%s: %s", c.reason, says)
			}
			e := kube.Small("good")
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			good.Await(e.ID(), 1)

			if err := s.ChangeTrigger(name, c.mend); err != nil {
				t.Fatal(err)
			}
			s.AwaitTrigger(name)
			e = kube.Small(name)
			s.Post(http.StatusAccepted, kube.Binary(url, e))
			if c.name[:6] != "filter" {
				sink.Await(e.ID(), 1)
			}
		})
	}
}

// TestASubscriberThatAppearsLaterMakesItsTriggerReady, and what was accepted
// meanwhile arrives.
func TestASubscriberThatAppearsLaterMakesItsTriggerReady(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	late := here(s, duckv1.Destination{Ref: &duckv1.KReference{APIVersion: "v1", Kind: "Service", Name: "late"}})
	s.Trigger("trigger", "default", late)
	s.AwaitTriggerThat("trigger", "misses its subscriber", func(tr *eventingv1.Trigger) bool {
		return kube.IsFalse(tr.Status.Status, "SubscriberResolved") && tr.Status.SubscriberURI == nil
	})
	// No condition says when a Trigger that is not Ready matches, but what it has pending does.
	d, pod := onDuty(t, s), s.PodsOf(kube.Dispatcher)[0]
	var e event.Event
	var had uint64
	s.Eventually("one more event is pending for the Trigger", kube.Patience, func() (bool, string) {
		e = kube.Small("meanwhile")
		s.Post(http.StatusAccepted, kube.Binary(url, e))
		s.Quiet(time.Second)
		var tr v1.Trigger
		a := d.ask(pod, http.MethodGet, "/api/v1/triggers/"+s.Name+"/trigger", nil, &tr)
		more := tr.Backlog > had
		had = tr.Backlog
		return more, fmt.Sprintf("status %d, %+v", a.Status, tr)
	})
	sink := s.Receiver("late")
	s.AwaitTrigger("trigger")
	sink.Await(e.ID(), 1)
}

// TestAnAddressThatCannotBeCalledIsReadyAndDeadLetters is Knative's rule for bad://uri.
func TestAnAddressThatCannotBeCalledIsReadyAndDeadLetters(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	good, dead := s.Receiver("good"), s.Receiver("dead")
	s.ReadyTrigger("good", "default", good.Ref())
	s.ReadyTrigger("bad", "default", kube.URI("bad://uri"), kube.Delivers(kube.Delivery(dead, 1)))
	e := kube.Full()
	s.Post(http.StatusAccepted, kube.Binary(url, e))
	good.Await(e.ID(), 1)
	letter := kube.Attrs(s.Read(dead.Exactly(e.ID(), 1)[0]))
	if letter["knativeerrordest"] == "" || letter["knativeerrorcode"] == "" {
		t.Errorf("the dead letter does not say why: %v", letter)
	}
}

// TestAMistakeInABrokerIsNamed: the Broker says so and takes nothing, and
// another Broker does not notice.
func TestAMistakeInABrokerIsNamed(t *testing.T) {
	t.Parallel()
	s := space(t)
	good := kube.Address(s.ReadyBroker("good"))
	config := func(name string, data map[string]string) *duckv1.KReference {
		if data != nil {
			if _, err := s.Kube.CoreV1().ConfigMaps(s.Name).Create(s.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: data}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		return &duckv1.KReference{APIVersion: "v1", Kind: "ConfigMap", Name: name, Namespace: s.Name}
	}
	annotate := func(key, value string) func(*eventingv1.Broker) {
		return func(b *eventingv1.Broker) { b.Annotations["penstock.dev/"+key] = value }
	}
	for _, c := range []struct {
		name, reason, says string
		change             func(*eventingv1.Broker)
	}{
		{"config-missing", "ConfigMapNotFound", "no-such-map", func(b *eventingv1.Broker) { b.Spec.Config = config("no-such-map", nil) }},
		{"config-value", "AnnotationInvalid", "retention", func(b *eventingv1.Broker) {
			b.Spec.Config = config("value", map[string]string{"retention": "tomorrow"})
		}},
		{"config-key", "UnsupportedAnnotation", "colour", func(b *eventingv1.Broker) {
			b.Spec.Config = config("key", map[string]string{"colour": "red"})
		}},
		{"channel-unknown", "AnnotationInvalid|ChannelUnavailable", "channel", annotate("channel", "tape")},
		{"annotation-unknown", "UnsupportedAnnotation", "penstock.dev/colour", annotate("colour", "red")},
		{"annotation-value", "AnnotationInvalid", "penstock.dev/retention", annotate("retention", "tomorrow")},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.In(t)
			s.Broker(c.name, c.change)
			b := s.AwaitBrokerThat(c.name, "names the mistake", func(b *eventingv1.Broker) bool {
				return blame(b.Status.Status, c.reason) != "" && kube.IsFalse(b.Status.Status, "Ready")
			})
			if says := blame(b.Status.Status, c.reason); !strings.Contains(says, c.says) {
				t.Errorf("the message does not name %s: %s", c.says, says)
			} else {
				t.Logf("%s: %s", c.reason, says)
			}
			if url := kube.Address(b); url != "" {
				// An ingress pod that has not heard of the Broker yet answers 404.
				s.Eventually("a Broker that is not Ready answers 503", 10*time.Second, func() (bool, string) {
					a := s.Send(kube.Binary(url, kube.Small("any")))[0]
					if a.Status != http.StatusServiceUnavailable && a.Status != http.StatusNotFound {
						t.Errorf("a Broker that is not Ready answers %d, want 503", a.Status)
					}
					return a.Status == http.StatusServiceUnavailable, fmt.Sprint(a.Status)
				})
			}
			s.Post(http.StatusAccepted, kube.Binary(good, kube.Small("any")))
		})
	}
}

// TestAChangedChannelIsRefusedAndNothingIsLost: a Broker keeps the channel that
// it was created with.
func TestAChangedChannelIsRefusedAndNothingIsLost(t *testing.T) {
	t.Parallel()
	s := space(t)
	url := kube.Address(s.ReadyBroker("default"))
	sink := s.Receiver("sink")
	s.ReadyTrigger("trigger", "default", sink.Ref())
	change := func(value string) {
		t.Helper()
		err := s.ChangeBroker("default", func(b *eventingv1.Broker) {
			if b.Annotations["penstock.dev/channel"] = value; value == "" {
				delete(b.Annotations, "penstock.dev/channel")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := kube.Small("before")
	s.Post(http.StatusAccepted, kube.Binary(url, before))
	sink.Await(before.ID(), 1)
	change("memory")
	b := s.AwaitBrokerThat("default", "refuses the change", func(b *eventingv1.Broker) bool {
		return blame(b.Status.Status, "ChannelImmutable|ChannelUnavailable") != ""
	})
	t.Log(blame(b.Status.Status, "ChannelImmutable|ChannelUnavailable"))
	change("")
	s.AwaitBroker("default")
	s.AwaitTrigger("trigger")
	after := kube.Small("after")
	s.Post(http.StatusAccepted, kube.Binary(url, after))
	sink.Await(after.ID(), 1)
}
