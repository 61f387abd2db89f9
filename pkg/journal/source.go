package journal

import (
	"io"
	"sort"
)

// source is one place where records are: a buffer, or a segment in one of its
// conditions. It belongs to one reader.
type source interface {
	segment() uint64
	span() (first, last int64)
	gaps() []Gap
	// find returns where the blocks begin that may hold a record with a hash,
	// in order.
	find(hash uint64) ([]uint32, error)
	// blocks returns where all blocks begin, in order.
	blocks() ([]uint32, error)
	// read returns the payload of the block at a place. It is good until the next read.
	read(at uint32) ([]byte, error)
	names() ([]name, error)
	close()
}

// sources returns all there is at this moment, from old to new, and the gap
// that is not yet written down. Nothing is in two of them.
func (j *Journal) sources() (list []source, missing Gap) {
	// First the buffers, then the files: what moves on in between is in both, and
	// is left out by its number. The other way round it would be in neither.
	type view struct {
		seq uint64
		buffer
	}
	var buffers []view
	j.mu.Lock()
	for _, b := range []*batch{j.writing, j.cur} {
		if b == nil || len(b.data) == 0 {
			continue
		}
		b.shared = true
		buffers = append(buffers, view{b.seq, buffer{
			num: b.segment, base: uint32(b.base), data: b.data, starts: b.blocks, keys: b.keys, list: b.roster.list,
			first: b.first, last: b.last, missing: b.gaps,
		}})
	}
	missing = j.missing
	j.mu.Unlock()

	j.tail.RLock()
	sealed, written := j.sealed, j.written
	var open *loose
	var who *roster
	if a := j.active; a != nil {
		open, who = &loose{j: j, num: a.num, nonce: a.nonce, c: a.contents}, a.roster
		open.c.gaps = append([]Gap(nil), a.gaps...)
	}
	j.tail.RUnlock()

	for _, seg := range sealed {
		list = append(list, &shut{j: j, seg: seg})
	}
	if open != nil {
		if who != nil {
			j.mu.Lock()
			open.c.names = who.list
			j.mu.Unlock()
		}
		list = append(list, open)
	}
	for i := range buffers {
		if buffers[i].seq > written {
			list = append(list, &buffers[i].buffer)
		}
	}
	return list, missing
}

// buffer is what was in a batch.
type buffer struct {
	num         uint64
	base        uint32
	data        []byte
	starts      []int
	keys        []key
	list        []name
	first, last int64
	missing     []Gap
}

func (b *buffer) segment() uint64                    { return b.num }
func (b *buffer) span() (first, last int64)          { return b.first, b.last }
func (b *buffer) gaps() []Gap                        { return b.missing }
func (b *buffer) names() ([]name, error)             { return b.list, nil }
func (b *buffer) find(hash uint64) ([]uint32, error) { return findIn(b.keys, hash), nil }
func (b *buffer) close()                             {}

func (b *buffer) blocks() ([]uint32, error) {
	list := make([]uint32, len(b.starts))
	for i, at := range b.starts {
		list[i] = b.base + uint32(at)
	}
	return list, nil
}

func (b *buffer) read(at uint32) ([]byte, error) {
	i := sort.SearchInts(b.starts, int(at-b.base))
	end := len(b.data)
	if i+1 < len(b.starts) {
		end = b.starts[i+1]
	}
	return b.data[b.starts[i]+blockHeader : end], nil
}

// findIn looks through keys in order of their blocks.
func findIn(keys []key, hash uint64) (found []uint32) {
	for i := range keys {
		if k := &keys[i]; k.hash == hash && (len(found) == 0 || found[len(found)-1] != k.block) {
			found = append(found, k.block)
		}
	}
	return found
}

// loose is a segment without an index: the active one, or one that was scanned.
type loose struct {
	j     *Journal
	num   uint64
	nonce uint32
	c     contents
	blockReader
}

func (s *loose) segment() uint64                    { return s.num }
func (s *loose) span() (first, last int64)          { return s.c.first, s.c.last }
func (s *loose) gaps() []Gap                        { return s.c.gaps }
func (s *loose) names() ([]name, error)             { return s.c.names, nil }
func (s *loose) find(hash uint64) ([]uint32, error) { return findIn(s.c.keys, hash), nil }
func (s *loose) blocks() ([]uint32, error)          { return s.c.blocks, nil }

func (s *loose) read(at uint32) ([]byte, error) {
	return s.block(s.j.store, s.num, s.nonce, at)
}

// blockReader reads blocks of one segment, whose file it opens when there is
// something to read.
type blockReader struct {
	f   file
	buf []byte
}

func (r *blockReader) block(s store, num uint64, nonce uint32, at uint32) (b []byte, err error) {
	if r.f == nil {
		if r.f, err = s.open(segmentName(num), false); err != nil {
			r.f = nil
			return nil, err
		}
	}
	return readBlock(r.f, nonce, int64(at), &r.buf)
}

func (r *blockReader) close() {
	if r.f != nil {
		r.f.Close()
	}
}

// shut is a sealed segment.
type shut struct {
	j       *Journal
	seg     *segment
	index   file
	scanned *loose // in place of an index that is missing or damaged
	known   bool   // the catalog has been read:
	list    []name
	all     []uint32
	blockReader
}

func (s *shut) segment() uint64           { return s.seg.num }
func (s *shut) span() (first, last int64) { return s.seg.first, s.seg.last }
func (s *shut) gaps() []Gap               { return s.seg.gaps }

// withIndex does something with the index, or with what a scan says in its
// place. Slow is better than wrong, and Run will write a new one.
func (s *shut) withIndex(read func(io.ReaderAt) error) error {
	if s.scanned != nil {
		return nil
	}
	if s.seg.index > 0 && !s.seg.spoiled.Load() {
		var err error
		if s.index == nil {
			var f file
			if f, err = s.j.store.open(indexName(s.seg.num), false); err == nil {
				s.index = f
			}
		}
		if err == nil {
			err = read(s.index)
		}
		if err == nil {
			return nil
		}
	}
	c, err := s.j.rescan(s.seg)
	if err != nil {
		return err // it may have been removed meanwhile
	}
	s.seg.spoiled.Store(true)
	s.scanned = &loose{j: s.j, num: s.seg.num, nonce: s.seg.nonce, c: *c}
	return nil
}

func (s *shut) find(hash uint64) (found []uint32, err error) {
	err = s.withIndex(func(f io.ReaderAt) (err error) {
		found, err = s.seg.find(f, hash)
		return err
	})
	if s.scanned != nil {
		return s.scanned.find(hash)
	}
	return found, err
}

func (s *shut) catalog() error {
	if s.known {
		return nil
	}
	err := s.withIndex(func(f io.ReaderAt) (err error) {
		s.list, s.all, err = s.seg.read(f)
		return err
	})
	if err == nil && s.scanned != nil {
		s.list, s.all = s.scanned.c.names, s.scanned.c.blocks
	}
	s.known = err == nil
	return err
}

func (s *shut) names() ([]name, error) {
	err := s.catalog()
	return s.list, err
}

func (s *shut) blocks() ([]uint32, error) {
	err := s.catalog()
	return s.all, err
}

func (s *shut) read(at uint32) ([]byte, error) {
	return s.block(s.j.store, s.seg.num, s.seg.nonce, at)
}

func (s *shut) close() {
	s.blockReader.close()
	if s.index != nil {
		s.index.Close()
	}
}
