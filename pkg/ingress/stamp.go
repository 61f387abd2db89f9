package ingress

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// stamp writes the two extensions that Knative's brokers keep with an event.
type stamp struct {
	ttl  int
	text string // of ttl, as nearly all events get it
}

func newStamp(ttl int) stamp { return stamp{ttl: ttl, text: strconv.Itoa(ttl)} }

// apply sets knativearrivaltime to now, whatever the sender said: it is the
// arrival here. It counts knativebrokerttl down; an event that has gone
// through brokers too often is refused, or two brokers that send to each other
// would do so forever. A sender cannot raise the bound: more than a new event
// gets is cut to that. (Knative's ingress gives a TTL that is no number a new
// start; that would make a loop of it.)
func (s stamp) apply(b *event.Builder) error {
	ttl, text := s.ttl, s.text
	if b.Has(event.ExtTTL) {
		sent, err := strconv.ParseInt(b.Text(event.ExtTTL), 10, 32)
		if err != nil {
			return fmt.Errorf("%s: %q is not a number", event.ExtTTL, telemetry.Clean(b.Text(event.ExtTTL)))
		}
		ttl = int(min(sent-1, int64(s.ttl)))
		text = strconv.Itoa(ttl)
	}
	if ttl <= 0 {
		return fmt.Errorf("%s: event has passed through brokers too often: a loop", event.ExtTTL)
	}
	b.SetValue(event.ExtTTL, event.Value{Text: text, Kind: event.Integer})
	b.SetTime(event.ExtArrivalTime, time.Now())
	return nil
}

// dropBadTrace takes a trace context that is not valid out of a request's
// headers, so that it is not passed on with the event (W3C Trace Context, 3.2
// and 3.3).
func dropBadTrace(fields []event.Field) []event.Field {
	parents, states, valid := 0, 0, false
	for i := range fields {
		switch fields[i].Name {
		case "traceparent":
			parents++
			valid = telemetry.ValidTraceParent(fields[i].Value)
		case "tracestate":
			states++
		}
	}
	if parents+states == 0 || parents == 1 && valid {
		return fields
	}
	return slices.DeleteFunc(fields, func(f event.Field) bool { return f.Name == "traceparent" || f.Name == "tracestate" })
}
