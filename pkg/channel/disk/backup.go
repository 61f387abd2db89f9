package disk

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// ErrBackupRuns refuses a backup while another one holds the log's files.
var ErrBackupRuns = errors.New("another backup is under way: wait until it has ended")

// errPinGivenUp ends a backup that would cost events.
var errPinGivenUp = errors.New("the volume is full, and what the backup kept from being removed was needed for events: " +
	"make room or let the backup run faster")

// Backup is a copy of the log as it stood at one moment, the cut: what was
// acknowledged before Log.Backup was called is in it, and progress saved
// before as well. Until Close no file of the cut is removed, whatever the log
// drops meanwhile; where the volume has no room left for events, the files
// are given up and Write says so.
//
// A Backup belongs to one goroutine.
type Backup struct {
	Cut
	Files []BackupFile // in a directory of their own they are a log that opens

	log        *Log
	checkpoint []byte
	segments   []*segment // one for each of Files after the first
	last       uint64     // no segment up to it is removed
	lost       atomic.Bool
}

// Cut says what a Backup holds.
type Cut struct {
	Store   string // id of the store, the same in all its copies
	LSN     uint64 // where the copy ends
	Time    time.Time
	Brokers []CutBroker // by UID
}

// CutBroker is one broker's part of a Cut.
type CutBroker struct {
	UID     channel.UID
	Name    string
	Next    []channel.Position // by shard: the one after the last event
	Pending uint64             // events with a delivery outstanding, or not matched yet
	Dead    uint64             // dead letters
}

// BackupFile is one file of a Backup.
type BackupFile struct {
	Name string // without a directory
	Size int64
}

// Backup takes a cut. It costs the log what a checkpoint costs, without the
// file. The caller must Close the Backup. There is one at a time: a second is
// ErrBackupRuns. A log that is latched or closed is refused as Append is.
// Before Run is called Backup works as well.
func (l *Log) Backup(ctx context.Context) (*Backup, error) {
	b := &Backup{log: l}
	if !l.backup.CompareAndSwap(nil, b) {
		return nil, ErrBackupRuns
	}
	err := l.unavailable()
	if err == nil {
		select {
		case l.committing <- struct{}{}:
			err = l.cut(b)
			l.yield()
		case <-ctx.Done():
			err = ctx.Err()
		case <-l.ended:
			err = channel.ErrClosed
		}
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("begin a backup of %s: %w", l.dir, err)
	}
	return b, nil
}

// cut fills in the Backup. Committer only, with nothing in the buffer.
func (l *Log) cut(b *Backup) error {
	c, state, err := l.state()
	if err != nil {
		return err
	}
	var file inMemory
	if _, err := putCheckpoint(&file, c, state); err != nil {
		return err
	}
	b.checkpoint, b.last = file, c.active
	b.Files = append(b.Files, BackupFile{filepath.Base(checkpointName("", l.sequence+1)), int64(len(b.checkpoint))})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, g := range l.segments {
		b.segments = append(b.segments, &segment{number: g.number, base: g.base, seed: g.seed, size: g.size})
	}
	b.segments = append(b.segments, &segment{number: c.active, base: l.active.base, seed: l.active.seed, size: int64(c.lsn - l.active.base)})
	for _, g := range b.segments {
		b.Files = append(b.Files, BackupFile{filepath.Base(segmentName("", g.number)), g.size})
	}
	b.Cut = Cut{Store: hex.EncodeToString(c.store[:]), LSN: c.lsn, Time: l.o.Now(), Brokers: l.summaries()}
	return nil
}

// Summary is what the log holds now.
func (l *Log) Summary() []CutBroker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.summaries()
}

// summaries describe the brokers. Under Log.mu.
func (l *Log) summaries() []CutBroker {
	var all []CutBroker
	for uid, b := range *l.brokers.Load() {
		sum := CutBroker{UID: uid, Name: b.info.Name}
		for i, s := range b.shards {
			sum.Next = append(sum.Next, s.next)
			sum.Pending += b.progress[i].outstanding(s.next)
		}
		for _, set := range b.letters {
			sum.Dead += set.GetCardinality()
		}
		all = append(all, sum)
	}
	slices.SortFunc(all, func(a, b CutBroker) int {
		if a.UID < b.UID {
			return -1
		}
		return 1
	})
	return all
}

