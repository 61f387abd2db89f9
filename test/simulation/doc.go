// Package simulation runs the whole broker in virtual time: the real ingress,
// log, dispatcher and delivery client, over a network and a file system in
// memory that fail as real ones do. An hour takes some tens of milliseconds.
//
// A run is a script drawn from a seed: Brokers, Triggers, what senders send
// and when, how each subscriber behaves, and what goes wrong at which moment.
// At the end everything is healed, the backlog must drain, and the checker of
// test/history judges the run by what senders and subscribers saw.
//
// The same seed gives the same script: the same worlds, faults, times and
// behaviour. It does not give the same interleaving. Within one instant of
// virtual time Go runs goroutines in any order, and jitter of retries is drawn
// anew, so that a failure that depends on either may need the seed several
// times. A failing run logs its script and keeps its history where
// PENSTOCK_HISTORY names a folder.
//
// Beside the random runs there are stories: one fault each, with the exact
// instants that must come of it; and mutants: brokers that break one promise,
// which the checker must find out.
package simulation
