// Package dispatch takes events from the channel to the triggers that want
// them. It reads each event once, asks the index of its Broker who wants it,
// and gives every trigger a lane of its own: a bounded window in flight, its
// own retries, its own backlog. A lane that hangs or fails delays nobody else.
//
// The promise: an event that was accepted while a trigger was routed and whose
// filter matches is offered to that trigger at least once, and leaves the lane
// only after the subscriber's 2xx and the append of its reply, after its dead
// letter is stored, or because the trigger is gone. A crash costs duplicates.
//
// A panic in an attempt is contained: it is a failed attempt, tried again and
// in the end dead. (Filters contain theirs themselves, net/http those of the
// ingress.) A panic anywhere else is a broken invariant of ours and ends the
// process, which loses nothing: that costs what a crash costs.
//
// Each lane has a window that follows what its subscriber takes (pace), a
// circuit that keeps events from spending their attempts on a subscriber that is
// down, and where its Trigger asks for it a rate, an order by key, or a pause.
// LaneStatus says which of them is in the way.
//
// A lane whose subscriber scales from zero (config.Trigger.ScalesFromZero) has a
// pace of its own kind: what the subscriber refuses while it is cold or full is
// no attempt, and its circuit hears of it only after that.
//
// What it does not do: it makes no HTTP request itself (deliver does), decides
// no retry of what counts (deliver.Policy does) and stores nothing (the channel
// does).
package dispatch
