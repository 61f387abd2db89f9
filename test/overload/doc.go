// Package overload offers the real binary more than it may take, and puts bad
// neighbours beside good ones: a limited broker at five times its rate, a
// channel that is full, hung, dripping, failing and endlessly answering
// subscribers, a broker whose senders do not heed its limit, and thousands of clients
// that come back at once.
//
// Loads are open loop: an event is due at its time whether those before it were
// answered or not, and latency counts from then. Every run compares the ids that
// were answered 202 with those that came: nothing accepted is lost, nothing
// refused is delivered. Speed is asserted only as ratios within one run. Where
// such a ratio fails while other work uses the machine, the test looks at all
// the rest and is skipped, and counted on standard error: it has not decided.
package overload
