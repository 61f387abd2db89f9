package kube

import (
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduck "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// NewBroker is a Broker of the class under test.
func (s *Space) NewBroker(name string, change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	b := &eventingv1.Broker{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: s.Name, Annotations: map[string]string{eventingv1.BrokerClassAnnotationKey: s.Class},
	}}
	for _, f := range change {
		f(b)
	}
	return b
}

// Broker makes one.
func (s *Space) Broker(name string, change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	s.t.Helper()
	b, err := s.Eventing.EventingV1().Brokers(s.Name).Create(s.ctx, s.NewBroker(name, change...), metav1.CreateOptions{})
	if err != nil {
		s.t.Fatalf("make Broker %s: %v", name, err)
	}
	return b
}

// ReadyBroker makes one and waits for it.
func (s *Space) ReadyBroker(name string, change ...func(*eventingv1.Broker)) *eventingv1.Broker {
	s.t.Helper()
	s.Broker(name, change...)
	return s.AwaitBroker(name)
}

// NewTrigger is a Trigger of a Broker.
func (s *Space) NewTrigger(name, broker string, to duckv1.Destination, change ...func(*eventingv1.Trigger)) *eventingv1.Trigger {
	tr := &eventingv1.Trigger{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.Name},
		Spec:       eventingv1.TriggerSpec{Broker: broker, Subscriber: to},
	}
	for _, f := range change {
		f(tr)
	}
	return tr
}

// Trigger makes one.
func (s *Space) Trigger(name, broker string, to duckv1.Destination, change ...func(*eventingv1.Trigger)) *eventingv1.Trigger {
	s.t.Helper()
	tr, err := s.Eventing.EventingV1().Triggers(s.Name).Create(s.ctx, s.NewTrigger(name, broker, to, change...), metav1.CreateOptions{})
	if err != nil {
		s.t.Fatalf("make Trigger %s: %v", name, err)
	}
	return tr
}

// ReadyTrigger makes one and waits for it.
func (s *Space) ReadyTrigger(name, broker string, to duckv1.Destination, change ...func(*eventingv1.Trigger)) *eventingv1.Trigger {
	s.t.Helper()
	s.Trigger(name, broker, to, change...)
	return s.AwaitTrigger(name)
}

