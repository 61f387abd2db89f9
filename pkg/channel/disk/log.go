package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Options change a Log from its defaults. The zero Options work.
type Options struct {
	FS           FS                  // the file layer; nil is the operating system's
	SegmentSize  int64               // bytes of one segment; 0 is 64 MiB; at least 64 KiB, at most an eighth of the log
	MaxBytes     int64               // bytes of the whole log; 0 is 80 % of the volume
	QueueBytes   int64               // bytes that may wait to be written; 0 is 16 MiB
	TailBytes    int64               // bytes of the newest events kept in memory; 0 is 8 MiB
	RetryAfter   time.Duration       // hint in refusals; 0 is 1 s
	Logger       *slog.Logger        // nil logs nothing
	Now          func() time.Time    // append times; nil is time.Now
	SyncObserver func(time.Duration) // told how long each sync of a commit took; nil tells nobody

	// Repair has Open do without what is missing or damaged where it would
	// refuse: see Log.Repaired. What is lost is lost for good then.
	Repair bool

	ScrubRate     int64         // bytes a second that the scrubber reads; 0 is 20 MiB, negative switches it off
	ScrubEvery    time.Duration // least time between the beginnings of two passes of the scrubber; 0 is 24 h
	ScrubObserver ScrubObserver // told what the scrubber does; nil tells nobody
}

const (
	minSegmentSize     = 64 << 10
	defaultSegmentSize = 64 << 20

	// watermarkAfter is how long the last batch may be without a witness.
	watermarkAfter = 10 * time.Millisecond
	// lazyAfter is how long progress waits for a batch to travel with. The
	// promise is 100 ms, sync included.
	lazyAfter = 25 * time.Millisecond
	// tickEvery is how often the log looks after itself.
	tickEvery = time.Second
	// restEvery is the same where nothing is written and nothing is left to do.
	// Who asks how the log is meanwhile (Ready, Health) looks for himself.
	restEvery = time.Minute
	// checkpointBytes of progress force a checkpoint, so that recovery does
	// not replay more.
	checkpointBytes = 16 << 20
)

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = osFS{owned: new(ownedDir)}
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = defaultSegmentSize
	}
	o.SegmentSize = min(max(o.SegmentSize, minSegmentSize), 1<<31) &^ 4095
	if o.QueueBytes == 0 {
		o.QueueBytes = 16 << 20
	}
	if o.TailBytes == 0 {
		o.TailBytes = 8 << 20
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ScrubRate == 0 {
		o.ScrubRate = defaultScrubRate
	}
	if o.ScrubEvery <= 0 {
		o.ScrubEvery = defaultScrubEvery
	}
	if o.ScrubObserver == nil {
		o.ScrubObserver = noScrubObserver{}
	}
	return o
}

// Log is a channel.Log in one directory. Open makes one.
type Log struct {
	dir         string
	o           Options
	fs          FS
	log         *slog.Logger
	lock        io.Closer
	store       [16]byte // id of this store
	epoch       uint32   // of this owner
	segmentSize int64
	maxBytes    int64

	brokers atomic.Pointer[map[channel.UID]*broker]
	latched atomic.Pointer[error]
	full    atomic.Bool            // no room for events
	backup  atomic.Pointer[Backup] // under way; its files stay
	closing atomic.Bool
	running atomic.Bool // started is closed; asked first, for it is cheaper
	vitals  vitals      // what Health tells
	started chan struct{}
	ended   chan struct{} // closed when Run returns
	resting atomic.Bool   // housekeeping is: who gives it work sees to it by stir
	stirred chan struct{}

	requests sync.Pool // of *request, for Append

	qmu    sync.Mutex
	queue  []*request
	queued int64         // bytes in queue
	kick   chan struct{} // for Run: the queue is not empty and nobody sees to it
	crowd  atomic.Bool   // the last commit had several callers, so the next one is Run's

	// committing holds a token while somebody is the committer. A channel and
	// not a mutex: whoever waits may wait for a slow disk.
	committing      chan struct{}
	watermark       *time.Timer // set by commits, waited for by Run
	spare           File        // the next segment's file
	taken           []*request
	batch           []*request // in buf
	freshened       []*stream  // whose followers are to be told
	lazied          []lazied   // in buf
	buf             []byte     // frames to be written, after those that are
	spilt           int64      // bytes of the commit that are written at tailOff, and not synced
	tailOff         int64      // end of the active segment's durable frames; written under mu too
	entries         int        // the active segment's footer will have, at most
	records         int        // of streams, in the active segment
	unwitnessed     bool       // the last batch has no witness yet
	hindered        bool       // progress waits for room, and the operator knows
	lastTime        int64
	nextStream      uint32
	sequence        uint64 // of the newest checkpoint
	sinceCheckpoint int64
	garbage         []garbage
	sealedBytes     int64 // of the segments kept
	collected       time.Time
	kept            time.Time // when the first of the retained events are no longer; zero where none are
	untended        bool      // something was written since collect looked
	thin            []verdict // sealed segments to be copied from, the cheapest first
	moving          *move
	copies          []copied // moved records in buf
	moved           int64    // bytes copied since the start
	nextMoveNumber  uint32
	unrecorded      bool     // segments were dropped that the newest checkpoint names
	putOff          bool     // a checkpoint waits for room, and the operator knows
	torn            int64    // bytes that Open set aside
	aside           []uint64 // segments whose files a repair sets aside
	repaired        []string // what a repair has done
	lossy           bool     // a repair found a hole after the checkpoint
	holed           bool     // the active segment has one
	incomplete      error    // why Open had to do without a part of the log; nil if it had not

	mu          sync.Mutex
	streams     map[uint32]*stream
	segments    []*segment // sealed and kept, ascending
	active      *segment
	open        []*segment // sealed ones with an open file
	suspects    map[uint64]*suspicion
	recent      []tailRef // what the streams' tails hold, oldest first
	recentHead  int
	recentBytes int64
	lazies      []lazy
	lazyBytes   int64
	lazyTold    bool
	lazyKick    chan struct{}
	closed      bool
}

