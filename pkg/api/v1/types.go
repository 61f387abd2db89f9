// Package v1 is the shapes of the JSON that the API answers with, one struct
// per schema of docs/openapi.yaml. The server and the client share them, so
// that neither can drift from the other.
//
// It promises that a field keeps its name and meaning as long as the API's
// path says v1; fields may be added. It holds no behaviour and may be used by
// any number of goroutines that do not write to the same value.
package v1

import (
	"encoding/json"
	"time"
)

// BrokerList answers GET /api/v1/brokers.
type BrokerList struct {
	Items []Broker `json:"items"`
}

// Broker is one Broker and how it does. Counts are since this process started
// unless they say otherwise.
type Broker struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Ready     bool   `json:"ready"`
	Reason    string `json:"reason,omitempty"`  // CamelCase, as in a Kubernetes condition
	Message   string `json:"message,omitempty"` // one line naming the place and the cure
	Origin    string `json:"origin,omitempty"`  // file:line it was declared at

	Address   string `json:"address"`             // URL that events are posted to
	Channel   string `json:"channel"`             // disk, memory or jetstream
	Shards    int    `json:"shards"`              //
	Bytes     int64  `json:"bytes"`               // kept now, dead letters included
	DeadBytes int64  `json:"deadBytes"`           // of these, dead letters
	MaxBytes  int64  `json:"maxBytes"`            // bound in force, 0 for none
	Retention string `json:"retention,omitempty"` // how long settled events are kept, as in 24h0m0s

	Triggers int    `json:"triggers"`
	Received uint64 `json:"received"` // events that came in, refused ones included
	Accepted uint64 `json:"accepted"` // events stored
	Dead     uint64 `json:"dead"`     // dead letters kept now

	// Earliest is when the oldest event still kept was accepted: how far back one
	// can replay. Absent where none is.
	Earliest *time.Time `json:"earliest,omitempty"`
}

// FullName is namespace/name.
func (b Broker) FullName() string { return b.Namespace + "/" + b.Name }

// TriggerList answers GET /api/v1/triggers.
type TriggerList struct {
	Items []Trigger `json:"items"`
}

// Trigger is one Trigger and how its lane does. Counts are since this process
// started unless they say otherwise.
type Trigger struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
	Broker    string `json:"broker"` // namespace/name
	Ready     bool   `json:"ready"`
	Reason    string `json:"reason,omitempty"`  // CamelCase, as in a Kubernetes condition
	Message   string `json:"message,omitempty"` // one line naming the place and the cure
	Origin    string `json:"origin,omitempty"`  // file:line it was declared at
	Held      bool   `json:"held"`              // removed from its source, still in its grace: matched, not delivered

	Subscriber     string          `json:"subscriber"` // URL, "" while it is not known
	DeadLetterSink string          `json:"deadLetterSink,omitempty"`
	Filter         json.RawMessage `json:"filter"` // as declared, canonical form

	Backlog              uint64  `json:"backlog"`              // events pending now
	OldestPendingSeconds float64 `json:"oldestPendingSeconds"` // age of the oldest of them, 0 for none
	InFlight             int     `json:"inFlight"`             // attempts under way now
	Waiting              int     `json:"waiting"`              // events that wait for their next attempt
	Delivered            uint64  `json:"delivered"`
	Failed               uint64  `json:"failed"` // attempts, not events
	Spared               uint64  `json:"spared"` // attempts that a Knative Service refused and that were not counted
	Dead                 uint64  `json:"dead"`   // dead letters kept now
	Cancelled            uint64  `json:"cancelled"`

	// Window is how many attempts may be under way at once now. It follows what
	// the subscriber takes, at most the concurrency.
	Window int `json:"window"`

	// Waits is one line that says why nothing is delivered now, or less than there
	// is, and until when; absent where nothing is in the way.
	Waits string `json:"waits,omitempty"`

	Paused      bool       `json:"paused"`
	PausedBy    string     `json:"pausedBy,omitempty"`    // annotation, or operator; the annotation where both have
	PausedUntil *time.Time `json:"pausedUntil,omitempty"` // when an operator's pause ends by itself

	Rate        float64      `json:"rate,omitempty"`    // attempts a second at most, absent for no limit
	Ordered     bool         `json:"ordered"`           // by key
	BlockedKeys int          `json:"blockedKeys"`       // keys that wait for their first event
	Blocked     []BlockedKey `json:"blocked,omitempty"` // the longest blocked of them
	Circuit     Circuit      `json:"circuit"`

	// ColdSince is when a Knative Service began to refuse, and SparedUntil until
	// when that costs no attempt; absent while it takes events.
	ColdSince   *time.Time `json:"coldSince,omitempty"`
	SparedUntil *time.Time `json:"sparedUntil,omitempty"`
}

