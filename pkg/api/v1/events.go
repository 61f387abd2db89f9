package v1

import (
	"encoding/json"
	"time"
)

// EventList answers GET /api/v1/events, newest first.
type EventList struct {
	Items []Event `json:"items"`
	Next  string  `json:"next,omitempty"` // cursor of the next page, absent at the end
}

// Event is one event that was accepted, as the journal knows it.
type Event struct {
	ID       string    `json:"id"`     // inside Penstock, SHARD-POSITION
	Broker   string    `json:"broker"` // namespace/name
	Accepted time.Time `json:"accepted"`

	EventID      string `json:"eventId"`
	EventType    string `json:"eventType"`
	EventSource  string `json:"eventSource"`
	EventSubject string `json:"eventSubject,omitempty"`

	// The chain of causes (CloudEvents correlation extension): the id of the
	// event that this one answers, and of the first of the chain.
	CausationID   string `json:"causationId,omitempty"`
	CorrelationID string `json:"correlationId,omitempty"`
}

// The states of an event at a Trigger.
const (
	StatePending   = "pending"     // matched and not in a final state
	StateDelivered = "delivered"   //
	StateDead      = "dead"        // its dead letter is kept until it is sent again or discarded
	StateCancelled = "cancelled"   // the Trigger was deleted
	StateLost      = "lost"        // its stored bytes were damaged
	StateEnded     = "ended"       // in a final state of which the journal has no entry
	StateUnmatched = "not matched" //
)

// EventStory answers GET /api/v1/events/{id}: what happened to one event.
type EventStory struct {
	Event

	// Triggers are those that matched, in the order of matching, and after them
	// those that did not.
	Triggers []TriggerStory `json:"triggers"`

	// Missing is why the story may not be whole, one line each: the journal is
	// bounded and carries no promise.
	Missing []string `json:"missing,omitempty"`

	// Data is the whole event in the CloudEvents JSON format while the channel
	// keeps it.
	Data json.RawMessage `json:"data,omitempty"`
}

// TriggerStory is what became of an event at one Trigger.
type TriggerStory struct {
	Trigger string `json:"trigger"` // namespace/name, as it was then
	UID     string `json:"uid"`
	Matched bool   `json:"matched"`

	// Why says of a Trigger that did not match which clause of its filter is the
	// first that does not: the filter as it is today.
	Why string `json:"why,omitempty"`

	State    string     `json:"state"`            // one of the states above
	Ended    *time.Time `json:"ended,omitempty"`  // when it came into its final state
	Next     *time.Time `json:"next,omitempty"`   // when the next attempt is due
	Reason   string     `json:"reason,omitempty"` // of the final state, where that is not delivered
	Attempts []Attempt  `json:"attempts,omitempty"`
}

// Attempt is one attempt at delivery.
type Attempt struct {
	Number   int       `json:"number"` // 1, 2, 3, ... of this event at this Trigger, or of its sink
	Start    time.Time `json:"start"`
	Seconds  float64   `json:"seconds"`
	Status   int       `json:"status"`          // HTTP status, 0 if there was no answer
	Error    string    `json:"error,omitempty"` // one line, absent for a delivery
	Answer   string    `json:"answer,omitempty"`
	AnswerBy []byte    `json:"answerBase64,omitempty"` // instead of answer where it is not text

	Next    *time.Time `json:"next,omitempty"`    // when the next attempt was due
	Sink    bool       `json:"sink,omitempty"`    // of the dead letter sink
	Spared  bool       `json:"spared,omitempty"`  // not counted: the subscriber was not there
	Rerun   string     `json:"rerun,omitempty"`   // the redrive or replay that made it
	Replies []string   `json:"replies,omitempty"` // ids of the events that it was answered with
}
