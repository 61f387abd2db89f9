// Package remote is the hop between ingress and the dispatchers: Client is a
// channel.Appender whose log is in another process, Server is what stands
// before that log.
//
// # What it promises
//
// Stored, refused and unknown mean after the hop what they meant before it,
// for each Append by itself. Append returns nil only where the owner's log
// said stored; a refusal comes with the log's own reason and time to wait; and
// where bytes of a request may have reached an owner and no answer that can be
// understood came back, the outcome is unknown: such events are sent nowhere
// else and not again. Where nothing was written, or the owner said before it
// read them that it takes no events (not known here, not ready, stopping),
// nothing was stored: events without a key are then offered to another owner,
// a bounded number of times, and those with a key are refused.
//
// An orderly stop of either end leaves nothing unknown. Events go only on
// connections on which the owner has answered before. A Server that stops says
// so in every answer for a while; clients that hear it, in an answer or in that
// to the empty request which each sends every other second, let go.
//
// # Where events go
//
// An event with a partitionkey, or a key by its Broker's Keying, goes to the
// owner that Home names, or is refused while that one is away. All others go to any owner that serves. The
// events of one Append whose homes differ go to several owners at once: stored
// where all are, refused where all are, unknown otherwise. Those without a key
// ride along.
//
// # How
//
// HTTP/1.1, POST Path, a few long-lived connections for each owner. An append
// that finds a connection idle goes at once. Those that come while all are busy
// wait, and go together as the next request: the more there is to do, the
// cheaper each gets, and there is no timer.
//
// The version is in the path. An owner that does not speak it answers 404,
// which a Client takes as refused, never as unknown. A new version of the
// format therefore gets a path of its own, which dispatchers serve beside the
// old one a release before any ingress asks for it. Within version 1 an older
// Server refuses an append whose events it cannot read (a younger stored form)
// by itself, as not available, and headers that are not known are not looked at.
//
// What a younger Server may say, a Client asks for with a header: of two
// versions at the two ends, both say only what the older one understands.
//
// The answer of anybody but a Server (a proxy in between, another process on a
// reused address) is not trusted: without the header of ours a status of 5xx is
// unknown.
//
// Client and Server may be used by any number of goroutines.
package remote

// Path is where a Server takes appends, version 1.
const Path = "/internal/v1/append"
