// Package probe is the one program that the tests on a cluster run inside it:
// it receives events under any number of names, answers as it was told to, and
// sends events where the test process itself cannot reach.
//
// One pod of it serves a whole namespace. A receiver is the first label of the
// Host that a request was sent to, so every Service that selects the pod is a
// receiver of its own, with its own mood and its own memory.
//
// What it remembers is bounded: the first maxKept requests of a receiver whole,
// of all others the count by event id. A request body past maxBody is answered
// with 413.
//
// Control is the face of the tests, on a port of its own: they come through the
// API server, so that nothing but a kubeconfig is needed.
package probe

import "time"

const (
	// DataPort is where events come in, ControlPort where the tests do.
	DataPort, ControlPort = 8080, 8081

	maxKept = 2000
	maxBody = 4 << 20
)

// A Step is one answer, for a number of requests or a time.
type Step struct {
	// Times is how many requests it is for. With neither Times nor For it is for all that follow.
	Times int `json:",omitempty"`
	// For begins when the mood was set.
	For time.Duration `json:",omitempty"`

	// Status is 200 if not given.
	Status  int               `json:",omitempty"`
	Delay   time.Duration     `json:",omitempty"` // before the answer
	Headers map[string]string `json:",omitempty"`
	Body    string            `json:",omitempty"`
	// Drop closes the connection without an answer.
	Drop bool `json:",omitempty"`
	// Reply answers with the event that came, changed.
	Reply *Reply `json:",omitempty"`
}

// Reply says what of the event that came is changed in the answer. Its id is
// kept, as Knative's own test receiver keeps it.
type Reply struct {
	Set  map[string]string `json:",omitempty"` // attributes and extensions; "" removes
	Data string            `json:",omitempty"` // as application/json; "" keeps what came
}

// Mood is how a receiver answers: the first step that is not over. Past the
// last one it answers 200.
type Mood struct {
	Steps []Step
	// PerID counts Times for each event id by itself.
	PerID bool `json:",omitempty"`
}

// Request is one that came, and what it was answered.
type Request struct {
	At      time.Time
	Method  string
	Host    string
	Path    string
	Headers map[string][]string
	Body    []byte
	ID      string // of the event, "" where it could not be told
	Status  int    // 0 is a dropped connection
}

// Received is what a receiver remembers.
type Received struct {
	Total    int // requests, also those that are not kept
	Requests []Request
}

// Tally is what came of the events PREFIX0 to PREFIX(n-1), counting answers of 2xx only.
type Tally struct {
	Came    int   // different events
	Twice   int   // how many came more than once
	Copies  int   // requests beyond the first of each
	Missing []int // the first hundred that did not come
	Lost    int   // how many did not come
}

// Send is one request to make.
type Send struct {
	URL     string
	Method  string            `json:",omitempty"` // POST if not given
	Headers map[string]string `json:",omitempty"`
	Body    []byte            `json:",omitempty"`
	// Until repeats the request every 50 ms until the answer has this status, for at most 30 s.
	Until int `json:",omitempty"`
}

// Answer is what came back. Error is set where nothing did.
type Answer struct {
	Status  int
	Headers map[string][]string
	Body    []byte
	Error   string `json:",omitempty"`
	Times   int    // requests made
}

// Stream posts events PREFIX0, PREFIX1, ... at a fixed rate, each again until it is
// answered with 202, as a careful producer does.
type Stream struct {
	URL    string
	Prefix string
	Rate   int               // events a second
	Events int               // how many; 0 until Stop
	Set    map[string]string `json:",omitempty"` // further ce- headers
	Size   int               `json:",omitempty"` // of the data, 100 if not given
}

// Progress is how far a Stream has come.
type Progress struct {
	Done     bool
	Begun    int            // events
	Accepted int            // events answered 202
	Given    int            // events given up after two minutes: never, in a healthy run
	Codes    map[string]int // answers by status, or by the kind of error
	// Worst is the longest that an event waited for its 202, Gap the longest time
	// without any 202.
	Worst, Gap time.Duration
	Late       int // events not begun in time because 256 were under way
}