var _ channel.Log = (*Log)(nil)

// Open opens the log in a directory, and makes one where there is none. It
// verifies before it returns: the newest checkpoint, every footer, all frames
// since. What is damaged is an error that names file, offset and cure
// (*CorruptError, *VersionError, *LockedError), and nothing is changed then.
//
// The caller must call Run, which also closes the log.
func Open(dir string, o Options) (*Log, error) {
	l := newLog(dir, o.withDefaults())
	if err := l.fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	lock, err := l.fs.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l.lock = lock
	if err := l.recover(); err != nil {
		l.closeFiles()
		return nil, fmt.Errorf("open log: %w", err)
	}
	return l, nil
}

// newLog is a log that knows nothing yet and holds nothing open.
func newLog(dir string, o Options) *Log {
	l := &Log{
		dir: dir, o: o, fs: o.FS, log: o.Logger, segmentSize: o.SegmentSize, maxBytes: o.MaxBytes,
		started: make(chan struct{}), ended: make(chan struct{}), kick: make(chan struct{}, 1), lazyKick: make(chan struct{}, 1),
		committing: make(chan struct{}, 1), stirred: make(chan struct{}, 1), watermark: idle(),
		streams: make(map[uint32]*stream), nextStream: 1, suspects: make(map[uint64]*suspicion),
	}
	l.brokers.Store(&map[channel.UID]*broker{})
	return l
}

// Torn is how many bytes of a write that was cut short Open has set aside in
// a .torn file. They were never acknowledged.
func (l *Log) Torn() int64 { return l.torn }

// Run implements channel.Log.
func (l *Log) Run(ctx context.Context) error {
	l.running.Store(true)
	close(l.started)
	defer close(l.ended)
	l.lead(l.observe)
	scrubbed := l.scrubbing(ctx)
	lazy := idle()
	defer l.watermark.Stop()
	defer lazy.Stop()
	tick := time.NewTimer(tickEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.kick:
			l.lead(func() { l.commit(l.take()) })
		case <-l.watermark.C:
			l.lead(l.bear)
		case <-l.lazyKick:
			lazy.Reset(lazyAfter)
		case <-lazy.C:
			l.lead(func() { l.commit(nil) })
		case <-l.stirred:
			tick.Reset(0)
		case <-tick.C:
			var rest time.Duration
			l.lead(func() {
				l.tend()
				rest = l.rest()
			})
			tick.Reset(rest)
		}
	}
	<-scrubbed
	l.committing <- struct{}{} // for good
	return l.close()
}

// lead does work as the committer, once nobody else is.
func (l *Log) lead(work func()) {
	l.committing <- struct{}{}
	work()
	l.yield()
}

// yield lets go of the committer's part. Whoever queued a request meanwhile
// counts on it that somebody commits: that is Run.
func (l *Log) yield() {
	<-l.committing
	if l.waiting() {
		l.kickRun()
	}
}

