package file

import (
	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Fields of objects of eventing.knative.dev/v1, and of what is common to all.
var (
	objectFields    = fields{names: []string{"metadata", "spec"}, ignored: []string{"apiVersion", "kind", "status"}}
	brokerFields    = fields{names: []string{"config", "delivery"}}
	triggerFields   = fields{names: []string{"broker", "brokerRef", "filter", "filters", "subscriber", "delivery"}}
	filterFields    = fields{names: []string{"attributes"}}
	dialectFields   = fields{names: []string{"exact", "prefix", "suffix", "all", "any", "not", "cesql"}}
	addressFields   = fields{names: []string{"ref", "uri", "CACerts", "audience"}}
	referenceFields = fields{names: []string{"apiVersion", "group", "kind", "namespace", "name", "address"}}
	deliveryFields  = fields{names: []string{"deadLetterSink", "retry", "timeout", "backoffPolicy", "backoffDelay", "retryAfterMax", "format"}}
	configMapFields = fields{names: []string{"metadata", "data"}, ignored: []string{"apiVersion", "kind", "binaryData", "immutable"}}

	// What Kubernetes writes into an object that somebody exported from a cluster
	// is accepted and has no meaning.
	metadataFields = fields{names: []string{"name", "namespace", "annotations"}, ignored: []string{
		"labels", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
		"managedFields", "ownerReferences", "finalizers", "selfLink", "generateName",
	}}
)

// metadata reads name, namespace and annotations.
func (d *decoder) metadata(n *yaml.Node, path string) {
	d.mapping(n, path, &metadataFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "name":
			d.text(n, path, &d.object.Name)
		case "namespace":
			d.text(n, path, &d.object.Namespace)
		case "annotations":
			d.strings(n, path, &d.object.Annotations)
		}
	})
}

// broker reads spec of a Broker (eventing.knative.dev/v1).
func (d *decoder) broker(n *yaml.Node, path string) {
	spec := d.object.Broker
	d.mapping(n, path, &brokerFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "config":
			spec.Config = d.reference(n, path)
		case "delivery":
			spec.Delivery = d.delivery(n, path)
		}
	})
}

// trigger reads spec of a Trigger (eventing.knative.dev/v1). Faults of a filter
// are marked as its own. Such a filter is never compiled from what could be read
// of it: with a clause missing it would match more.
func (d *decoder) trigger(n *yaml.Node, path string) {
	spec := d.object.Trigger
	d.mapping(n, path, &triggerFields, func(name string, n *yaml.Node, path string) {
		outer := d.reason
		switch name {
		case "broker":
			d.text(n, path, &spec.Broker)
		case "brokerRef":
			spec.BrokerRef = d.reference(n, path)
		case "filter":
			d.reason = config.ReasonFilterInvalid
			d.mapping(n, path, &filterFields, func(_ string, n *yaml.Node, path string) { d.strings(n, path, &spec.Filter.Attributes) })
		case "filters":
			d.reason = config.ReasonFilterInvalid
			spec.Filter.Filters = d.dialects(n, path, 0)
		case "subscriber":
			spec.Subscriber = d.destination(n, path)
		case "delivery":
			spec.Delivery = d.delivery(n, path)
		}
		d.reason = outer
	})
}

// dialects reads filters, or all or any inside one.
func (d *decoder) dialects(n *yaml.Node, path string, depth int) []filter.Dialect {
	n = d.follow(n)
	if isNull(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		d.fault(n, path, "is %s: want a list of filters, each beginning with a hyphen", kindOf(n))
		return nil
	}
	out := make([]filter.Dialect, len(n.Content))
	for i, entry := range n.Content {
		d.dialect(entry, d.paths.item(path, i), depth+1, &out[i])
	}
	return out
}

func (d *decoder) dialect(n *yaml.Node, path string, depth int, out *filter.Dialect) {
	n = d.follow(n)
	d.mark(n, path)
	if depth > filter.MaxDepth {
		d.fault(n, path, "is nested too deeply: at most %d levels", filter.MaxDepth)
		return
	}
	d.mapping(n, path, &dialectFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "exact":
			d.strings(n, path, &out.Exact)
		case "prefix":
			d.strings(n, path, &out.Prefix)
		case "suffix":
			d.strings(n, path, &out.Suffix)
		case "all":
			out.All = d.dialects(n, path, depth)
		case "any":
			out.Any = d.dialects(n, path, depth)
		case "not":
			out.Not = new(filter.Dialect)
			d.dialect(n, path, depth+1, out.Not)
		case "cesql":
			d.text(n, path, &out.CESQL)
		}
	})
}

// destination reads a duck.knative.dev/v1 Destination. nil says that a fault
// has told already what is wrong with it.
func (d *decoder) destination(n *yaml.Node, path string) *config.Destination {
	out := new(config.Destination)
	before := len(d.object.Faults)
	d.mapping(n, path, &addressFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "ref":
			out.Ref = d.reference(n, path)
		case "uri":
			d.text(n, path, &out.URI)
		case "CACerts":
			d.text(n, path, &out.CACerts)
		case "audience":
			d.text(n, path, &out.Audience)
		}
	})
	if len(d.object.Faults) > before && *out == (config.Destination{}) {
		return nil
	}
	return out
}

// reference reads a duck.knative.dev/v1 KReference.
func (d *decoder) reference(n *yaml.Node, path string) *config.Reference {
	out := new(config.Reference)
	d.mapping(n, path, &referenceFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "apiVersion":
			d.text(n, path, &out.APIVersion)
		case "group":
			d.text(n, path, &out.Group)
		case "kind":
			d.text(n, path, &out.Kind)
		case "namespace":
			d.text(n, path, &out.Namespace)
		case "name":
			d.text(n, path, &out.Name)
		case "address":
			d.text(n, path, &out.Address)
		}
	})
	return out
}

// delivery reads a duck.knative.dev/v1 DeliverySpec.
func (d *decoder) delivery(n *yaml.Node, path string) *config.DeliverySpec {
	out := new(config.DeliverySpec)
	d.mapping(n, path, &deliveryFields, func(name string, n *yaml.Node, path string) {
		switch name {
		case "deadLetterSink":
			out.DeadLetterSink = d.destination(n, path)
		case "retry":
			d.number(n, path, &out.Retry)
		case "timeout":
			d.optional(n, path, &out.Timeout)
		case "backoffPolicy":
			d.optional(n, path, &out.BackoffPolicy)
		case "backoffDelay":
			d.optional(n, path, &out.BackoffDelay)
		case "retryAfterMax":
			d.optional(n, path, &out.RetryAfterMax)
		case "format":
			d.optional(n, path, &out.Format)
		}
	})
	return out
}
