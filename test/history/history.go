// Package history writes down what a run of the broker did, as its senders and
// subscribers saw it, and decides afterwards whether the broker kept its
// promise: a Recorder writes JSON lines, Check reads them.
//
// A history is a proof by itself: it names the rules it is judged by, and
// `go run ./test/history/check FILE...` gives the verdict that the test gave
// (go test -artifacts keeps the files of the end-to-end tests).
// The checker knows nothing of the broker's inside. It joins lines by id, in
// time and memory proportional to their number, and judges retries and
// integrity with code of its own; only filters are decided by pkg/filter, which
// has its own oracle. Doctor alters a good history in one way, and so shows
// that the checker can fail.
//
// # Lines
//
// Each line is a [Line] with "t", nanoseconds since the first line, and "do":
//
//	begin        first line: wall clock, rules
//	routes       a Broker's Trigger set is about to change to this one
//	routed       that change is in force
//	send         an event is about to be posted
//	answer       what the sender was answered; none at all: the outcome is unknown
//	receipt      a subscriber has a whole event
//	subscriber   what it answers, written before the broker can know
//	dead         the broker shows a dead letter
//	cancelled    a Trigger is about to be removed for good
//	gap          the broker declares positions of a Broker lost
//	fault        something begins to go wrong (see the kinds of Fault)
//	healed       that is over
//	detected     the broker has reported a damage
//	incarnation  a process is about to be started, with the epoch it should own
//	sample       memory, file descriptors, connections
//	backup       a backup is asked for
//	backedup     it is complete
//	restored     what follows runs on a backup of what is above
//	final        a Trigger's counters as the broker gives them
//	late         this machine, not the broker, was late by so many nanoseconds
//
// What happens to the broker (fault, incarnation, routes, cancelled, backup) is
// written before it is done, so that the time of a line is never after the
// moment: the checker allows for the time in between.
//
// # Invariants
//
// The numbers are those of docs/reliability.md. I16 (isolation of namespaces) is
// not judged, since the feature does not exist; the replay half of I15 is judged
// by its own tests; the p99 half of I9 is a matter of measuring, not of a history.
//
// An event whose sending got no answer, or a 500, may be delivered and need not
// be: it is in the may set. So is one that was under way while the Trigger set
// changed, for the Triggers that only one of the sets has.
//
// An answer of a subscriber settles an event only if the broker has surely
// heard it: not if the broker had hung up, if its time limit was near, if a cut
// or a pause fell between. At the end of a process by a crash all that was in
// flight or was answered in the last Rules.Lag may happen again.
//
// A Recorder may be used by any number of goroutines. Check, Doctor and what
// they return belong to their caller.
package history
