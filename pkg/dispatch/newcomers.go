package dispatch

import (
	"context"
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// Newcomers is told of Triggers that are routed for the first time, so that
// one may get what was accepted before it. Apply calls it, and waits for it.
type Newcomers interface {
	// Coming is told before. What must outlive a crash is durable when it
	// returns; where it cannot be, its error keeps the change of the trigger set
	// from being made, and Apply's caller tries again. It may be told of the same
	// Trigger twice: a crash may come in between.
	Coming(ctx context.Context, broker channel.UID, log channel.BrokerLog, triggers []*config.Trigger) error

	// Came is told after, with the first position in each shard that the new
	// set decides over: what is accepted from there on reaches the Triggers anyway.
	Came(broker channel.UID, triggers []*config.Trigger, from map[channel.ShardID]channel.Position)
}

// coming tells who wants to know of triggers that are about to be routed for
// the first time, and returns how to tell it that they are.
func (b *broker) coming(ctx context.Context, triggers []*config.Trigger) (came func(from map[channel.ShardID]channel.Position), err error) {
	who := b.d.opts.Newcomers
	if who == nil || len(triggers) == 0 {
		return func(map[channel.ShardID]channel.Position) {}, nil
	}
	if err := who.Coming(ctx, b.uid, b.log, triggers); err != nil {
		return nil, fmt.Errorf("prepare the start of new triggers: %w", err)
	}
	return func(from map[channel.ShardID]channel.Position) { who.Came(b.uid, triggers, from) }, nil
}
