package engine

import (
	"context"
	"errors"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// control is a dispatcher as an api.Control.
type control struct{ d *dispatch.Dispatcher }

func (c control) Pause(ctx context.Context, trigger channel.UID, until time.Time) error {
	return conflict(c.d.Pause(ctx, trigger, until))
}

func (c control) Resume(ctx context.Context, trigger channel.UID) error {
	return conflict(c.d.Resume(ctx, trigger))
}

func (c control) Skip(ctx context.Context, trigger channel.UID, id channel.ID) error {
	return conflict(c.d.Skip(ctx, trigger, id))
}

func (c control) Blocked(trigger channel.UID, limit int) ([]v1.BlockedKey, int, error) {
	blocked, total, err := c.d.Blocked(trigger, limit)
	return viewBlocked(blocked), total, conflict(err)
}

// conflict marks what the state of a trigger stands against.
func conflict(err error) error {
	for _, known := range []error{
		dispatch.ErrNoLane, dispatch.ErrAnnotation, dispatch.ErrNotPaused, dispatch.ErrPast,
		dispatch.ErrNotOrdered, dispatch.ErrNotBlocked, dispatch.ErrUnderWay,
	} {
		if errors.Is(err, known) {
			return &api.Conflict{Err: err}
		}
	}
	return err
}

func viewBlocked(blocked []dispatch.Blocked) []v1.BlockedKey {
	var view []v1.BlockedKey
	for _, b := range blocked {
		view = append(view, v1.BlockedKey{
			Key: b.Key, ID: b.ID.String(), Since: b.Since.UTC(), Attempts: b.Attempts, NextAttempt: b.Next.UTC(), Behind: b.Behind,
		})
	}
	return view
}

func viewCircuit(c dispatch.Circuit) v1.Circuit {
	view := v1.Circuit{State: string(c.State), Failures: c.Failures, Reason: c.Reason}
	if c.State != dispatch.CircuitClosed {
		since, next := c.Since.UTC(), c.Next.UTC()
		view.Since, view.NextProbe = &since, &next
	}
	return view
}