// FullName is namespace/name.
func (t Trigger) FullName() string { return t.Namespace + "/" + t.Name }

// Circuit is what is known of a subscriber that fails.
type Circuit struct {
	State     string     `json:"state"`               // closed, open, half-open
	Since     *time.Time `json:"since,omitempty"`     // when it opened; absent while it is closed
	NextProbe *time.Time `json:"nextProbe,omitempty"` // not before; absent while it is closed
	Failures  int        `json:"failures"`            // in a row
	Reason    string     `json:"reason,omitempty"`    // of the last one
}

// BlockedKey is a key of an ordered Trigger whose first event failed and is to
// be tried again: those after it wait.
type BlockedKey struct {
	Key         string    `json:"key"`
	ID          string    `json:"id"`    // of its first event inside Penstock, SHARD-POSITION
	Since       time.Time `json:"since"` // its first failure, or the restart after it
	Attempts    int       `json:"attempts"`
	NextAttempt time.Time `json:"nextAttempt"`
	Behind      uint64    `json:"behind"` // events that wait for it
}

// BlockedList answers GET /api/v1/triggers/{namespace}/{name}/blocked.
type BlockedList struct {
	Items []BlockedKey `json:"items"` // the longest blocked first
	Total int          `json:"total"` // there may be more than items
}

// PauseRequest is the body of a pause. Without it the pause lasts until somebody
// ends it.
type PauseRequest struct {
	For string `json:"for,omitempty"` // a duration, as in 30m, 24h, 7d or PT24H
}

// SkipRequest is the body of a skip.
type SkipRequest struct {
	ID string `json:"id"` // of the first event of a blocked key, SHARD-POSITION
}

// DeadLetterList answers GET /api/v1/deadletters. Its items carry no event data.
type DeadLetterList struct {
	Items []DeadLetter `json:"items"`
	Next  string       `json:"next,omitempty"` // cursor of the next page, absent at the end
}

// DeadLetter is an event that a subscriber did not take, and why.
type DeadLetter struct {
	Number  uint64 `json:"number"`  // its place in the order of dying within its Broker, never used again
	ID      string `json:"id"`      // of the event inside Penstock, SHARD-POSITION
	Broker  string `json:"broker"`  // namespace/name
	Trigger string `json:"trigger"` // namespace/name, as it was when the event died

	EventID      string `json:"eventId"`
	EventType    string `json:"eventType"`
	EventSource  string `json:"eventSource"`
	EventSubject string `json:"eventSubject,omitempty"`

	Accepted    time.Time `json:"accepted"`
	Died        time.Time `json:"died"`
	Attempts    int       `json:"attempts"`
	Reason      string    `json:"reason"`                // one line
	Code        int       `json:"code"`                  // last HTTP status, 0 if there was no answer
	Destination string    `json:"destination,omitempty"` // last URL tried

	// Answer is the beginning of the last answer's body; AnswerBase64 has it
	// instead where it is not text.
	Answer       string `json:"answer,omitempty"`
	AnswerBase64 []byte `json:"answerBase64,omitempty"`

	// Event is the whole event in the CloudEvents JSON format. Lists leave it out.
	Event json.RawMessage `json:"event,omitempty"`
}

// DeadLetterGroupList answers GET /api/v1/deadletters/groups.
type DeadLetterGroupList struct {
	Items []DeadLetterGroup `json:"items"` // the largest first, at most 1,000
}

