package journal

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"
)

// active is the segment that is being filled. Readers hold its slices as they
// were at some time.
type active struct {
	num   uint64
	nonce uint32
	file  file
	contents
	roster    *roster // names come from there
	nameBytes int     // more than what its names take in the index
	opened    time.Time
}

// footprint is at least what the segment takes once it is sealed.
func (a *active) footprint() int64 {
	return a.size + indexSize(len(a.keys), len(a.blocks), a.nameBytes)
}

// write writes what is in the buffer, and seals the segment if it is full.
func (j *Journal) write() {
	b, filling := j.swap()
	if b != nil {
		if err := j.put(b); err != nil {
			j.fail(b, err)
			return
		}
		j.done(b)
		j.confirm()
	}
	if j.active != nil && j.active.num != filling {
		j.seal()
	}
}

// put appends a buffer to its segment's file, making the file and room for it.
func (j *Journal) put(b *batch) error {
	if j.active != nil && j.active.num != b.segment {
		j.seal()
	}
	a := j.active
	if a == nil {
		var err error
		if a, err = j.create(b); err != nil {
			return err
		}
	}
	if err := j.append(a, b); err != nil {
		if a != j.active {
			a.file.Close()
		}
		return err
	}

	j.tail.Lock()
	defer j.tail.Unlock()
	a.at(b.first)
	// Events may be recorded long after they were accepted: what was written
	// today is not old.
	a.at(max(b.last, nanos(b.since)))
	for _, from := range b.blocks {
		a.blocks = append(a.blocks, uint32(b.base)+uint32(from))
	}
	a.keys = append(a.keys, b.keys...)
	for _, g := range b.gaps {
		a.gap(g)
	}
	a.records += b.records
	a.size = b.base + int64(len(b.data))
	a.nameBytes += b.nameBytes
	j.active = a
	j.written = b.seq
	return nil
}

// append makes room and writes a buffer.
func (j *Journal) append(a *active, b *batch) error {
	if err := j.trim(int64(len(b.data)) + indexSize(len(b.keys), len(b.blocks), b.nameBytes)); err != nil {
		return err
	}
	for i, from := range b.blocks {
		to := len(b.data)
		if i+1 < len(b.blocks) {
			to = b.blocks[i+1]
		}
		completeBlock(b.data[from:to], a.nonce)
	}
	if _, err := a.file.WriteAt(b.data, b.base); err != nil {
		return fmt.Errorf("write %s: %w", segmentName(a.num), err)
	}
	return nil
}

// create makes the file of a new segment. It becomes the active one when
// something is in it.
func (j *Journal) create(b *batch) (*active, error) {
	f, err := j.store.create(segmentName(b.segment))
	if err != nil {
		return nil, err
	}
	var random [4]byte
	rand.Read(random[:]) // never fails
	a := &active{num: b.segment, nonce: binary.LittleEndian.Uint32(random[:]), file: f, roster: b.roster, opened: j.opts.Now()}
	a.size = segmentHeader
	if _, err := f.WriteAt(segmentHead(a.num, a.nonce), 0); err != nil {
		f.Close()
		j.erase(a.num)
		return nil, fmt.Errorf("write %s: %w", segmentName(a.num), err)
	}
	return a, nil
}

// seal writes the index of the active segment, which nobody fills any more.
func (j *Journal) seal() {
	a := j.active
	a.file.Close() // nothing depends on what it would say
	c := a.contents
	j.mu.Lock()
	c.names = a.roster.list
	j.mu.Unlock()
	seg := j.writeIndex(a.num, a.nonce, &c)
	j.tail.Lock()
	defer j.tail.Unlock()
	j.sealed = append(j.sealed[:len(j.sealed):len(j.sealed)], seg)
	j.active = nil
}

// writeIndex writes the index of a segment with these contents. Where that
// fails the segment is scanned by each reader until it succeeds.
func (j *Journal) writeIndex(n uint64, nonce uint32, c *contents) *segment {
	b, seg := encodeIndex(n, nonce, c)
	if err := j.replace(indexName(n), b); err != nil {
		j.complain(err)
		return &segment{num: n, nonce: nonce, size: c.size, first: c.first, last: c.last, records: c.records, gaps: c.gaps}
	}
	return seg
}