func (l *Log) kickRun() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

func idle() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// bear writes a bare frame whose witness is the end of the log, so that
// damage to the last batch can be told from a torn write.
func (l *Log) bear() {
	if !l.unwitnessed || l.latched.Load() != nil || !l.fits(frameHeader, 0) {
		return
	}
	l.frame(frame{kind: kindWatermark, time: l.clock()}, nil)
	l.flush()
	l.unwitnessed = false
}

// stir ends the rest of housekeeping.
func (l *Log) stir() {
	if l.resting.Load() && l.resting.CompareAndSwap(true, false) {
		select {
		case l.stirred <- struct{}{}:
		default:
		}
	}
}

// rest is how long housekeeping may wait, after it was done. Committer only.
func (l *Log) rest() time.Duration {
	l.resting.Store(true) // first: what comes from here on stirs
	switch {
	case l.left():
		l.resting.Store(false)
		return tickEvery
	case l.kept.IsZero():
		return restEvery
	}
	return min(max(l.kept.Sub(l.o.Now()), tickEvery), restEvery)
}

// left reports whether housekeeping has something to do that nobody will stir
// it for. Committer only.
func (l *Log) left() bool {
	if l.latched.Load() != nil {
		return false
	}
	if l.untended || l.full.Load() || l.vitals.tight.Load() || l.putOff || l.hindered || l.unrecorded ||
		l.moving != nil || len(l.thin) > 0 || len(l.garbage) > 0 || l.sinceCheckpoint > checkpointBytes {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.suspects) > 0 || len(l.lazies) > 0
}

// tend is the log's housekeeping, once in a while.
func (l *Log) tend() {
	l.observe()
	if l.latched.Load() != nil {
		return
	}
	l.provide()
	l.commit(l.take()) // progress may still wait for room
	if l.sinceCheckpoint > checkpointBytes {
		l.keep(l.checkpoint())
	}
	l.collect(nil)
	l.tendMoves()
	if len(l.garbage) > 0 { // a backup may have kept it
		l.keep(l.sweep())
	}
}

// keep handles a checkpoint's error: without it recovery takes longer, but
// nothing is lost; an error of the medium latches all the same.
func (l *Log) keep(err error) {
	switch {
	case err == nil:
	case isFull(err) || isExhausted(err):
		if !l.putOff { // said once, not at each try
			l.log.Warn("checkpoint put off", "dir", l.dir, "error", err)
		}
		l.putOff = true
	default:
		l.latch(err)
	}
}

// Ready implements channel.Log.
func (l *Log) Ready() error {
	l.lookNow()
	if cause := l.latched.Load(); cause != nil {
		return fmt.Errorf("log in %s has stopped after an error and must be opened again: %w", l.dir, *cause)
	}
	if l.closing.Load() {
		return channel.ErrClosed
	}
	if l.full.Load() {
		return fmt.Errorf("log in %s: %w", l.dir, channel.ErrQuota)
	}
	return nil
}

// close ends what Run began. Committer only.
func (l *Log) close() error {
	l.qmu.Lock()
	l.closing.Store(true) // under the queue's lock: nothing is queued from here on
	l.qmu.Unlock()
	l.commitQueued()
	l.commit(nil)
	l.bear()
	var err error
	if l.latched.Load() == nil {
		full := l.checkpoint()
		l.keep(full)
		if l.mu.Lock(); full != nil && len(l.lazies) > 0 {
			err = fmt.Errorf("close log: progress is not saved, so that events may be delivered again: %w", full)
		}
		l.mu.Unlock()
	}
	if cause := l.latched.Load(); cause != nil {
		err = fmt.Errorf("close log: it had stopped after an error: %w", *cause)
	}
	return errors.Join(err, l.closeFiles())
}

// closeFiles lets go of everything.
func (l *Log) closeFiles() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, s := range l.streams {
		s.signal()
	}
	var errs []error
	if l.active != nil {
		l.active.refs--
		if l.active.refs == 0 && l.active.file != nil {
			errs = append(errs, l.active.file.Close())
			l.active.file = nil
		}
	}
	for _, s := range l.open {
		if s.refs == 0 {
			s.close()
		}
	}
	if l.spare != nil {
		errs = append(errs, l.spare.Close(), l.fs.Remove(filepath.Join(l.dir, spareName)))
		l.spare = nil
	}
	return errors.Join(append(errs, l.lock.Close())...)
}