// Attributes is the older filter.
func Attributes(pairs ...string) func(*eventingv1.Trigger) {
	m := make(map[string]string, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(tr *eventingv1.Trigger) { tr.Spec.Filter = &eventingv1.TriggerFilter{Attributes: m} }
}

// Filters is the newer ones.
func Filters(all ...eventingv1.SubscriptionsAPIFilter) func(*eventingv1.Trigger) {
	return func(tr *eventingv1.Trigger) { tr.Spec.Filters = all }
}

// Delivery is a delivery specification; sink may be nil, retry negative for none.
func Delivery(sink *Receiver, retry int32) *eventingduck.DeliverySpec {
	d := &eventingduck.DeliverySpec{}
	if sink != nil {
		to := sink.Ref()
		d.DeadLetterSink = &to
	}
	if retry >= 0 {
		d.Retry = &retry
	}
	return d
}

// Backoff adds a wait.
func Backoff(d *eventingduck.DeliverySpec, policy eventingduck.BackoffPolicyType, delay string) *eventingduck.DeliverySpec {
	d.BackoffPolicy, d.BackoffDelay = &policy, &delay
	return d
}

// Delivers gives a Trigger its delivery specification, BrokerDelivers a Broker.
func Delivers(d *eventingduck.DeliverySpec) func(*eventingv1.Trigger) {
	return func(tr *eventingv1.Trigger) { tr.Spec.Delivery = d }
}

// BrokerDelivers gives a Broker its delivery specification.
func BrokerDelivers(d *eventingduck.DeliverySpec) func(*eventingv1.Broker) {
	return func(b *eventingv1.Broker) { b.Spec.Delivery = d }
}

// GetBroker reads one.
func (s *Space) GetBroker(name string) *eventingv1.Broker {
	s.t.Helper()
	b, err := s.Eventing.EventingV1().Brokers(s.Name).Get(s.ctx, name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatalf("read Broker %s: %v", name, err)
	}
	return b
}

// GetTrigger reads one.
func (s *Space) GetTrigger(name string) *eventingv1.Trigger {
	s.t.Helper()
	tr, err := s.Eventing.EventingV1().Triggers(s.Name).Get(s.ctx, name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatalf("read Trigger %s: %v", name, err)
	}
	return tr
}

// ChangeBroker updates one, again where somebody else was faster.
func (s *Space) ChangeBroker(name string, change func(*eventingv1.Broker)) error {
	for {
		b := s.GetBroker(name)
		change(b)
		if _, err := s.Eventing.EventingV1().Brokers(s.Name).Update(s.ctx, b, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// ChangeTrigger updates one, again where somebody else was faster.
func (s *Space) ChangeTrigger(name string, change func(*eventingv1.Trigger)) error {
	for {
		tr := s.GetTrigger(name)
		change(tr)
		if _, err := s.Eventing.EventingV1().Triggers(s.Name).Update(s.ctx, tr, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
			return err
		}
	}
}

// AwaitBroker waits until it is Ready.
func (s *Space) AwaitBroker(name string) *eventingv1.Broker {
	s.t.Helper()
	var b *eventingv1.Broker
	s.Eventually("Broker "+name+" is Ready", Patience, func() (bool, string) {
		b = s.GetBroker(name)
		return b.IsReady(), Conditions(b.Status.Status)
	})
	return b
}

// AwaitTrigger waits until it is Ready.
func (s *Space) AwaitTrigger(name string) *eventingv1.Trigger {
	s.t.Helper()
	tr := s.AwaitTriggerThat(name, "is Ready", func(tr *eventingv1.Trigger) bool {
		return tr.Status.IsReady() && tr.Status.ObservedGeneration == tr.Generation
	})
	if s.Class == Reference {
		s.Quiet(time.Second) // it says Ready before its filter knows
	}
	return tr
}

// AwaitTriggerThat waits until a Trigger is as told.
func (s *Space) AwaitTriggerThat(name, what string, is func(*eventingv1.Trigger) bool) *eventingv1.Trigger {
	s.t.Helper()
	var tr *eventingv1.Trigger
	s.Eventually("Trigger "+name+" "+what, Patience, func() (bool, string) {
		tr = s.GetTrigger(name)
		return is(tr), Conditions(tr.Status.Status)
	})
	return tr
}

// AwaitBrokerThat waits until a Broker is as told.
func (s *Space) AwaitBrokerThat(name, what string, is func(*eventingv1.Broker) bool) *eventingv1.Broker {
	s.t.Helper()
	var b *eventingv1.Broker
	s.Eventually("Broker "+name+" "+what, Patience, func() (bool, string) {
		b = s.GetBroker(name)
		return is(b), Conditions(b.Status.Status)
	})
	return b
}

// Condition is one condition of a status, or nil.
func Condition(status duckv1.Status, name string) *apis.Condition {
	for i := range status.Conditions {
		if string(status.Conditions[i].Type) == name {
			return &status.Conditions[i]
		}
	}
	return nil
}

// IsFalse reports whether a condition says no.
func IsFalse(status duckv1.Status, name string) bool { return Condition(status, name).IsFalse() }

// Conditions is a status in a line for each condition.
func Conditions(status duckv1.Status) string {
	if len(status.Conditions) == 0 {
		return "no conditions"
	}
	var b strings.Builder
	for _, c := range status.Conditions {
		fmt.Fprintf(&b, "\n  %s %s", c.Type, c.Status)
		if c.Reason != "" || c.Message != "" {
			fmt.Fprintf(&b, " (%s: %s)", c.Reason, c.Message)
		}
	}
	return b.String()
}

// Address is where events for a Broker are posted.
func Address(b *eventingv1.Broker) string {
	if b.Status.Address == nil || b.Status.Address.URL == nil {
		return ""
	}
	return b.Status.Address.URL.String()
}
