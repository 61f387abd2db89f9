package v1

import "time"

// Kinds of jobs.
const (
	JobRedrive = "redrive" // dead letters are delivered again, and discarded once they are
	JobDiscard = "discard" // dead letters are discarded
	JobReplay  = "replay"  // events of the past are delivered once more
	JobStart   = "start"   // a new Trigger gets what was accepted before it
)

// States of a job.
const (
	JobRunning     = "running"
	JobDone        = "done"        // looked at everything; events may have failed all the same
	JobFailed      = "failed"      // could not go on, see error; it can be resumed
	JobCancelled   = "cancelled"   // it can be resumed
	JobInterrupted = "interrupted" // the broker stopped; it goes on by itself
)

// JobRequest is the body of the POSTs that begin a job. Which fields have a
// meaning depends on the kind; another that is given is an error.
type JobRequest struct {
	Trigger string `json:"trigger"` // namespace/name

	// Where are conditions that an event has to meet all of: ATTRIBUTE=VALUE
	// without blanks or quotes, or a CESQL expression.
	Where []string `json:"where,omitempty"`

	IDs  []string `json:"ids,omitempty"`  // redrive, discard: only these, SHARD-POSITION
	Sink string   `json:"sink,omitempty"` // redrive: URL that gets the events in place of the subscriber
	Rate float64  `json:"rate,omitempty"` // redrive, replay: events a second, 0 for no limit

	From    *time.Time `json:"from,omitempty"`    // replay: accepted from then on; absent is all that is kept
	To      *time.Time `json:"to,omitempty"`      // replay: accepted before then; absent is now
	Partial bool       `json:"partial,omitempty"` // replay: also if not all since From is kept

	DryRun bool `json:"dryRun,omitempty"` // only count
}

// JobPreview answers a JobRequest with DryRun.
type JobPreview struct {
	Kind    string   `json:"kind"`
	Broker  string   `json:"broker"`  // namespace/name
	Trigger string   `json:"trigger"` // namespace/name
	Matched uint64   `json:"matched"` // events that would be sent or discarded
	Seen    uint64   `json:"seen"`    // events looked at for that
	Whole   bool     `json:"whole"`   // false: there was no time to look at all, and there may be more
	Sample  []string `json:"sample"`  // ids of the first of them, SHARD-POSITION
	Gaps    []string `json:"gaps,omitempty"`
}

// JobList answers GET /api/v1/jobs, the newest job first.
type JobList struct {
	Items []Job `json:"items"`
}

// Job is work on many events that outlives a request, and the broker's process.
type Job struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`    // redrive, discard, replay or start
	State   string `json:"state"`   // running, done, failed, cancelled or interrupted
	Broker  string `json:"broker"`  // namespace/name
	Trigger string `json:"trigger"` // namespace/name
	Who     string `json:"who"`     // asked for it

	Where   []string   `json:"where,omitempty"`
	IDs     []string   `json:"ids,omitempty"`
	Sink    string     `json:"sink,omitempty"`
	Rate    float64    `json:"rate,omitempty"`
	From    *time.Time `json:"from,omitempty"`
	To      *time.Time `json:"to,omitempty"`
	Partial bool       `json:"partial,omitempty"`

	Created time.Time  `json:"created"`
	Started time.Time  `json:"started"` // last: a job that goes on starts again
	Ended   *time.Time `json:"ended,omitempty"`

	// Counts. What was done in the last second before a crash is missing in them.
	Total      uint64 `json:"total"`      // to look at, an estimate
	Seen       uint64 `json:"seen"`       // looked at and done with
	Matched    uint64 `json:"matched"`    // of these, events that were meant
	Delivered  uint64 `json:"delivered"`  //
	Failed     uint64 `json:"failed"`     // not taken within the Trigger's retries
	Discarded  uint64 `json:"discarded"`  // dead letters
	Skipped    uint64 `json:"skipped"`    // events that were not meant
	Unreadable uint64 `json:"unreadable"` // positions, or dead letters, that the log cannot read

	Failures []JobFailure `json:"failures,omitempty"` // the first 20
	Gaps     []string     `json:"gaps,omitempty"`     // the first 20 ranges that cannot be read
	Waiting  string       `json:"waiting,omitempty"`  // why it does not get on just now
	Error    string       `json:"error,omitempty"`    // why it failed
}

// JobFailure is one event that a job could not deliver.
type JobFailure struct {
	ID      string `json:"id"`      // of the event inside Penstock, SHARD-POSITION
	EventID string `json:"eventId"` //
	Reason  string `json:"reason"`  // one line
}
