package dispatch_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// fragile is a Sender that panics at one event.
type fragile struct {
	dispatch.Sender
	at string
}

func (f fragile) Send(ctx context.Context, r *deliver.Request) (deliver.Answer, error) {
	if r.Event.ID() == f.at {
		panic("what nobody thought of")
	}
	return f.Sender.Send(ctx, r)
}

func TestAPanicInAnAttemptCostsThatEventAloneItsDelivery(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "", "sub", delivery(2, "linear", "PT1S"))
		w.fragileAt = "poison"
		w.run()
		w.append(newEvent(t, "before", "order"), newEvent(t, "poison", "order"), newEvent(t, "after", "order"))
		w.after(time.Minute)
		letters := w.letters("sub")
		if len(letters) != 1 || letters[0].Attempts != 3 || !strings.Contains(letters[0].Reason, "panicked: what nobody thought of") {
			t.Errorf("letters %+v, want one after 3 attempts that says why", letters)
		}
		if s := w.lane("sub"); sub.count() != 2 || s.Delivered != 2 || s.Failed != 3 || s.Backlog != 0 {
			t.Errorf("%d received, lane %+v; want the two others delivered", sub.count(), s)
		}
	})
}
