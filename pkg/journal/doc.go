// Package journal is the record of what happened to each event: when it was
// accepted, which triggers it went to, every attempt, its replies, and how it
// ended for each trigger. People read it; nothing is decided by it.
//
// It carries no promise. Events, dead letters and progress do, and the
// channel is the truth about them. The journal is bounded by time and bytes
// and forgets the oldest first. It survives restarts; a kill takes what was
// written in the last 40 ms, a power cut what the system had not yet put on the
// disk. Where the disk fails or does not keep up, records are dropped and
// counted, and a Gap tells readers when.
//
// Writing costs well under a microsecond per event, allocates nothing, and
// waits for no disk: a record is put into a buffer under one mutex, and Run
// writes the buffer. Every method may be called by any number of goroutines;
// those that write may be called on nil, which means that nobody wants to know.
// Reading goes on beside writing and also finds what is still in the buffer.
package journal
