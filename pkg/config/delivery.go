package config

import (
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// DefaultDelivery is what a Broker without spec.delivery gets: the defaults
// that Knative ships in config-br-defaults.
func DefaultDelivery() DeliverySpec {
	retry, policy, delay := 10, "exponential", "PT0.2S"
	return DeliverySpec{Retry: &retry, BackoffPolicy: &policy, BackoffDelay: &delay}
}

// maxRetry bounds delivery.retry. Attempts are counted in 32 bits on disk.
const maxRetry = 1 << 20

// policy judges all of a DeliverySpec but its sink (Knative specification,
// control plane, DeliverySpec). What is wrong becomes a fault and has no effect.
func (c *compiler) policy(o *Object, d *DeliverySpec) (p deliver.Policy, format string) {
	const at = "spec.delivery"
	if d.Retry != nil {
		if p.Retry = *d.Retry; p.Retry < 0 || p.Retry > maxRetry {
			c.fault(o, at+".retry", ReasonDeliveryInvalid, fmt.Sprintf("%d: want 0 to %d", p.Retry, maxRetry))
			p.Retry = 0
		}
	}
	if d.BackoffPolicy != nil {
		switch *d.BackoffPolicy {
		case "linear":
			p.Backoff = deliver.Linear
		case "exponential":
			p.Backoff = deliver.Exponential
		default:
			c.fault(o, at+".backoffPolicy", ReasonDeliveryInvalid, quote(*d.BackoffPolicy)+": want linear or exponential")
		}
	}
	if d.Format != nil {
		switch *d.Format {
		case FormatBinary, FormatJSON:
			format = *d.Format
		default:
			c.fault(o, at+".format", ReasonDeliveryInvalid, quote(*d.Format)+": want binary or json, or leave it out to keep the mode the event came in")
		}
	}
	p.Delay, _ = c.iso(o, at+".backoffDelay", d.BackoffDelay)
	timeout, ok := c.iso(o, at+".timeout", d.Timeout)
	if ok && timeout == 0 {
		c.fault(o, at+".timeout", ReasonDeliveryInvalid, quote(*d.Timeout)+": must be more than nothing: leave it out for the default of "+deliver.DefaultTimeout.String())
	}
	p.Timeout = timeout
	// PT0S is how a DeliverySpec says that Retry-After is not to be looked at.
	if p.RetryAfterMax, ok = c.iso(o, at+".retryAfterMax", d.RetryAfterMax); ok && p.RetryAfterMax == 0 {
		p.RetryAfterMax = deliver.IgnoreRetryAfter
	}
	return p, format
}

// iso reads an optional ISO-8601 field; ok tells that it is there and good.
func (c *compiler) iso(o *Object, field string, s *string) (d time.Duration, ok bool) {
	if s == nil {
		return 0, false
	}
	d, err := parseISO(*s)
	if err != nil {
		c.fault(o, field, ReasonDeliveryInvalid, quote(*s)+": "+err.Error())
		return 0, false
	}
	return d, true
}
