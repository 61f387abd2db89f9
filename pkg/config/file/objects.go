package file

import (
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// broker reads spec of a Broker (eventing.knative.dev/v1).
func (d *decoder) broker(n *yaml.Node, path string) {
	spec := d.object.Broker
	d.mapping(n, path, field{
		"config":   func(n *yaml.Node, path string) { spec.Config = d.reference(n, path) },
		"delivery": func(n *yaml.Node, path string) { spec.Delivery = d.delivery(n, path) },
	})
}

// trigger reads spec of a Trigger (eventing.knative.dev/v1).
func (d *decoder) trigger(n *yaml.Node, path string) {
	spec := d.object.Trigger
	d.mapping(n, path, field{
		"broker":    d.text(&spec.Broker),
		"brokerRef": func(n *yaml.Node, path string) { spec.BrokerRef = d.reference(n, path) },
		"filter": d.filtering(func(n *yaml.Node, path string) {
			d.mapping(n, path, field{"attributes": d.strings(&spec.Filter.Attributes)})
		}),
		"filters":    d.filtering(func(n *yaml.Node, path string) { spec.Filter.Filters = d.dialects(n, path, 0) }),
		"subscriber": func(n *yaml.Node, path string) { spec.Subscriber = d.destination(n, path) },
		"delivery":   func(n *yaml.Node, path string) { spec.Delivery = d.delivery(n, path) },
	})
}

// filtering marks faults as the filter's own. Such a filter is never compiled
// from what could be read of it: with a clause missing it would match more.
func (d *decoder) filtering(read func(n *yaml.Node, path string)) func(n *yaml.Node, path string) {
	return func(n *yaml.Node, path string) {
		outer := d.reason
		d.reason = config.ReasonFilterInvalid
		read(n, path)
		d.reason = outer
	}
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
		out[i] = d.dialect(entry, path+"["+strconv.Itoa(i)+"]", depth+1)
	}
	return out
}

func (d *decoder) dialect(n *yaml.Node, path string, depth int) (out filter.Dialect) {
	n = d.follow(n)
	d.mark(n, path)
	if depth > filter.MaxDepth {
		d.fault(n, path, "is nested too deeply: at most %d levels", filter.MaxDepth)
		return out
	}
	d.mapping(n, path, field{
		"exact":  d.strings(&out.Exact),
		"prefix": d.strings(&out.Prefix),
		"suffix": d.strings(&out.Suffix),
		"all":    func(n *yaml.Node, path string) { out.All = d.dialects(n, path, depth) },
		"any":    func(n *yaml.Node, path string) { out.Any = d.dialects(n, path, depth) },
		"not": func(n *yaml.Node, path string) {
			not := d.dialect(n, path, depth+1)
			out.Not = &not
		},
		"cesql": d.text(&out.CESQL),
	})
	return out
}

// destination reads a duck.knative.dev/v1 Destination. nil says that a fault
// has told already what is wrong with it.
func (d *decoder) destination(n *yaml.Node, path string) *config.Destination {
	out := new(config.Destination)
	before := len(d.object.Faults)
	d.mapping(n, path, field{
		"ref":      func(n *yaml.Node, path string) { out.Ref = d.reference(n, path) },
		"uri":      d.text(&out.URI),
		"CACerts":  d.text(&out.CACerts),
		"audience": d.text(&out.Audience),
	})
	if len(d.object.Faults) > before && *out == (config.Destination{}) {
		return nil
	}
	return out
}

// reference reads a duck.knative.dev/v1 KReference.
func (d *decoder) reference(n *yaml.Node, path string) *config.Reference {
	out := new(config.Reference)
	d.mapping(n, path, field{
		"apiVersion": d.text(&out.APIVersion),
		"group":      d.text(&out.Group),
		"kind":       d.text(&out.Kind),
		"namespace":  d.text(&out.Namespace),
		"name":       d.text(&out.Name),
		"address":    d.text(&out.Address),
	})
	return out
}

// delivery reads a duck.knative.dev/v1 DeliverySpec.
func (d *decoder) delivery(n *yaml.Node, path string) *config.DeliverySpec {
	out := new(config.DeliverySpec)
	d.mapping(n, path, field{
		"deadLetterSink": func(n *yaml.Node, path string) { out.DeadLetterSink = d.destination(n, path) },
		"retry":          d.number(&out.Retry),
		"timeout":        d.optional(&out.Timeout),
		"backoffPolicy":  d.optional(&out.BackoffPolicy),
		"backoffDelay":   d.optional(&out.BackoffDelay),
		"retryAfterMax":  d.optional(&out.RetryAfterMax),
		"format":         d.optional(&out.Format),
	})
	return out
}
