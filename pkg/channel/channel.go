// Package channel is the contract between those who put events in (ingress,
// replies) and those who take them out (dispatch): append, read, routes, dead
// letters, progress. It holds no implementation; memory, disk, jetstream and
// remote do, and channeltest holds them all to the same promises.
//
// The promise in one line: when Append returns nil the events are stored as
// durably as the implementation says, each will be handed out by Read in
// order of position within its shard, and nothing but settling it for every
// trigger lets it go.
package channel

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/event"
)

// UID names a Broker or a Trigger for life. A Broker made again under the
// same name has another UID, and so none of the old one's events.
type UID string

// ShardID names a shard within its Broker. A shard is the unit of order and
// of ownership, and lives on one volume for life.
type ShardID uint32

// Position is where a record stands in its shard. Positions increase, gaps
// are allowed, 0 is before the first. A record keeps its position for life,
// whatever moves its bytes.
type Position uint64

// ID is an event's own name inside Penstock. (A CloudEvents id may name several.)
type ID struct {
	Shard    ShardID
	Position Position
}

// String is the form people see: {shard}-{position}.
func (id ID) String() string {
	return strconv.FormatUint(uint64(id.Shard), 10) + "-" + strconv.FormatUint(uint64(id.Position), 10)
}

// ParseID reads what String wrote.
func ParseID(s string) (ID, error) {
	shard, position, ok := strings.Cut(s, "-")
	n, err1 := strconv.ParseUint(shard, 10, 32)
	p, err2 := strconv.ParseUint(position, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return ID{}, fmt.Errorf("event id %q: want SHARD-POSITION, as in 0-42", s)
	}
	return ID{Shard: ShardID(n), Position: Position(p)}, nil
}

// Stored is what an append says of one event: the ID that it has.
type Stored struct {
	ID

	// Duplicate: the event was stored before, by this append or an earlier one,
	// and is known by its source and id. ID is what it got then; nothing new was
	// stored. Only what stands before a log (package dedup) says so.
	Duplicate bool
}

// Receipts makes the slices that appends return, many out of one piece of
// memory. The zero value works; it belongs to one goroutine at a time.
type Receipts struct{ rest []Stored }

