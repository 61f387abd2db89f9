package dispatcher

import (
	"context"
	"sync"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/loaded"
)

// witness tells the board which types of events are stored, for the controller
// to make EventTypes of where Knative's flag eventtype-auto-create asks for it.
type witness struct {
	board *loaded.Board
	logs  sync.Map // by channel.Appender: *witnessed, one for each kind of channel
}

// witnessed is a channel whose events are told.
type witnessed struct {
	channel.Appender
	board *loaded.Board
}

// of is the channel with a witness. It allocates for a new one only.
func (w *witness) of(log channel.Appender) channel.Appender {
	known, ok := w.logs.Load(log)
	if !ok {
		known, _ = w.logs.LoadOrStore(log, &witnessed{log, w.board})
	}
	return known.(*witnessed)
}

// Append implements channel.Appender.
func (w *witnessed) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error) {
	ids, err := w.Appender.Append(ctx, broker, events)
	if err == nil {
		tell(w.board, broker, "", events)
	}
	return ids, err
}

// replied is dispatch.Options.Replied.
func (w *witness) replied(broker, trigger channel.UID, replies []event.Event) {
	tell(w.board, broker, trigger, replies)
}

func tell(board *loaded.Board, broker, trigger channel.UID, events []event.Event) {
	if !board.Asks() {
		return
	}
	for _, e := range events {
		board.Seen(loaded.Type{
			Broker: broker, Trigger: trigger, Type: e.Type(), Source: e.Source(),
			Schema: e.Text(event.AttrDataSchema), SpecVersion: e.SpecVersion(),
		})
	}
}
