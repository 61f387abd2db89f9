package controller

import (
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Judge says what is wrong with declarations, exactly as the data plane would.
// Its methods may be called by any number of goroutines.
type Judge struct {
	Channels []string // kinds of channel that the dispatchers have; nil: disk alone
}

// found stands in for URLs when a declaration is judged: that one is not known
// yet is for other conditions to say.
const found = "http://found.invalid/"

// Broker is the first fault of a Broker, in its spec, its annotations or the
// settings that stand in its status, "" if there is none, and the kind of
// channel that it has.
func (j *Judge) Broker(b *eventingv1.Broker) (reason, message, channel string) {
	o := kube.Broker(b)
	o.Resolved = &config.Resolved{DeadLetterSink: found}
	s := config.Compile([]*config.Object{o}, config.Options{Channels: j.Channels, Keys: filter.NoKeys{}})
	if len(s.Brokers()) == 0 {
		reason, message = refused(s)
		return reason, message, ""
	}
	judged := s.Brokers()[0]
	return judged.Reason, judged.Message, judged.Channel
}

// Public is what of a ConfigMap's settings may be shown in a Broker's status:
// all keys, and the values of those that we know. Who may make a Broker may
// not therefore read what somebody else keeps in a ConfigMap. known reports
// whether there is any key that we know.
func (j *Judge) Public(settings map[string]string) (shown map[string]string, known bool) {
	shown = make(map[string]string, len(settings))
	for key, value := range settings {
		o := &config.Object{Kind: config.KindBroker, Namespace: "a", Name: "b", UID: "c", Broker: &config.BrokerSpec{}, Settings: map[string]string{key: value}}
		s := config.Compile([]*config.Object{o}, config.Options{Channels: j.Channels})
		if len(s.Brokers()) == 0 || s.Brokers()[0].Reason == config.ReasonUnsupportedAnnotation {
			value = ""
		} else {
			known = true
		}
		shown[key] = value
	}
	return shown, known
}

// Trigger is the first fault of a Trigger's own. What is wrong with its Broker
// is not one.
func (j *Judge) Trigger(t *eventingv1.Trigger) (reason, message string) {
	o := kube.Trigger(t)
	o.Resolved = &config.Resolved{Subscriber: found, DeadLetterSink: found}
	target := TargetOf(t)
	broker := &config.Object{Kind: config.KindBroker, Namespace: target.Namespace, Name: target.Name, UID: "broker", Broker: &config.BrokerSpec{}}
	s := config.Compile([]*config.Object{broker, o}, config.Options{Keys: filter.NoKeys{}})
	if len(s.Triggers()) == 0 {
		return refused(s)
	}
	return s.Triggers()[0].Reason, s.Triggers()[0].Message
}

// refused is the fault of an object that did not even get in.
func refused(s *config.Snapshot) (reason, message string) {
	message = "it cannot be read"
	if p := s.Problems(); len(p) > 0 {
		message = p[0].Message
	}
	return config.ReasonSpecInvalid, message
}