// Take returns n that are zero and the caller's alone.
func (r *Receipts) Take(n int) []Stored {
	const piece = 64
	if n > piece/4 {
		return make([]Stored, n)
	}
	if len(r.rest) < n {
		r.rest = make([]Stored, piece)
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

// Record is one stored event.
type Record struct {
	Position Position
	Time     time.Time // of the append; never decreases along a shard
	Event    event.Event
}

// Appender takes events in. All implementations are Appenders; the one
// between ingress and dispatcher is nothing else.
type Appender interface {
	// Append stores the events of one request, all or none, and returns what
	// they are stored as in the same order, in a slice that is the caller's. It
	// may be called by any number of goroutines, which share the cost of making
	// the events durable, and it blocks until the outcome is known.
	//
	// Each event goes to the shard that Place names. Those that go to the same
	// shard stand there in the order of the call. A call without events stores
	// nothing and succeeds. Nothing is kept of events but the Events: the slice
	// is the caller's again when Append returns.
	//
	// A nil error means stored. An error that is a *Refused means that nothing
	// was stored and the sender may try again; any other error means that the
	// outcome is unknown and wraps ErrUnknown. A ctx that ends before the
	// events are handed over is a refusal that wraps ErrUnavailable; once they
	// are, it no longer makes Append return: the answer does.
	Append(ctx context.Context, broker UID, events []event.Event) ([]Stored, error)
}

// Log is a channel that this process owns: it can be read, and keeps what
// dispatch must know after a restart. memory, disk and jetstream are Logs.
type Log interface {
	Appender

	// Run does the log's own work (committing, removing what nobody needs,
	// checkpoints) until ctx ends, and then closes the log in order: what was
	// accepted is durable, the files are closed. Append and Read answer before
	// Run is called by waiting for it, and ErrClosed after it has returned (as
	// everything else does that returns an error). Reads in progress end with
	// ErrClosed. It returns an error only if closing failed. Run is called once.
	Run(ctx context.Context) error

	// Broker opens a broker's part of the log and creates it if there is none.
	// Opening it again changes its settings and returns the same BrokerLog.
	Broker(ctx context.Context, info BrokerInfo) (BrokerLog, error)

	// Brokers lists the brokers stored here, open or not.
	Brokers() []BrokerInfo

	// Remove forgets a broker with all that belongs to it. Reads of it in
	// progress end with ErrNoBroker, and so does every later call of its
	// BrokerLog that returns an error. Removing an absent broker is no error.
	// Opening a removed UID again makes a new, empty broker.
	Remove(ctx context.Context, broker UID) error

	// Ready is nil while Append may succeed, otherwise why not. It does not block.
	Ready() error
}

// BrokerInfo identifies a broker and bounds what it may keep.
type BrokerInfo struct {
	UID  UID
	Name string // namespace/name, for people and file-free listing; no identity

	// Shards is how many shards the broker gets when it is created; 0 means 4.
	// A broker that exists keeps the number it has.
	Shards int

	// Retention keeps settled events for replay: at most so long after their
	// append and at most so many bytes, the oldest going first. Where either is
	// 0 nothing is kept for longer than need be. An event that is pending or
	// not yet scanned stays, however old.
	Retention      time.Duration
	RetentionBytes int64

	// Keying homes events that carry no partitionkey. A change of it concerns
	// events from then on. It is for the running process: a log need not find it
	// again after a restart, who opens the broker says it.
	Keying Keying

	// MaxBytes bounds all that the broker keeps, dead letters included. 0 leaves
	// it to the implementation's own bound.
	MaxBytes int64
}

// BrokerLog is one broker's part of a Log. Its methods may be called by any
// number of goroutines unless they say otherwise.
type BrokerLog interface {
	// Info is what the broker was last opened with, with the true shard count.
	Info() BrokerInfo

	// Shards lists the shards this log owns, in ascending order.
	Shards() []ShardID

	Reader
	Router
	Keeper
	DeadLetters

	// Stats counts; cheap enough for every scrape.
	Stats() Stats

	// Gaps lists what was declared lost, in the order it was found, at most
	// MaxGaps of them. A channel that cannot lose a part of what it holds has none.
	Gaps() []Gap
}

// MaxGaps bounds the list of a broker's gaps. Beyond it neighbours in one
// shard are listed as one, with what is good between them.
const MaxGaps = 1024

// Gap is a range of positions of which records were damaged on the medium and
// are declared lost: they will not be delivered, and nothing is kept for them
// any more. A gap is listed for ever, for people; Read and Get report it as a
// *GapError with Lost set to those who still count on its events.
type Gap struct {
	Shard    ShardID  // of the events; 0 where Dead
	From, To Position // [From, To); of the dead letters' own order where Dead
	Lost     uint64   // records lost in it, at most To-From
	Found    time.Time
	Dead     bool   // dead letters, and not events, are lost
	Cause    string // one line
}

// Reader hands events out.
type Reader interface {
	// Read appends to buf records at or after from, in order, until cap(buf) is
	// reached or no more are durable, and returns the position to go on from.
	// It blocks until there is at least one, ctx ends, or the log closes.
	// Only durable records are handed out. buf must have room for one; from may
	// lie anywhere, also on a record that is gone or beyond the last. A shard
	// that is not in Shards is an error at once, here and below.
	//
	// A *GapError says that a range which held records cannot be read any
	// more; records before the gap are returned with it, and the caller goes on
	// from the position returned, which is after the gap.
	Read(ctx context.Context, shard ShardID, from Position, buf []Record) ([]Record, Position, error)

	// Recent is Read for who must not wait, neither for a record nor for the
	// medium: it appends what memory has and returns the position to go on from.
	// all means that nothing more is durable, and Read would wait. Where it is
	// false there is more than buf takes, or Read has to say what comes next.
	Recent(shard ShardID, from Position, buf []Record) (records []Record, next Position, all bool)

	// Follow has f told of every n records that have become durable in a shard
	// from now on, of some perhaps of more than once. Whoever made them durable
	// calls f and waits for it, with no lock held, from several goroutines at
	// once: it must be quick, and neither append nor wait for anybody who does.
	// There is one f; a call of the one before may still be under way.
	Follow(f func(shard ShardID, n int))

	// Get appends to buf the records at these ascending positions, however many.
	// It does not wait. A position that holds no record (not yet, not any
	// more) is left out. A record that cannot be read, or was declared lost,
	// is left out too and comes back in a *GapError of its own, joined by
	// errors.Join if there are several.
	Get(ctx context.Context, shard ShardID, positions []Position, buf []Record) ([]Record, error)

	// Range is what can be read: earliest is the first position still kept
	// (== next if there is none), next is the one after the last durable record,
	// at least 1. Both are 0 for a shard that is not in Shards.
	Range(shard ShardID) (earliest, next Position)
}

// Router keeps which triggers an event is matched against: those of the last
// change before it. Subscriber and delivery settings are not its matter.
type Router interface {
	// SetRoutes records a change of the broker's trigger set and returns it with
	// Epoch and From filled in, From for every shard of Shards. It is durable
	// when SetRoutes returns. The position of every event whose Append had
	// returned before the call is below From, and that of every event whose
	// Append is called after SetRoutes has returned is not.
	// Epochs and Froms of concurrent calls have the same order.
	//
	// The log keeps the slices of change: the caller must not change them.
	SetRoutes(ctx context.Context, change Routes) (Routes, error)

	// Routes returns the changes that still decide over unscanned records:
	// first the whole set (Whole is true) as it stood at the lowest unscanned
	// record, then each later change in order of Epoch. Changes before which
	// every record is scanned are folded into the first, which keeps the last
	// folded one's Epoch and From. Empty for a new broker. The caller must not
	// change what it gets.
	Routes() []Routes
}

// Routes is one change of a broker's trigger set.
type Routes struct {
	Epoch uint64               // 1, 2, 3, ... in order of the changes
	From  map[ShardID]Position // first position in each shard that this change decides over
	Set   []Route              // triggers added or changed
	Unset []UID                // triggers gone
	Whole bool                 // Set is the whole set, what it does not name is gone
}

// Route is one trigger as matching knows it.
type Route struct {
	Trigger UID
	Name    string // namespace/name, for people
	Filter  []byte // canonical JSON of filter.Spec
}

// Keeper stores how far delivery has come. It may lag: what is lost of it in
// a crash costs duplicates, never events.
type Keeper interface {
	// SaveProgress records changes of progress, in order. Progress and retention
	// know of them when it returns. It does not wait for them to become durable;
	// an implementation makes them so within 100 ms or with the next Append,
	// whichever is first. A crash loses the newest calls or none of them, and
	// never a part of one ShardProgress. At most one goroutine calls it per
	// broker. It keeps nothing of changes.
	SaveProgress(ctx context.Context, changes []ShardProgress) error

	// Progress is all that is known for one shard: Added is the whole pending
	// set, Retries all retries under way. The caller owns what it gets.
	Progress(shard ShardID) ShardProgress

	// Resume is Progress for one that goes on from it, or looks whether something
	// is pending: in little more memory than the log has it in, however much it is.
	Resume(shard ShardID) (scanned Position, lanes []Resumed)
}

// DeadLetters keeps what could not be delivered until somebody discards it.
// Its methods may be called at any time beside one another and everything else.
type DeadLetters interface {
	// AppendDead stores dead letters durably, all or none, before it returns
	// nil. Errors are those of Append. It keeps nothing of letters but Events,
	// and gives each a Number, whatever theirs is.
	// From then on Progress shows the event as pending with a Retry marked Dead,
	// whether or not it has been scanned, until SaveProgress settles it.
	AppendDead(ctx context.Context, letters []DeadLetter) error

	// Dead lists a trigger's dead letters (all triggers' where trigger is "")
	// in the order they died, which is that of Number, after the given cursor
	// ("" to start), at most limit of them (at least 1), with the cursor to go
	// on from ("" at the end). A cursor that Dead has not returned is an error;
	// one that was returned stays good, whatever is discarded meanwhile.
	//
	// Letters that cannot be read are left out and named in the error, with
	// which the others are returned; so it is in DeadByNumber.
	Dead(ctx context.Context, trigger UID, after string, limit int) (letters []DeadLetter, next string, err error)

	// DeadByNumber returns the letters of these numbers, each once and in
	// ascending order. A number that names no letter that is kept is left out.
	// The caller bounds how many it asks for: they are all in memory at once.
	DeadByNumber(ctx context.Context, numbers []uint64) ([]DeadLetter, error)

	// FindDead returns the letter of an event that died for a trigger; of
	// several (an event may die again when it is sent again) the one that died
	// last. It does not read the other letters, but may need time when it is
	// asked for the first time.
	FindDead(ctx context.Context, trigger UID, id ID) (letter DeadLetter, found bool, err error)

	// DiscardDead removes the letters of these numbers for good and returns how
	// many there were. Numbers that name no letter are passed over. It is durable
	// before it returns nil; an error that is a *Refused means that those not
	// counted are still there, any other error that the outcome is unknown. A
	// crash before it returns keeps or loses any of the letters, each wholly.
	//
	// A letter that is discarded no longer keeps its bytes from being freed,
	// which an implementation does in its own time, at the latest when the room
	// is needed. Progress does not change: an event that is pending because its
	// dead letter sink has not taken it yet stays so, and goes on to the sink.
	DiscardDead(ctx context.Context, numbers []uint64) (discarded int, err error)

	// DeadCount counts a trigger's dead letters, all triggers' where trigger is "".
	DeadCount(trigger UID) uint64

	// DeadGroups counts a trigger's dead letters (all triggers' where trigger is
	// "") by trigger and reason, the largest group first. It may need time when
	// it is asked for the first time, and is then cheap enough for a list that
	// people look at.
	DeadGroups(ctx context.Context, trigger UID) ([]DeadGroup, error)
}

// DeadLetter is an event that a trigger's subscriber did not take, and why.
type DeadLetter struct {
	Number      uint64    // its place in the order of dying within the BrokerLog, from 1; given by the log and never used again
	ID          ID        // of the event
	Trigger     UID       //
	TriggerName string    // namespace/name, for people
	Accepted    time.Time // when the event was stored
	Died        time.Time
	Attempts    int
	Reason      string // one line: "status 404", "timeout after 30s"
	Code        int    // last HTTP status; 0 if there was no answer
	Destination string // last URL tried
	Answer      []byte // beginning of the last answer's body
	Event       event.Event
}

// Stats are a broker's counts.
type Stats struct {
	Bytes       int64 // on the medium, all kinds of records
	DeadBytes   int64 // of these, dead letters
	MaxBytes    int64 // the bound in force, 0 for none
	DeadReserve int64 // of MaxBytes, what events leave to dead letters
}
