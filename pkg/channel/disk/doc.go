// Package disk is the channel that survives a crash: a log in a directory,
// one write-ahead log for all brokers and shards on the volume.
//
// It promises that what Append, AppendDead and SetRoutes have answered with
// nil is on the medium (fdatasync, and the file's name with it), comes back
// after any crash, and that every read has been verified: a record is handed
// out as it was stored or reported as a gap, never altered and never left out
// in silence. Concurrent appends share one write and one sync.
//
// After the first error of a write or a sync the log is latched: nothing is
// acknowledged until it is opened again, which verifies it. What a crash
// leaves half written at the end is set aside and cut off; anything else there
// that is not as it was written is damage, and Open refuses it, changing nothing.
// A sealed segment that is damaged is taken out of the log while that runs: its
// good records are kept, the others are declared lost, by position and for ever.
//
// It does not promise to give back what is damaged: there is one copy. Progress
// may lag 100 ms. A trigger that never acknowledges keeps its own events, and
// not the segments they were appended to.
//
// A directory has one owner at a time; a second Open is refused. All methods
// of Log and of its brokers may be called by any number of goroutines, but
// SaveProgress by one per broker at a time. DESIGN.md beside this file has the
// format, and why it is so.
package disk