// replace writes a file whole or not at all.
func (j *Journal) replace(name string, b []byte) error {
	f, err := j.store.create(name + unfinished)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	f.Close()
	if err == nil {
		err = j.store.rename(name+unfinished, name)
	}
	if err != nil {
		j.store.remove(name + unfinished)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// reindex makes the indexes that could not be written, or were found damaged.
func (j *Journal) reindex() {
	j.tail.RLock()
	sealed := j.sealed
	j.tail.RUnlock()
	for _, seg := range sealed {
		if seg.index > 0 && !seg.spoiled.Load() {
			continue
		}
		c, err := j.rescan(seg)
		if err != nil {
			continue // readers say so
		}
		if j.trim(indexSize(len(c.keys), len(c.blocks), nameBytes(c.names))) == nil {
			j.exchange(seg, j.writeIndex(seg.num, seg.nonce, c))
		}
	}
}

func (j *Journal) rescan(seg *segment) (*contents, error) {
	f, err := j.store.open(segmentName(seg.num), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return scan(f, seg.nonce, seg.size)
}

// exchange puts a segment in the place of what we held of it, if it is still there.
func (j *Journal) exchange(old, seg *segment) {
	j.tail.Lock()
	defer j.tail.Unlock()
	list := append([]*segment(nil), j.sealed...)
	for i := range list {
		if list[i] == old {
			list[i] = seg
		}
	}
	j.sealed = list
}

// fail gives up the segment in which a buffer could not be written. Records
// are dropped until the disk is tried again.
func (j *Journal) fail(b *batch, err error) {
	now := j.opts.Now()
	j.mu.Lock()
	// The names in the lost buffer are lost for what came after it, too.
	lost, last := uint64(b.records+j.cur.records), max(b.segment, j.cur.segment)
	j.dropped += lost
	for _, g := range append(b.gaps, j.cur.gaps...) {
		j.missing.merge(g)
	}
	j.missing.merge(Gap{From: b.since, To: now, Records: lost, Cause: "the disk failed"})
	j.down = true
	j.writing = nil
	j.cur.reset()
	j.seq++
	j.cur.seq, j.cur.segment = j.seq, last // a number is given away once: Triggers hold it
	j.turn()
	filled := j.seq - 1
	j.mu.Unlock()

	j.tail.Lock()
	j.written = filled
	j.tail.Unlock()
	if a := j.active; a != nil {
		a.file.Truncate(a.size) // what follows is not a block, and would be passed over
		j.seal()
	} else {
		j.erase(b.segment)
	}
	j.complain(err)
}

// complain says once that the disk fails, and when to try again.
func (j *Journal) complain(err error) {
	if !j.complained {
		j.opts.Logger.Warn("the journal cannot be written: records of what happened to events are dropped until it can", "err", err)
	}
	j.complained = true
	j.retryAt = j.opts.Now().Add(retryAfter)
}

// confirm says what there is to say after something was written.
func (j *Journal) confirm() {
	j.mu.Lock()
	dropped, overflow := j.dropped, len(j.cur.gaps) > 0
	j.mu.Unlock()
	if j.complained && j.retryAt.IsZero() {
		j.complained = false
		j.opts.Logger.Info("the journal is written again", "dropped", dropped)
		return
	}
	if now := j.opts.Now(); overflow && !j.complained && now.Sub(j.overflowed) >= time.Minute {
		j.overflowed = now
		j.opts.Logger.Warn("more happens to events than the journal can write: records are dropped", "dropped", dropped)
	}
}

// revive lets records in again after the disk failed, and tries it with the gap.
func (j *Journal) revive() {
	j.mu.Lock()
	was := j.down
	if j.down = false; was {
		j.gap()
	}
	j.mu.Unlock()
	if was {
		j.write()
	}
}

// trim removes the oldest segments until there is room for so many bytes more.
func (j *Journal) trim(more int64) error {
	total := more
	if j.active != nil {
		total += j.active.footprint()
	}
	for _, seg := range j.sealed {
		total += seg.size + seg.index
	}
	n := 0
	for n < len(j.sealed) && (total > j.opts.MaxBytes || len(j.sealed)-n > maxSegments) {
		total -= j.sealed[n].size + j.sealed[n].index
		n++
	}
	return j.forget(n)
}

// expire removes the segments that are too old.
func (j *Journal) expire(now time.Time) {
	before := nanos(now.Add(-j.opts.Retention))
	n := 0
	for n < len(j.sealed) && j.sealed[n].last < before {
		n++
	}
	if err := j.forget(n); err != nil {
		j.complain(err)
	}
}

// forget removes the first n segments, or as many as can be removed.
func (j *Journal) forget(n int) (err error) {
	for i := range n {
		if err = j.erase(j.sealed[i].num); err != nil {
			n = i
			break
		}
	}
	if n > 0 {
		j.tail.Lock()
		defer j.tail.Unlock()
		j.sealed = append([]*segment(nil), j.sealed[n:]...)
	}
	return err
}

// aged reports whether the active segment is to be closed so that it can be
// removed in time, however little comes.
func (j *Journal) aged(now time.Time) bool {
	return j.active != nil && j.active.opened.Before(now.Add(-j.opts.Retention/8))
}

// release closes the active segment's file. It is not sealed: the next Open
// goes on to fill it.
func (j *Journal) release() error {
	if j.active == nil {
		return nil
	}
	if err := j.active.file.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