// outstanding counts a shard's events that have not reached a final state.
// One that is a dead letter has, even while its dead letter sink is tried.
func (p *progress) outstanding(next channel.Position) uint64 {
	union := roaring64.New()
	for _, lane := range p.lanes {
		set := lane.Positions.Clone()
		for pos, r := range lane.Retries {
			if r.Dead {
				set.Remove(pos)
			}
		}
		set.UniteInto(union)
	}
	if from := max(p.scanned, 1); from < next {
		union.AddRange(uint64(from), uint64(next))
	}
	return union.GetCardinality()
}

// Write copies one of Files, in any order. Each frame is verified on its way,
// so that damage never gets into a copy in silence: it is an error that names
// the segment, and the segment is handed to the quarantine.
func (b *Backup) Write(ctx context.Context, w io.Writer, i int) error {
	if i == 0 {
		_, err := w.Write(b.checkpoint)
		return err
	}
	g := b.segments[i-1]
	name := segmentName(b.log.dir, g.number)
	f, err := b.log.fs.Open(name)
	if err != nil {
		return b.cause(fmt.Errorf("back up segment %d: %w", g.number, err))
	}
	out := bufio.NewWriterSize(w, readAhead)
	err = b.copySegment(ctx, out, f, name, g)
	if err == nil {
		err = out.Flush()
	}
	// Only read through: closing has nothing to say.
	_ = f.Close()
	return b.cause(err)
}

// copySegment copies a segment up to its size in the cut.
func (b *Backup) copySegment(ctx context.Context, w *bufio.Writer, f File, name string, g *segment) error {
	c := chunks.Get().(*chunk)
	defer func() { c.forget(); chunks.Put(c) }()
	header, err := c.view(f, 0, segmentHeader, g.size, g.size)
	if err == nil {
		var base uint64
		if base, _, err = parseSegmentHeader(name, header, g.number); err == nil && base != g.base {
			err = fmt.Errorf("it begins at %d, not at %d", base, g.base)
		}
	}
	if err != nil {
		return b.damaged(g, 0, err)
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	var h frame
	for off := int64(segmentHeader); off < g.size; off += h.size() {
		if err := b.ended(ctx); err != nil {
			return err
		}
		if h, _, err = c.frame(f, g.seed, off, g.size, g.size); err != nil {
			return b.damaged(g, off, err)
		}
		whole, err := c.view(f, off, int(h.size()), g.size, g.size)
		if err != nil {
			return b.damaged(g, off, err)
		}
		if _, err := w.Write(whole); err != nil {
			return err
		}
	}
	return nil
}

// ended says why there is no use in going on.
func (b *Backup) ended(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case b.lost.Load():
		return errPinGivenUp
	case b.log.closing.Load():
		return channel.ErrClosed
	}
	return nil
}

// cause is an error of copying, or what is behind it.
func (b *Backup) cause(err error) error {
	if err != nil && b.lost.Load() {
		return errPinGivenUp
	}
	return err
}

// damaged tells of a frame that is not as it was written. What the medium
// refuses to read is not known to be damaged, but cannot be copied either.
func (b *Backup) damaged(g *segment, off int64, cause error) error {
	name := segmentName(b.log.dir, g.number)
	if _, ok := errors.AsType[*readError](cause); ok {
		return fmt.Errorf("read %s at %d: %w", name, off, cause)
	}
	b.log.suspect(g.number, cause)
	return fmt.Errorf("%s is damaged at offset %d: %w: a backup does not copy damage: a broker that runs takes over what is good by itself, so try again in a minute; `penstock doctor` says what is lost",
		name, off, cause)
}

// Close lets the log remove files again. It may be called more than once.
func (b *Backup) Close() {
	b.log.backup.CompareAndSwap(b, nil)
}

// pinned reports whether a backup still needs a segment's file. Committer only.
func (l *Log) pinned(number uint64) bool {
	b := l.backup.Load()
	return b != nil && number <= b.last
}

// unpin takes the files from a backup that has no right to them any more: the
// volume is full, and a slow backup must not cost events. What is left to be
// removed goes now. Committer only.
func (l *Log) unpin() {
	b := l.backup.Load()
	if b == nil || !slices.ContainsFunc(l.garbage, func(g garbage) bool { return g.segment.number <= b.last }) {
		return
	}
	b.lost.Store(true)
	b.Close()
	l.log.Warn("a backup was given up: the volume is full and needs what it kept", "dir", l.dir)
	l.keep(l.sweep())
}
