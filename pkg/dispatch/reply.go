package dispatch

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// errLoop is the end of an event whose reply has no passes left: sending it
// again would end the same way.
var errLoop = errors.New("reply: no passes left (knativebrokerttl): triggers answer each other in a loop")

// reply puts a subscriber's replies into the same broker as new events, one
// pass poorer. It returns their IDs when they are stored: only then is the event
// they answer settled (Knative specification, control plane, Event Routing).
func (b *broker) reply(ctx context.Context, l *lane, original event.Event, replies []event.Event) ([]channel.ID, error) {
	ttl, ok := original.TTL()
	if !ok {
		ttl = event.DefaultTTL
	}
	if ttl--; ttl <= 0 {
		return nil, errLoop
	}
	now := b.d.opts.Now().UTC().Format(time.RFC3339Nano)
	stored := make([]event.Event, len(replies))
	for i, reply := range replies {
		edit := event.Edit(reply).
			SetValue(event.ExtTTL, event.Value{Text: strconv.Itoa(ttl), Kind: event.Integer}).
			Set(event.ExtArrivalTime, now)
		cause(edit, original)
		e, err := edit.Build()
		if err != nil {
			return nil, fmt.Errorf("reply: %w", err)
		}
		stored[i] = e
	}
	receipts, err := b.appender.Append(ctx, b.uid, stored)
	if err != nil {
		return nil, fmt.Errorf("store the reply: %w", err)
	}
	ids := make([]channel.ID, len(receipts))
	for i, r := range receipts {
		ids[i] = r.ID
	}
	for range stored {
		l.metrics.Reply()
	}
	if b.d.opts.Replied != nil {
		b.d.opts.Replied(b.uid, l.uid, stored)
	}
	return ids, nil
}

// cause names what a reply answers, and the event that the chain of replies
// began with (CloudEvents correlation extension). A subscriber that names them
// itself knows better.
func cause(reply *event.Builder, original event.Event) {
	if !reply.Has(event.ExtCausation) {
		reply.Set(event.ExtCausation, original.ID())
	}
	if reply.Has(event.ExtCorrelation) {
		return
	}
	first := original.Text(event.ExtCorrelation)
	if first == "" {
		first = original.ID()
	}
	reply.Set(event.ExtCorrelation, first)
}

// final reports whether a failure will repeat itself whatever the subscriber
// does, so that the policy need not be asked.
func final(err error) bool {
	return errors.Is(err, errLoop) || errors.Is(err, channel.ErrTooLarge)
}
