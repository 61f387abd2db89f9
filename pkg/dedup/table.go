package dedup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/channel"
)

// A table is a file that does not change:
//
//	pages of 4096 bytes: entries in the order of their hashes, up to 127,
//	                     zeros, at 4088 u32 how many, u32 CRC-32C of what is before
//	filter
//	footer:              see (*footer).encode
//	u32 length of the footer, u32 CRC-32C of filter, footer and that length
//
// All integers are little endian.
const (
	pageSize    = 4096
	pageEntries = (pageSize - 8) / entrySize
	trailer     = 8
	magic       = "PSDEDUP1"
	maxCovered  = 1 << 12 // shards of one broker
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// footer is what is known of a table without a look at its entries.
type footer struct {
	key            uint64 // hasher's mark: entries of another key mean nothing
	count          int
	pages          int
	filter         int // bytes
	level          int // how often it was merged
	oldest, newest uint32
	covered        covered
	top            covered // the highest position of an entry in each shard
}

// covered is up to where the log of each shard has been taken in.
type covered map[channel.ShardID]channel.Position

func (c covered) encode(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(c)))
	for shard, position := range c {
		b = binary.LittleEndian.AppendUint32(b, uint32(shard))
		b = binary.LittleEndian.AppendUint64(b, uint64(position))
	}
	return b
}

var errForm = errors.New("does not have the form of a dedup file")

func decodeCovered(b []byte) (covered, []byte, error) {
	if len(b) < 4 {
		return nil, nil, errForm
	}
	n := int(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if n > maxCovered || len(b) < n*12 {
		return nil, nil, errForm
	}
	c := make(covered, n)
	for range n {
		c[channel.ShardID(binary.LittleEndian.Uint32(b))] = channel.Position(binary.LittleEndian.Uint64(b[4:]))
		b = b[12:]
	}
	return c, b, nil
}

// merge takes the further of both for each shard.
func (c covered) merge(o covered) {
	for shard, position := range o {
		c[shard] = max(c[shard], position)
	}
}

func (f *footer) encode(b []byte) []byte {
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, f.key)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.count))
	for _, n := range []int{f.pages, f.filter, f.level, int(f.oldest), int(f.newest)} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return f.top.encode(f.covered.encode(b))
}

func decodeFooter(b []byte) (f footer, err error) {
	if len(b) < len(magic)+16+20 || string(b[:len(magic)]) != magic {
		return f, errForm
	}
	b = b[len(magic):]
	f.key, f.count = binary.LittleEndian.Uint64(b), int(binary.LittleEndian.Uint64(b[8:]))
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(b[16+4*i:]) }
	f.pages, f.filter, f.level, f.oldest, f.newest = int(word(0)), int(word(1)), int(word(2)), word(3), word(4)
	f.covered, b, err = decodeCovered(b[36:])
	if err == nil {
		f.top, _, err = decodeCovered(b)
	}
	if err == nil && (f.pages != (f.count+pageEntries-1)/pageEntries || f.filter%bloomBlock != 0) {
		err = errForm
	}
	return f, err
}

// table is one that is open. It may be used by any number of goroutines.
type table struct {
	footer
	number uint64
	bytes  int64
	path   string // "" in memory
	bits   bloom
	r      io.ReaderAt
	close  func()

	// refs are those who read it, and one more until it is let go: the file is
	// closed by the last, so that nobody who reads needs a lock.
	refs atomic.Int64
}