// DeadLetterGroup counts the dead letters of one Trigger with one reason. The
// smallest of more than 1,000 groups are summed up under the reason "(other)",
// without the names of Broker and Trigger where they differ. Those that cannot
// be read now have the reason "(unreadable)".
type DeadLetterGroup struct {
	Broker  string `json:"broker"`  // namespace/name
	Trigger string `json:"trigger"` // namespace/name, as it was when the events died
	Reason  string `json:"reason"`  // one line
	Count   uint64 `json:"count"`

	First *time.Time `json:"first,omitempty"` // when the first of them died, to the second
	Last  *time.Time `json:"last,omitempty"`  // when the last of them died
}

// Explanation answers POST /api/v1/brokers/{namespace}/{name}/explain.
type Explanation struct {
	Broker string           `json:"broker"`
	Events []EventExplained `json:"events"` // one for each event of the request
}

// EventExplained says which Triggers one event would go to.
type EventExplained struct {
	EventID  string             `json:"eventId"`
	Triggers []TriggerExplained `json:"triggers"`
}

// TriggerExplained says whether a Trigger's filter matches, or which of its
// clauses is the first that does not.
type TriggerExplained struct {
	Trigger    string `json:"trigger"` // namespace/name
	Matched    bool   `json:"matched"`
	Ready      bool   `json:"ready"` // a Trigger that is not ready keeps what it matches and delivers later
	Held       bool   `json:"held"`
	Subscriber string `json:"subscriber,omitempty"`

	Path    string `json:"path,omitempty"`    // of the clause: filters[0].all[1].exact
	Clause  string `json:"clause,omitempty"`  // what it looks at
	Want    string `json:"want,omitempty"`    // what the filter asks for
	Got     string `json:"got,omitempty"`     // what the event has
	Missing bool   `json:"missing,omitempty"` // the event has no such attribute
	Text    string `json:"text"`              // all of it in one line
}

// TailLine is one line of GET /api/v1/tail, which is newline-delimited JSON.
// Exactly one of Event, Heartbeat, Skipped and Error is set.
type TailLine struct {
	ID    string          `json:"id,omitempty"`    // of the event inside Penstock, SHARD-POSITION
	Time  *time.Time      `json:"time,omitempty"`  // when it was accepted
	Event json.RawMessage `json:"event,omitempty"` // CloudEvents JSON format

	// Heartbeat is the server's time. It comes first, when the tail stands, and
	// then whenever nothing else was sent for a while.
	Heartbeat *time.Time `json:"heartbeat,omitempty"`

	// Skipped counts matching events left out since the last such line because
	// the reader of the stream was too slow.
	Skipped uint64 `json:"skipped,omitempty"`

	// Error ends the stream, or tells of a range that cannot be read.
	Error string `json:"error,omitempty"`
}

// Diagnosis answers GET /api/v1/doctor, and is what `penstock doctor -o json`
// prints of a stopped store too.
type Diagnosis struct {
	Version string    `json:"version"`         // of the penstock that looked
	Process int       `json:"process"`         // its process id
	Time    time.Time `json:"time"`            // its clock
	Store   string    `json:"store,omitempty"` // folder of a stopped store

	Findings []Finding `json:"findings"`
}

// Finding is one thing that was looked at, and how it is.
type Finding struct {
	Severity string `json:"severity"`        // ok, note, warning or problem
	Subject  string `json:"subject"`         // what was looked at
	What     string `json:"what"`            // one line
	Means    string `json:"means,omitempty"` // for events
	Cure     string `json:"cure,omitempty"`  // what to do
}

// ProblemList answers GET /api/v1/problems.
type ProblemList struct {
	Items []Problem `json:"items"`
}

// Problem is something in the configuration that a person should look at.
type Problem struct {
	Origin  string `json:"origin"`  // file:line, file, or "built in"
	Message string `json:"message"` // one line: what, and the cure
}

// Error is the body of every answer that is not 2xx, except of /readyz.
type Error struct {
	Error string `json:"error"` // one line
	Code  int    `json:"code"`  // the HTTP status
}
