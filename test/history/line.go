package history

import (
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
)

// Line is one line of a history. Which fields a line has is its Do's matter.
type Line struct {
	T  time.Duration `json:"t"` // since the begin line
	Do string        `json:"do"`
	N  int64         `json:"n,omitempty"` // joins answers to sends, healed to fault and so on

	ID      string            `json:"id,omitempty"` // of the event
	Broker  string            `json:"broker,omitempty"`
	Trigger string            `json:"trigger,omitempty"`
	Attrs   map[string]string `json:"attrs,omitempty"` // context attributes as text
	SHA     string            `json:"sha,omitempty"`   // of the data, hexadecimal SHA-256

	Answer   *Answer   `json:"answer,omitempty"`
	Dead     *Dead     `json:"dead,omitempty"`
	Triggers []Trigger `json:"triggers,omitempty"`

	Kind   Kind       `json:"kind,omitempty"`
	What   string     `json:"what,omitempty"`
	Epoch  uint64     `json:"epoch,omitempty"`
	Count  uint64     `json:"count,omitempty"`
	Sample *Sample    `json:"sample,omitempty"`
	Final  *Final     `json:"final,omitempty"`
	Rules  *Rules     `json:"rules,omitempty"`
	At     *time.Time `json:"at,omitempty"` // wall clock of the begin line
}

// What a Line can be about.
const (
	doBegin       = "begin"
	doRoutes      = "routes"
	doRouted      = "routed"
	doSend        = "send"
	doAnswer      = "answer"
	doReceipt     = "receipt"
	doSubscriber  = "subscriber"
	doDead        = "dead"
	doCancelled   = "cancelled"
	doGap         = "gap"
	doFault       = "fault"
	doHealed      = "healed"
	doDetected    = "detected"
	doIncarnation = "incarnation"
	doSample      = "sample"
	doBackup      = "backup"
	doBackedUp    = "backedup"
	doRestored    = "restored"
	doFinal       = "final"
	doLate        = "late"
)

// Rules are what a run is judged by. The zero value is for virtual time, where
// nothing is late.
type Rules struct {
	// Lag is how far back from a crash a settled event may be forgotten. 0 is
	// the 100 ms that the broker promises.
	Lag time.Duration `json:"lag,omitempty"`

	// Slack is how late a process may be on this machine, in reading an answer
	// or in dying. MachineSlack is for real processes; less is enough where a
	// Metronome measures it.
	Slack time.Duration `json:"slack,omitempty"`

	// Drain is how long after the last fault and the last send the backlog may
	// last, besides the longest wait between two attempts and, where Rate (events a second)
	// is given, the time it takes at that rate. 0 is 60 s.
	Drain time.Duration `json:"drain,omitempty"`
	Rate  float64       `json:"rate,omitempty"`

	// Bounds of every Sample; 0 is none.
	MaxRSS   int64 `json:"maxRSS,omitempty"` // bytes
	MaxFDs   int   `json:"maxFDs,omitempty"`
	MaxConns int   `json:"maxConns,omitempty"`
}

// MachineSlack is a Slack for tests with real processes, on machines that run
// many tests at once.
const MachineSlack = 100 * time.Millisecond

func (r Rules) lag() time.Duration {
	if r.Lag > 0 {
		return r.Lag
	}
	return 100 * time.Millisecond
}

func (r Rules) drain() time.Duration {
	if r.Drain > 0 {
		return r.Drain
	}
	return time.Minute
}

// Trigger is what the checker must know of one. A Trigger made again under an
// old name needs another name here.
type Trigger struct {
	Name   string         `json:"name"` // namespace/name
	Filter filter.Spec    `json:"filter"`
	Policy deliver.Policy `json:"policy"` // as data: the checker computes waits itself

	// ScalesFromZero is config.Trigger's: what the subscriber refuses need not
	// count as an attempt.
	ScalesFromZero bool `json:"scalesFromZero,omitempty"`

	// Ordered is penstock.dev/order: key.
	Ordered bool `json:"ordered,omitempty"`
}

// Answer is what a sender or the broker was answered.
type Answer struct {
	Code       int           `json:"code"` // 0: nothing came, the outcome is unknown
	RetryAfter time.Duration `json:"retryAfter,omitempty"`

	// By is, of an answer to a sender, the incarnation that was asked, where
	// there were several at once.
	By int64 `json:"by,omitempty"`

	// Stored is, of a 202 to a sender, the event's own id: SHARD-POSITION.
	Stored string `json:"stored,omitempty"`

	// The others are of an answer to the broker. Gone: the broker had hung up
	// before. Streamed: its beginning may have left before this line.
	// Failed: a 2xx that is no delivery, since what came with it is malformed.
	// Reply: the id of the event that it carries, for which there is a send line.
	Gone     bool   `json:"gone,omitempty"`
	Streamed bool   `json:"streamed,omitempty"`
	Failed   bool   `json:"failed,omitempty"`
	Reply    string `json:"reply,omitempty"`
}

// Dead is what a dead letter says.
type Dead struct {
	Attempts int    `json:"attempts,omitempty"` // 0: not known
	Code     int    `json:"code"`
	Reason   string `json:"reason,omitempty"`
	Sink     bool   `json:"sink,omitempty"` // a dead letter sink received it; otherwise the broker lists it
}

// Sample is one look at a process. 0 is not known.
type Sample struct {
	RSS   int64 `json:"rss,omitempty"` // bytes
	FDs   int   `json:"fds,omitempty"`
	Conns int   `json:"conns,omitempty"`
}

// Final is a Trigger's counters as the broker gives them at the end. Delivered,
// Cancelled, Expired and Lost are since the last incarnation; Pending and Dead
// are what is kept now. Delivered -1 is not known.
type Final struct {
	Delivered int64 `json:"delivered"`
	Dead      int64 `json:"dead"`
	Cancelled int64 `json:"cancelled,omitempty"`
	Expired   int64 `json:"expired,omitempty"`
	Lost      int64 `json:"lost,omitempty"` // swallowed by a declared gap
	Pending   int64 `json:"pending"`
}

// Kind is a kind of fault.
type Kind string

// The kinds differ in what they excuse.
const (
	// The process ends, and a new one starts with the next incarnation line.
	Kill     Kind = "kill"      // SIGKILL, out of memory: progress of the last Lag may be lost
	PowerCut Kind = "power-cut" // the same, and what was not synced
	Stop     Kind = "stop"      // SIGTERM: only attempts that it cuts off are made again

	// The store: while it lasts, progress may not be saved, nor replies.
	SyncError Kind = "sync-error" // from here on no acknowledgement until the next incarnation
	DiskFull  Kind = "disk-full"
	SlowDisk  Kind = "slow-disk"
	Damage    Kind = "damage" // needs a detected line with the same What

	// What the subscriber answers may not be heard.
	Network Kind = "network" // cut or delayed between broker and subscribers
	Pause   Kind = "pause"   // SIGSTOP

	Clock      Kind = "clock"      // the wall clock jumps: waits that a restart interrupts are not judged
	Overload   Kind = "overload"   // senders may be answered 202, 429 and 503 only
	Subscriber Kind = "subscriber" // one is down or bad; excuses nothing, but the backlog may last until it is healed
	Resource   Kind = "resource"   // memory, descriptors; likewise
)
