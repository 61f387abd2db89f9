package kube

import (
	"fmt"
	"maps"

	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Broker is a Broker in the form that config compiles, in the data plane and in
// the controller alike. Nothing of b is shared with it that anybody changes.
func Broker(b *eventingv1.Broker) *config.Object {
	o := &config.Object{
		Kind:           config.KindBroker,
		Namespace:      b.Namespace,
		Name:           b.Name,
		Annotations:    ours(b.Annotations),
		Broker:         &config.BrokerSpec{Config: reference(b.Spec.Config), Delivery: delivery(b.Spec.Delivery)},
		UID:            BrokerUID(b),
		CreatedChannel: b.Status.Annotations[ChannelAnnotation],
		Version:        BrokerVersion(b),
		Resolved:       &config.Resolved{DeadLetterSink: b.Status.DeadLetterSinkURI.String()},
	}
	settings(o, b)
	noPassword(o, "status.deadLetterSinkUri", config.ReasonDeadLetterNotResolved, b.Status.DeadLetterSinkURI)
	return o
}

// settings reads what the controller found in the ConfigMap of spec.config. To
// run before that is known would be to create, say, a Broker on disk that
// asks for memory.
func settings(o *config.Object, b *eventingv1.Broker) {
	text, given := b.Status.Annotations[SettingsAnnotation]
	if !given {
		if b.Spec.Config != nil {
			fault(o, "spec.config", config.ReasonSpecInvalid, "its settings are not known yet: the controller reads them, see that it runs")
		}
		return
	}
	data, err := DecodeSettings(text)
	if err != nil {
		fault(o, "status.annotations["+SettingsAnnotation+"]", config.ReasonSpecInvalid, err.Error()+": the controller writes them anew, see that it runs")
		return
	}
	o.Settings = data
}

// Trigger is a Trigger in the form that config compiles, see Broker. One that
// names a Broker of another namespace without being permitted to belongs to
// that Broker all the same, is not ready and matches nothing.
func Trigger(t *eventingv1.Trigger) *config.Object {
	o := &config.Object{
		Kind:        config.KindTrigger,
		Namespace:   t.Namespace,
		Name:        t.Name,
		Annotations: ours(t.Annotations),
		Trigger: &config.TriggerSpec{
			Broker:     t.Spec.Broker,
			BrokerRef:  reference(t.Spec.BrokerRef),
			Filter:     filterSpec(t),
			Subscriber: destination(&t.Spec.Subscriber),
			Delivery:   delivery(t.Spec.Delivery),
		},
		UID:     TriggerUID(t),
		Version: TriggerVersion(t),
		Resolved: &config.Resolved{
			Subscriber:     t.Status.SubscriberURI.String(),
			DeadLetterSink: t.Status.DeadLetterSinkURI.String(),
		},
	}
	if namespace, name := BrokerOf(t); namespace != t.Namespace {
		o.BrokerNamespace = namespace
		if !Permitted(t) {
			// A fault of the object as a whole keeps config from compiling the filter:
			// such a Trigger must not even have events wait for it.
			fault(o, "", config.ReasonSpecInvalid, fmt.Sprintf("spec.brokerRef.namespace: Broker %s/%s is in another namespace and the controller has not permitted it: "+
				"turn the feature cross-namespace-event-links on, or declare the Trigger in that namespace", namespace, name))
		}
	}
	noPassword(o, "status.subscriberUri", config.ReasonSubscriberInvalid, t.Status.SubscriberURI)
	noPassword(o, "status.deadLetterSinkUri", config.ReasonDeadLetterNotResolved, t.Status.DeadLetterSinkURI)
	return o
}

func fault(o *config.Object, field, reason, text string) {
	o.Faults = append(o.Faults, config.Fault{Field: field, Reason: reason, Text: text})
}

// noPassword refuses a URL with a user or password: it would be kept in dead
// letters and logs.
func noPassword(o *config.Object, field, reason string, u *apis.URL) {
	if u != nil && u.User != nil {
		fault(o, field, reason, "a URL with a user or password is refused: remove it")
		if reason == config.ReasonSubscriberInvalid {
			o.Resolved.Subscriber = ""
		} else {
			o.Resolved.DeadLetterSink = ""
		}
	}
}

func filterSpec(t *eventingv1.Trigger) filter.Spec {
	var spec filter.Spec
	if t.Spec.Filter != nil {
		spec.Attributes = maps.Clone(map[string]string(t.Spec.Filter.Attributes))
	}
	spec.Filters = dialects(t.Spec.Filters)
	return spec
}

// dialects keeps nil and empty apart: an empty all is a filter that is wrong,
// and one that is not there is none.
func dialects(in []eventingv1.SubscriptionsAPIFilter) []filter.Dialect {
	if in == nil {
		return nil
	}
	out := make([]filter.Dialect, len(in))
	for i := range in {
		out[i] = dialect(&in[i])
	}
	return out
}

func dialect(in *eventingv1.SubscriptionsAPIFilter) filter.Dialect {
	out := filter.Dialect{
		Exact:  maps.Clone(in.Exact),
		Prefix: maps.Clone(in.Prefix),
		Suffix: maps.Clone(in.Suffix),
		All:    dialects(in.All),
		Any:    dialects(in.Any),
		CESQL:  in.CESQL,
	}
	if in.Not != nil {
		not := dialect(in.Not)
		out.Not = &not
	}
	return out
}

func reference(in *duckv1.KReference) *config.Reference {
	if in == nil {
		return nil
	}
	return &config.Reference{
		APIVersion: in.APIVersion,
		Group:      in.Group,
		Kind:       in.Kind,
		Namespace:  in.Namespace,
		Name:       in.Name,
		Address:    value(in.Address),
	}
}

func destination(in *duckv1.Destination) *config.Destination {
	if in == nil {
		return nil
	}
	return &config.Destination{
		Ref:      reference(in.Ref),
		URI:      in.URI.String(),
		CACerts:  value(in.CACerts),
		Audience: value(in.Audience),
	}
}

func delivery(in *eventingduckv1.DeliverySpec) *config.DeliverySpec {
	if in == nil {
		return nil
	}
	out := &config.DeliverySpec{
		DeadLetterSink: destination(in.DeadLetterSink),
		Timeout:        clone(in.Timeout),
		BackoffDelay:   clone(in.BackoffDelay),
		RetryAfterMax:  clone(in.RetryAfterMax),
	}
	if in.Retry != nil {
		retry := int(*in.Retry)
		out.Retry = &retry
	}
	if in.BackoffPolicy != nil {
		policy := string(*in.BackoffPolicy)
		out.BackoffPolicy = &policy
	}
	if in.Format != nil {
		format := string(*in.Format)
		out.Format = &format
	}
	return out
}

func clone(s *string) *string {
	if s == nil {
		return nil
	}
	c := *s
	return &c
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
