package simulation_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// tell plays a story on one Broker. Whatever else it asserts, the checker must
// be content.
func tell(t *testing.T, story func(w *world)) {
	t.Helper()
	verdict, refusal := inWorld(t, 1, mutant{}, func(w *world) {
		w.broker("default", nil)
		story(w)
	})
	if err := errors.Join(refusal, verdict.Err()); err != nil {
		t.Errorf("%v\n%v", err, verdict)
	}
}

// with declares a Trigger for everything and its subscriber.
func (w *world) with(name string, d delivery) *subscriber {
	s := w.subscribe(name)
	w.trigger("default", name, filter.Spec{}, d)
	return s
}

// send posts n events, one after the other, and returns the ids of those that
// were accepted.
func (w *world) send(n int) (accepted []string) {
	s := w.sender("shop", "default")
	for range n {
		e := history.NewEvent(w.events)
		if code := s.Send(context.Background(), e); code == http.StatusAccepted {
			accepted = append(accepted, e.ID())
		}
	}
	return accepted
}

// lane is the state of a Trigger's lane.
func (w *world) lane(name string) (lane dispatch.LaneStatus) {
	w.mu.Lock()
	p := w.life
	w.mu.Unlock()
	for _, l := range p.dispatcher.Lanes(context.Background()) {
		if l.Trigger == "default/"+name {
			lane = l
		}
	}
	return lane
}

// instants are when a subscriber was called with an event.
func (s *subscriber) instants(id string) []time.Duration {
	var at []time.Duration
	for _, r := range s.receipts() {
		if r.id == id {
			at = append(at, r.at)
		}
	}
	return at
}

// distinct is how many different events came.
func (s *subscriber) distinct() int {
	ids := make(map[string]bool)
	for _, r := range s.receipts() {
		ids[r.id] = true
	}
	return len(ids)
}
