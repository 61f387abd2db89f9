package journal

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Options of a Journal. The zero value works.
type Options struct {
	// Retention is how long records are kept where MaxBytes allows. They may stay
	// up to a fifth longer, since files go as a whole. 0 means 24 hours.
	Retention time.Duration

	// MaxBytes bounds all files together. The oldest records make room. 0 means
	// 256 MiB on disk and 32 MiB in memory; less than 256 KiB means 256 KiB.
	MaxBytes int64

	// SegmentBytes is about the size of one file, and so of what is removed at
	// once. 0 means 8 MiB, or a 64th of MaxBytes where that is more, up to
	// 64 MiB. It is at most a quarter of MaxBytes.
	SegmentBytes int64

	Logger *slog.Logger     // nil means none
	Now    func() time.Time // nil means time.Now
}

const (
	defaultRetention = 24 * time.Hour
	defaultDiskBytes = 256 << 20
	defaultMemBytes  = 32 << 20
	leastBytes       = 256 << 10
	defaultSegment   = 8 << 20
	largestSegment   = 1 << 30 // offsets have 32 bits
	leastSegment     = 64 << 10

	// maxBuffer bounds each of the two buffers. What does not fit while the
	// other is being written is dropped and counted.
	maxBuffer = 4 << 20

	// maxSegments bounds the files, and with them the cost of a look-up, where
	// segments are small: after errors, or with little traffic and long
	// retention. The oldest go.
	maxSegments = 1024

	flushAfter = 40 * time.Millisecond
	retryAfter = 10 * time.Second
)

func (o Options) withDefaults(inMemory bool) Options {
	if o.Retention <= 0 {
		o.Retention = defaultRetention
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultDiskBytes
		if inMemory {
			o.MaxBytes = defaultMemBytes
		}
	}
	o.MaxBytes = max(o.MaxBytes, leastBytes)
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = max(defaultSegment, min(o.MaxBytes/64, 8*defaultSegment))
	}
	o.SegmentBytes = max(leastSegment, min(o.SegmentBytes, o.MaxBytes/4, largestSegment))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Journal is an open journal.
type Journal struct {
	store store
	opts  Options
	room  int           // bound of one buffer
	wake  chan struct{} // the buffer is no longer empty
	press chan struct{} // the buffer is half full

	// mu is the one lock that those who write meet. It is held for the copy of
	// one record, and never during a read or write of a file.
	mu      sync.Mutex
	cur     *batch // being filled
	writing *batch // being written, or nil
	spare   *batch // to be filled next, or nil
	seq     uint64 // of cur
	bytes   int64  // of segment cur.segment, with all batches before cur
	ageing  bool   // the segment is to be closed for its age
	down    bool   // the disk fails: records are dropped at once
	closed  bool
	missing Gap // dropped and not yet written as a gap; From is zero where there is none
	dropped uint64

	// tail guards what is in the files. The writer takes it for moments, to
	// show what it has written.
	tail    sync.RWMutex
	sealed  []*segment // ascending; replaced, never changed
	active  *active    // or nil
	written uint64     // seq of the last batch that is in a file, or lost

	// The rest belongs to Run.
	complained bool      // about the disk
	overflowed time.Time // when we last said that the buffer was full
	swept      time.Time // when we last looked for what is too old
	retryAt    time.Time // zero: nothing to try again
}

// ErrNotFound says that the journal has no record of an event (any more).
var ErrNotFound = errors.New("no record of this event")

// Open opens the journal in a directory, which is made where there is none,
// or with dir "" one that lives in memory as long as the process. It reads what
// a crash left without an index, which is 8 MiB or so, and drops what is damaged.
// The directory must have one owner.
func Open(dir string, o Options) (*Journal, error) {
	if dir == "" {
		return open(newMemory(), o.withDefaults(true))
	}
	return open(directory(dir), o.withDefaults(false))
}

// Run writes, seals and removes until ctx ends, then writes what is left and
// returns. What is recorded after that is dropped; reading goes on to work. Run
// is called once. Before it is, records wait in the buffer.
func (j *Journal) Run(ctx context.Context) error {
	if j == nil {
		<-ctx.Done()
		return nil
	}
	flush := time.NewTimer(flushAfter)
	flush.Stop()
	defer flush.Stop()
	sweep := time.NewTimer(flushAfter)
	defer sweep.Stop()
	for {
		if j.blank() {
			sweep.Stop()
		} else {
			sweep.Reset(j.untilSweep())
		}
		select {
		case <-ctx.Done():
			return j.close()
		case <-sweep.C:
			j.sweep()
		case <-j.wake:
			flush.Reset(flushAfter)
			select {
			case <-flush.C:
			case <-j.press:
				flush.Stop()
			case <-ctx.Done():
				return j.close()
			}
			j.write()
		}
	}
}

// blank reports whether nothing can become too old and no disk is to be tried
// again, before something is written.
func (j *Journal) blank() bool {
	return j.active == nil && len(j.sealed) == 0 && j.retryAt.IsZero()
}

// untilSweep is how long it is until the next look for what is too old, or
// until a failed disk is to be tried again.
func (j *Journal) untilSweep() time.Duration {
	at := j.swept.Add(min(time.Minute, max(j.opts.Retention/16, 10*time.Millisecond)))
	if !j.retryAt.IsZero() && j.retryAt.Before(at) {
		at = j.retryAt
	}
	return at.Sub(j.opts.Now())
}

func (j *Journal) sweep() {
	now := j.opts.Now()
	j.swept = now
	if j.retryAt.IsZero() || !now.Before(j.retryAt) {
		j.retryAt = time.Time{}
		j.reindex()
		j.revive()
	}
	if j.aged(now) {
		j.mu.Lock()
		j.ageing = true
		j.mu.Unlock()
		j.write()
	}
	j.expire(now)
}

func (j *Journal) close() error {
	j.write()
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	j.write() // what came in between
	return j.release()
}

// Stats are the counts of a journal.
type Stats struct {
	Bytes    int64     // of all files
	Records  uint64    // in them
	Earliest time.Time // of the oldest record kept; zero where there is none
	Dropped  uint64    // records dropped since Open
}

// Stats counts; it is cheap enough for every scrape.
func (j *Journal) Stats() Stats {
	if j == nil {
		return Stats{}
	}
	var s Stats
	earliest := func(first int64) {
		if t := instant(first); !t.IsZero() && (s.Earliest.IsZero() || t.Before(s.Earliest)) {
			s.Earliest = t
		}
	}
	j.mu.Lock()
	s.Dropped = j.dropped
	j.mu.Unlock()
	j.tail.RLock()
	defer j.tail.RUnlock()
	for _, seg := range j.sealed {
		s.Bytes += seg.size + seg.index
		s.Records += uint64(seg.records)
		earliest(seg.first)
	}
	if j.active != nil {
		s.Bytes += j.active.size
		s.Records += uint64(j.active.records)
		earliest(j.active.first)
	}
	return s
}

// nanos and instant keep times in 64 bits, 0 for none.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
