package client

import (
	"context"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// EventQuery asks for one page of events. What is empty asks for nothing.
type EventQuery struct {
	Broker                    string // namespace/name
	ID, Type, Source, Subject string // attributes of the CloudEvent, whole
	From, To                  time.Time
	Limit                     int    // at most 1,000; 0 means the server's default, 100
	Cursor                    string // Next of the page before, "" for the first
}

// Events lists events, newest first. A page may be short, or empty, and yet
// have a next one: the server bounds what it looks through.
func (c *Client) Events(ctx context.Context, q EventQuery) (v1.EventList, error) {
	limit := ""
	if q.Limit > 0 {
		limit = strconv.Itoa(q.Limit)
	}
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Format(time.RFC3339Nano)
	}
	var list v1.EventList
	err := c.get(ctx, &list, values("broker", q.Broker, "id", q.ID, "type", q.Type, "source", q.Source, "subject", q.Subject,
		"from", at(q.From), "to", at(q.To), "limit", limit, "cursor", q.Cursor), "events")
	return list, err
}

// EventStory tells what happened to an event. id is its name inside Penstock,
// SHARD-POSITION; broker, namespace/name, may be "" where only one has it.
func (c *Client) EventStory(ctx context.Context, id, broker string) (v1.EventStory, error) {
	var story v1.EventStory
	err := c.get(ctx, &story, values("broker", broker), "events", id)
	return story, err
}