// acquire is false where the table has been let go: another has what it had.
func (t *table) acquire() bool {
	for {
		n := t.refs.Load()
		if n == 0 {
			return false
		}
		if t.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (t *table) release() {
	if t.refs.Add(-1) == 0 {
		t.close()
	}
}

// openTable reads a table's footer and filter.
func openTable(r io.ReaderAt, size int64) (*table, error) {
	var end [trailer]byte
	if size < trailer {
		return nil, errForm
	}
	if _, err := r.ReadAt(end[:], size-trailer); err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(end[:]))
	if length > min(size-trailer, 64+24*maxCovered) {
		return nil, errForm
	}
	raw := make([]byte, length)
	if _, err := r.ReadAt(raw, size-trailer-length); err != nil {
		return nil, err
	}
	f, err := decodeFooter(raw)
	if err != nil {
		return nil, err
	}
	if int64(f.pages)*pageSize+int64(f.filter)+length+trailer != size {
		return nil, errForm
	}
	bits := make(bloom, f.filter)
	if _, err := r.ReadAt(bits, int64(f.pages)*pageSize); err != nil {
		return nil, err
	}
	check := crc32.Update(crc32.Update(sum(bits), castagnoli, raw), castagnoli, end[:4])
	if check != binary.LittleEndian.Uint32(end[4:]) {
		return nil, errors.New("checksum does not match")
	}
	t := &table{footer: f, bytes: size, bits: bits, r: r, close: func() {}}
	t.refs.Store(1)
	return t, nil
}

func openTableFile(path string, number uint64) (*table, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	var t *table
	if err == nil {
		t, err = openTable(file, info.Size())
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	t.path, t.number, t.close = path, number, func() { _ = file.Close() }
	return t, nil
}

// openTableBytes is a table in memory.
func openTableBytes(b []byte, number uint64) (*table, error) {
	t, err := openTable(bytes.NewReader(b), int64(len(b)))
	if err == nil {
		t.number = number
	}
	return t, err
}

// page reads and checks one page into b and returns its entries' bytes.
func (t *table) page(n int, b *[pageSize]byte) ([]byte, error) {
	if _, err := t.r.ReadAt(b[:], int64(n)*pageSize); err != nil {
		return nil, fmt.Errorf("page %d: %w", n, err)
	}
	count := binary.LittleEndian.Uint32(b[pageSize-8:])
	if binary.LittleEndian.Uint32(b[pageSize-4:]) != sum(b[:pageSize-4]) || count == 0 || count > pageEntries {
		return nil, fmt.Errorf("page %d: checksum does not match", n)
	}
	return b[:count*entrySize], nil
}

// find looks a hash up. Hashes are spread evenly, so that its page can be
// guessed: two or three are read, however many there are.
func (t *table) find(h *hash, b *[pageSize]byte) (known, bool, error) {
	lo, hi := 0, t.pages-1
	low, high := uint64(0), uint64(math.MaxUint64)
	for tries := 0; lo <= hi; tries++ {
		at := lo + (hi-lo)/2
		if high > low && tries < 4 {
			at = lo + int(float64(h.first()-low)/float64(high-low)*float64(hi-lo+1))
			at = min(max(at, lo), hi)
		}
		page, err := t.page(at, b)
		if err != nil {
			return known{}, false, err
		}
		first, last := readEntry(page), readEntry(page[len(page)-entrySize:])
		switch {
		case h.less(&first.hash):
			hi, high = at-1, first.hash.first()
		case last.hash.less(h):
			lo, low = at+1, last.hash.first()
		default:
			k, ok := search(page, h)
			return k, ok, nil
		}
	}
	return known{}, false, nil
}

func search(page []byte, h *hash) (known, bool) {
	lo, hi := 0, len(page)/entrySize
	for lo < hi {
		mid := (lo + hi) / 2
		switch c := bytes.Compare(page[mid*entrySize:][:len(h)], h[:]); {
		case c == 0:
			return readEntry(page[mid*entrySize:]).known, true
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return known{}, false
}

// writeTable writes entries that come in the order of their hashes, at most so
// many. f says of it what the entries do not.
func writeTable(to io.Writer, f footer, most int, entries func(yield func(*entry) error) error) error {
	w := bufio.NewWriterSize(to, 64<<10)
	bits := newBloom(most)
	f.count, f.pages, f.filter, f.oldest, f.newest, f.top = 0, 0, len(bits), math.MaxUint32, 0, covered{}
	page := make([]byte, 0, pageSize)
	flush := func() error {
		n := len(page) / entrySize
		page = append(page, make([]byte, pageSize-8-len(page))...)
		page = binary.LittleEndian.AppendUint32(page, uint32(n))
		page = binary.LittleEndian.AppendUint32(page, sum(page))
		_, err := w.Write(page)
		page = page[:0]
		f.pages++
		return err
	}
	err := entries(func(e *entry) error {
		bits.add(&e.hash)
		f.oldest, f.newest = min(f.oldest, e.second), max(f.newest, e.second)
		f.top[e.shard] = max(f.top[e.shard], e.position)
		f.count++
		if page = appendEntry(page, e); len(page) == pageEntries*entrySize {
			return flush()
		}
		return nil
	})
	if err == nil && len(page) > 0 {
		err = flush()
	}
	if err != nil {
		return err
	}
	end := f.encode(nil)
	end = binary.LittleEndian.AppendUint32(end, uint32(len(end)))
	end = binary.LittleEndian.AppendUint32(end, crc32.Update(sum(bits), castagnoli, end))
	_, err1 := w.Write(bits)
	_, err2 := w.Write(end)
	return errors.Join(err1, err2, w.Flush())
}

// cursor walks a table's entries in order.
type cursor struct {
	t    *table
	next int // page
	rest []byte
	at   entry
	page [pageSize]byte
}

// step moves to the next entry, false at the end.
func (c *cursor) step() (bool, error) {
	if len(c.rest) == 0 {
		if c.next == c.t.pages {
			return false, nil
		}
		var err error
		if c.rest, err = c.t.page(c.next, &c.page); err != nil {
			return false, err
		}
		c.next++
	}
	c.at, c.rest = readEntry(c.rest), c.rest[entrySize:]
	return true, nil
}

// merged yields the entries of several tables, of those with one hash the
// newest, and leaves out what is older than the second since. A page that
// cannot be read is left out and told to lost.
func merged(tables []*table, since uint32, lost func(error), yield func(*entry) error) error {
	var open []*cursor
	step := func(c *cursor) bool {
		for {
			more, err := c.step()
			if err == nil {
				return more
			}
			lost(err)
			c.next++
		}
	}
	for _, t := range tables {
		if c := (&cursor{t: t}); step(c) {
			open = append(open, c)
		}
	}
	for len(open) > 0 {
		least := open[0].at
		for _, c := range open[1:] {
			if c.at.hash.less(&least.hash) || c.at.hash == least.hash && c.at.second > least.second {
				least = c.at
			}
		}
		if least.second >= since {
			if err := yield(&least); err != nil {
				return err
			}
		}
		for i := 0; i < len(open); {
			if open[i].at.hash == least.hash && !step(open[i]) {
				open = append(open[:i], open[i+1:]...)
				continue
			}
			i++
		}
	}
	return nil
}
