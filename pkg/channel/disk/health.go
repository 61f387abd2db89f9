package disk

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Health is how a running log is. Times are wall clock.
type Health struct {
	Dir     string
	Latched error  // the write or sync that failed; nil while all is well
	Full    string // why events are refused; "" while they are not

	Bytes       int64 // of all segments
	MaxBytes    int64 // the bound on them, 0 for none
	Reserve     int64 // of MaxBytes, what events leave to dead letters and progress
	Segments    int   // the active one included
	SegmentSize int64
	Spare       bool  // the next segment is reserved already
	Volume      int64 // size in bytes, 0 if not known
	Free        int64 // of these, for us
	LowWater    int64 // free bytes below which events are refused

	TornBytes   int64    // set aside by Open
	Torn        []string // files of writes that crashes cut short
	Quarantined []string // files of segments that are damaged
	Suspected   int      // segments that may be damaged and wait to be examined
	Gaps        int      // declared ranges of events that are lost

	Scrub      Scrub
	Checkpoint Checkpointed

	SyncP50, SyncP99 time.Duration // of the newest 1,000 syncs; 0 before the first

	// ClockAhead is how far append times are ahead of the wall clock, which was
	// set back: they wait for it, since time in the log does not run backwards.
	ClockAhead time.Duration
}

// Checkpointed is the newest checkpoint.
type Checkpointed struct {
	At    time.Time // zero if this process has written none
	Bytes int64
}

// damagedSuffix is of segments that were taken out of the log and kept.
const damagedSuffix = ".damaged"

// tornSuffix is of bytes that a crash cut short.
const tornSuffix = ".torn"

// Health looks at the log. It lists the directory and reads no file.
func (l *Log) Health() Health {
	l.lookNow()
	h := Health{Dir: l.dir, MaxBytes: l.maxBytes, SegmentSize: l.segmentSize, TornBytes: l.torn, Reserve: l.reserved()}
	if cause := l.latched.Load(); cause != nil {
		h.Latched = *cause
	}
	l.mu.Lock()
	h.Suspected = len(l.suspects)
	h.Segments = len(l.segments)
	for _, g := range l.segments {
		h.Bytes += g.size
	}
	if l.active != nil {
		h.Segments++
		h.Bytes += l.tailOff
	}
	l.mu.Unlock()
	for _, b := range *l.brokers.Load() {
		h.Gaps += len(b.Gaps())
	}
	names, _ := l.fs.List(l.dir) // a directory that cannot be listed shows in appends
	for _, name := range names {
		if strings.HasSuffix(name, tornSuffix) {
			h.Torn = append(h.Torn, name)
		}
		if strings.HasSuffix(name, damagedSuffix) {
			h.Quarantined = append(h.Quarantined, name)
		}
	}
	slices.Sort(h.Torn)
	slices.Sort(h.Quarantined)
	l.vitals.fill(&h)
	h.Scrub.Off = l.o.ScrubRate < 0
	return h
}

// Latched is the error after which the log stopped accepting, nil while it has
// not. Only opening it again, which verifies it, cures that.
func (l *Log) Latched() error {
	if cause := l.latched.Load(); cause != nil {
		return fmt.Errorf("log in %s has stopped after an error and must be opened again: %w", l.dir, *cause)
	}
	return nil
}

// vitals are what Health tells and nothing else keeps.
type vitals struct {
	mu         sync.Mutex
	scrub      Scrub
	checkpoint Checkpointed
	full       string
	spare      bool
	ahead      time.Duration
	volume     volume
	syncs      durations

	tight atomic.Bool // the volume is below its low-water mark
}

// volume is what the file system says of itself.
type volume struct{ total, free, mark int64 }

func (v *vitals) fill(h *Health) {
	v.mu.Lock()
	defer v.mu.Unlock()
	h.Full, h.Spare, h.ClockAhead, h.Checkpoint = v.full, v.spare, v.ahead, v.checkpoint
	h.Volume, h.Free, h.LowWater = v.volume.total, v.volume.free, v.volume.mark
	h.Scrub = v.scrub
	h.Scrub.Damaged = slices.Clone(v.scrub.Damaged)
	h.SyncP50, h.SyncP99 = v.syncs.quantiles()
}

// lookNow is what housekeeping would do in a second, where it rests: so nobody
// is told of a volume as it was a minute ago. It waits for nobody: who commits
// just now has ended the rest.
func (l *Log) lookNow() {
	if !l.resting.Load() {
		return
	}
	select {
	case l.committing <- struct{}{}:
	default:
		return
	}
	l.observe()
	if l.latched.Load() == nil {
		l.provide()
	}
	busy := l.left()
	l.yield()
	if busy {
		l.stir()
	}
}

// observe looks at what changes by itself, once a tick. Committer only.
func (l *Log) observe() {
	ahead := time.Duration(max(0, l.lastTime-l.o.Now().UnixNano()))
	total, free, err := l.fs.Space(l.dir)
	v := &l.vitals
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ahead, v.spare = ahead, l.spare != nil
	if err != nil || total <= 0 {
		v.volume = volume{}
		v.tight.Store(false)
		return
	}
	v.volume = volume{total, free, lowWater(total, l.segmentSize)}
	// Twice the mark before events are accepted again: what was freed for a
	// moment must not be taken and refused by turns.
	if v.tight.Load() {
		v.tight.Store(free < 2*v.volume.mark)
	} else {
		v.tight.Store(free < v.volume.mark)
	}
}

// lowWater is how much of a volume events leave free: room for a segment, so
// that progress, dead letters and checkpoints go on, but on a small volume no
// more than a twentieth of it.
func lowWater(total, segment int64) int64 { return min(segment, total/20) }

// tight says that others have filled the volume, "" while they have not. A
// full disk is then met by a refusal, and not by a write.
func (l *Log) tight() string {
	if !l.vitals.tight.Load() {
		return ""
	}
	l.vitals.mu.Lock()
	defer l.vitals.mu.Unlock()
	v := l.vitals.volume
	return fmt.Sprintf("the volume has %d bytes free of %d, events leave %d to dead letters and progress", v.free, v.total, v.mark)
}

// reserved is the part of the log's bound that events leave to dead letters
// and progress.
func (l *Log) reserved() int64 { return min(l.segmentSize/2, l.maxBytes/8) }

// because keeps why events are refused.
func (v *vitals) because(why string) {
	v.mu.Lock()
	v.full = why
	v.mu.Unlock()
}

func (v *vitals) synced(d time.Duration) {
	v.mu.Lock()
	v.syncs.add(d)
	v.mu.Unlock()
}

func (v *vitals) checkpointed(at time.Time, bytes int64) {
	v.mu.Lock()
	v.checkpoint = Checkpointed{at, bytes}
	v.mu.Unlock()
}

// durations are the newest of many, to the microsecond.
type durations struct {
	micros []uint32
	next   int
}

func (d *durations) add(t time.Duration) {
	const kept = 1000
	micros := uint32(min(t.Microseconds(), 1<<32-1))
	if len(d.micros) < kept {
		d.micros = append(d.micros, micros)
		return
	}
	d.micros[d.next] = micros
	d.next = (d.next + 1) % kept
}

func (d *durations) quantiles() (p50, p99 time.Duration) {
	if len(d.micros) == 0 {
		return 0, 0
	}
	sorted := slices.Clone(d.micros)
	slices.Sort(sorted)
	at := func(share int) time.Duration {
		return time.Duration(sorted[(len(sorted)-1)*share/100]) * time.Microsecond
	}
	return at(50), at(99)
}

var _ channel.Examiner = (*Log)(nil)
