package journal

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	segmentSuffix = ".journal"
	indexSuffix   = ".index"
	unfinished    = ".new"
)

func segmentName(n uint64) string { return fmt.Sprintf("%016x%s", n, segmentSuffix) }
func indexName(n uint64) string   { return fmt.Sprintf("%016x%s", n, indexSuffix) }

// numberOf reads what segmentName or indexName wrote.
func numberOf(file, suffix string) (uint64, bool) {
	hex, ok := strings.CutSuffix(file, suffix)
	n, err := strconv.ParseUint(hex, 16, 64)
	return n, ok && err == nil && n > 0 && n < 1<<63 && fmt.Sprintf("%016x", n) == hex
}

// open opens a journal over a store. Options have their defaults.
func open(s store, o Options) (*Journal, error) {
	j := &Journal{
		store: s, opts: o, room: int(min(maxBuffer, o.SegmentBytes/2)),
		wake: make(chan struct{}, 1), press: make(chan struct{}, 1),
		seq: 1, bytes: segmentHeader,
	}
	files, err := s.list()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	var segments []uint64
	for _, name := range files {
		if n, ok := numberOf(name, segmentSuffix); ok {
			segments = append(segments, n)
		}
	}
	slices.Sort(segments)
	for _, name := range files {
		n, ok := numberOf(strings.TrimSuffix(name, unfinished), indexSuffix)
		if _, has := slices.BinarySearch(segments, n); ok && (!has || strings.HasSuffix(name, unfinished)) {
			s.remove(name) // or it waits for the next start: nobody looks at it
		}
	}
	j.cur = &batch{seq: 1}
	next := uint64(1)
	var lost bool // the segment before this one was dropped
	for i, n := range segments {
		next = n + 1
		from := j.latest()
		err := j.take(n, i == len(segments)-1)
		if err != nil {
			// Nothing depends on it, and nobody will repair it.
			o.Logger.Warn("a file of the journal cannot be read and is dropped", "file", segmentName(n), "err", err)
			j.erase(n)
			j.missing.merge(Gap{From: from, To: o.Now(), Cause: "a file cannot be read"})
		} else if to := j.earliest(); lost && !to.IsZero() && to.Before(j.missing.To) {
			j.missing.To = to
		}
		lost = err != nil
	}
	if a := j.active; a != nil {
		j.cur.segment, j.cur.roster, j.bytes = a.num, newRoster(a.names), a.size
		a.names, a.roster = nil, j.cur.roster
	} else {
		j.cur.segment, j.cur.roster = next, newRoster(nil)
	}
	j.cur.base = j.bytes
	j.gap() // if files could not be read
	j.expire(o.Now())
	j.trim(0)
	return j, nil
}

// latest is the time of the last record taken up so far, earliest that of the
// first one in the segment taken up last. They are used by open.
func (j *Journal) latest() time.Time {
	if i := len(j.sealed); i > 0 && j.sealed[i-1].last != 0 {
		return instant(j.sealed[i-1].last)
	}
	return time.Unix(0, 1).UTC() // not known
}

func (j *Journal) earliest() time.Time {
	if j.active != nil {
		return instant(j.active.first)
	}
	if i := len(j.sealed); i > 0 {
		return instant(j.sealed[i-1].first)
	}
	return time.Time{}
}

// take takes up a segment that is there.
func (j *Journal) take(n uint64, last bool) error {
	f, err := j.store.open(segmentName(n), false)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	if size > largestSegment+2*maxBuffer {
		return fmt.Errorf("%d bytes: no segment is so large", size)
	}
	head := make([]byte, segmentHeader)
	f.ReadAt(head, 0) // what is missing does not verify
	nonce, err := parseHead(head, n)
	if err != nil {
		if last && size < segmentHeader {
			j.erase(n) // a crash came before its first record
			return nil
		}
		return err
	}
	seg, err := j.loadIndex(n, nonce)
	if err == nil && seg.size <= size {
		j.sealed = append(j.sealed, seg)
		return nil
	}
	indexed := seg != nil
	c, err := scan(f, nonce, size)
	if err != nil {
		return err
	}
	if !last && c.size < size {
		// A crash cuts off the last one only.
		if c.records == 0 {
			return errDamaged
		}
		c.damaged = true
		c.gap(Gap{From: instant(c.last), To: instant(c.last), Cause: "the file is damaged"})
	}
	if len(c.blocks) == 0 {
		j.erase(n)
		return nil
	}
	if last && !indexed && !c.damaged && c.size < j.opts.SegmentBytes && j.resume(n, nonce, c) {
		return nil
	}
	j.sealed = append(j.sealed, j.writeIndex(n, nonce, c))
	return nil
}

// loadIndex reads a segment's index, if it is whole.
func (j *Journal) loadIndex(n uint64, nonce uint32) (*segment, error) {
	f, err := j.store.open(indexName(n), false)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	return openIndex(f, size, n, nonce)
}

// resume goes on to fill the last segment. One with damage is not filled:
// numbers might be given away twice.
func (j *Journal) resume(n uint64, nonce uint32, c *contents) bool {
	f, err := j.store.open(segmentName(n), true)
	if err != nil {
		return false
	}
	if err := f.Truncate(c.size); err != nil {
		f.Close()
		return false
	}
	j.active = &active{num: n, nonce: nonce, file: f, contents: *c}
	j.active.nameBytes, j.active.opened = nameBytes(c.names), instant(c.first)
	return true
}

// erase removes a segment with its index. The index goes first: a segment
// without one is scanned, an index without a segment is nothing.
func (j *Journal) erase(n uint64) error {
	return errors.Join(j.store.remove(indexName(n)), j.store.remove(segmentName(n)))
}
