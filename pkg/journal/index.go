package journal

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sort"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/channel"
)

// The index of a sealed segment is a file of its own:
//
//	header   which segment, times, counts, lengths and checksums of what follows
//	summary  the segment's gaps, and the first hash of each page: kept in memory
//	catalog  what its numbers stand for, and where its blocks begin
//	pages    of 4 KiB: entries of u64 hash and u32 block, in order; count; checksum
//
// A look-up finds the page in memory and reads it. All that was said of the
// segment's checksums holds here too.
const (
	indexMagic  = "PNSTKJIX"
	indexFormat = 1
	indexHeader = 88

	entrySize   = 12
	pageSize    = 4096
	pageEntries = (pageSize - 16) / entrySize
)

// segment is a sealed segment: what we hold of it in memory.
type segment struct {
	num     uint64
	nonce   uint32
	size    int64
	index   int64 // bytes of its index; 0 where it has none, and must be scanned
	first   int64
	last    int64
	records int
	gaps    []Gap

	fences  []uint64 // first hash of each page
	catalog int64    // where it begins
	length  int64    // of the catalog
	sum     uint32   // of the catalog
	pages   int64    // where they begin

	spoiled atomic.Bool // a reader found the index damaged
}

// indexSize is at least what the index of contents with these counts takes.
func indexSize(keys, blocks, names int) int64 {
	pages := int64(keys+pageEntries-1) / pageEntries
	return indexHeader + pages*(pageSize+8) + int64(blocks*binary.MaxVarintLen32+names) +
		maxGaps*(recordHeader+4*binary.MaxVarintLen64+maxCause) + 2*binary.MaxVarintLen32
}

// encodeIndex writes the index of a segment with these contents.
func encodeIndex(num uint64, nonce uint32, c *contents) ([]byte, *segment) {
	keys := sortKeys(c.keys)
	pages := (len(keys) + pageEntries - 1) / pageEntries

	d := make([]byte, indexHeader, indexSize(len(keys), len(c.blocks), 0))
	d = binary.AppendUvarint(d, uint64(len(c.gaps)))
	for i := range c.gaps {
		d = appendGap(d, c.first, &c.gaps[i])
	}
	fences := make([]uint64, 0, pages)
	for i := 0; i < len(keys); i += pageEntries {
		fences = append(fences, keys[i].hash)
		d = binary.LittleEndian.AppendUint64(d, keys[i].hash)
	}
	catalog := len(d)
	d = binary.AppendUvarint(d, uint64(len(c.names)))
	for _, n := range c.names {
		d = binary.AppendUvarint(d, uint64(n.broker))
		d = appendText(appendWhole(d, string(n.uid)), n.text)
	}
	d = binary.AppendUvarint(d, uint64(len(c.blocks)))
	before := uint32(0)
	for _, at := range c.blocks {
		d = binary.AppendUvarint(d, uint64(at-before))
		before = at
	}
	start := len(d)
	for len(keys) > 0 {
		page := keys[:min(len(keys), pageEntries)]
		keys = keys[len(page):]
		d = appendPage(d, nonce, page)
	}

	seg := &segment{
		num: num, nonce: nonce, size: c.size, index: int64(len(d)), first: c.first, last: c.last, records: c.records,
		gaps: c.gaps, fences: fences, catalog: int64(catalog), length: int64(start - catalog),
		sum: checksum(nonce, d[catalog:start]), pages: int64(start),
	}
	h := d[:indexHeader]
	copy(h, indexMagic)
	le := binary.LittleEndian
	le.PutUint32(h[8:], indexFormat)
	le.PutUint32(h[12:], nonce)
	le.PutUint64(h[16:], num)
	le.PutUint64(h[24:], uint64(c.size))
	le.PutUint64(h[32:], uint64(c.first))
	le.PutUint64(h[40:], uint64(c.last))
	le.PutUint64(h[48:], uint64(c.records))
	le.PutUint32(h[56:], uint32(pages))
	le.PutUint32(h[60:], uint32(catalog-indexHeader))
	le.PutUint32(h[64:], uint32(seg.length))
	le.PutUint32(h[68:], checksum(nonce, d[indexHeader:catalog]))
	le.PutUint32(h[72:], seg.sum)
	le.PutUint32(h[84:], checksum(nonce, h[:84]))
	return d, seg
}

func appendPage(d []byte, nonce uint32, page []key) []byte {
	at := len(d)
	d = append(d, make([]byte, pageSize)...)
	p := d[at:]
	for i, k := range page {
		binary.LittleEndian.PutUint64(p[i*entrySize:], k.hash)
		binary.LittleEndian.PutUint32(p[i*entrySize+8:], k.block)
	}
	binary.LittleEndian.PutUint32(p[pageSize-16:], uint32(len(page)))
	binary.LittleEndian.PutUint32(p[pageSize-4:], checksum(nonce, p[:pageSize-4]))
	return d
}

// sortKeys returns the keys in order, each once. It spreads them by their
// first bits, which leaves little to sort; pdqsort alone costs three times as
// much, and more than all else that the journal does for an event.
func sortKeys(keys []key) []key {
	shift := 64
	for n := len(keys) / 8; n > 0 && shift > 48; n /= 2 {
		shift--
	}
	if shift == 64 {
		sorted := slices.Clone(keys)
		slices.SortFunc(sorted, compareKeys)
		return slices.Compact(sorted)
	}
	ends := make([]int32, 1<<(64-shift)+1)
	for _, k := range keys {
		ends[k.hash>>shift+1]++
	}
	for i := 1; i < len(ends); i++ {
		ends[i] += ends[i-1]
	}
	sorted := make([]key, len(keys))
	for _, k := range keys {
		at := &ends[k.hash>>shift]
		sorted[*at] = k
		*at++
	}
	from := int32(0)
	for _, end := range ends[:len(ends)-1] {
		slices.SortFunc(sorted[from:end], compareKeys)
		from = end
	}
	return slices.Compact(sorted)
}

func compareKeys(a, b key) int {
	switch {
	case a.hash < b.hash:
		return -1
	case a.hash > b.hash:
		return 1
	case a.block < b.block:
		return -1
	case a.block > b.block:
		return 1
	}
	return 0
}

// openIndex reads what is kept in memory of an index, and verifies that it is
// this segment's. size is the index file's.
func openIndex(f io.ReaderAt, size int64, num uint64, nonce uint32) (*segment, error) {
	h := make([]byte, indexHeader)
	if n, err := f.ReadAt(h, 0); n < len(h) {
		return nil, damaged(0, err)
	}
	le := binary.LittleEndian
	if string(h[:8]) != indexMagic || le.Uint32(h[8:]) != indexFormat || le.Uint32(h[12:]) != nonce ||
		le.Uint64(h[16:]) != num || le.Uint32(h[84:]) != checksum(nonce, h[:84]) {
		return nil, fmt.Errorf("header: %w", errDamaged)
	}
	pages, summary := int64(le.Uint32(h[56:])), int64(le.Uint32(h[60:]))
	seg := &segment{
		num: num, nonce: nonce, size: int64(le.Uint64(h[24:])), index: size,
		first: int64(le.Uint64(h[32:])), last: int64(le.Uint64(h[40:])), records: int(le.Uint64(h[48:])),
		catalog: indexHeader + summary, length: int64(le.Uint32(h[64:])), sum: le.Uint32(h[72:]),
	}
	seg.pages = seg.catalog + seg.length
	if seg.size < segmentHeader || seg.pages+pages*pageSize != size || seg.records < 0 {
		return nil, fmt.Errorf("lengths: %w", errDamaged)
	}
	b := make([]byte, summary)
	if n, err := f.ReadAt(b, indexHeader); n < len(b) {
		return nil, damaged(indexHeader, err)
	}
	if checksum(nonce, b) != le.Uint32(h[68:]) {
		return nil, fmt.Errorf("summary: %w", errDamaged)
	}
	r := reader{b: b}
	for range min(r.uvarint(), maxGaps) {
		head := r.bytes(recordHeader)
		if head == nil {
			break
		}
		body := reader{b: r.bytes(uint64(head[0]) | uint64(head[1])<<8 | uint64(head[2])<<16)}
		seg.gaps = append(seg.gaps, body.gap(seg.first))
		r.bad = r.bad || body.bad
	}
	for range pages {
		b := r.bytes(8)
		if b == nil {
			break
		}
		seg.fences = append(seg.fences, le.Uint64(b))
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("summary: %w", errDamaged)
	}
	return seg, nil
}

// find returns where the blocks begin that may hold a record with a hash, in
// order. It reads one page, unless a page ends or begins with the hash.
func (s *segment) find(f io.ReaderAt, hash uint64) ([]uint32, error) {
	// The first page that begins with the hash or beyond it; its predecessor may
	// end with the hash.
	page := sort.Search(len(s.fences), func(i int) bool { return s.fences[i] >= hash })
	page = max(page-1, 0)
	var found []uint32
	b := make([]byte, pageSize)
	for first := page; page < len(s.fences) && (page == first || s.fences[page] <= hash); page++ {
		at := s.pages + int64(page)*pageSize
		if n, err := f.ReadAt(b, at); n < pageSize {
			return nil, damaged(at, err)
		}
		n := int(binary.LittleEndian.Uint32(b[pageSize-16:]))
		if binary.LittleEndian.Uint32(b[pageSize-4:]) != checksum(s.nonce, b[:pageSize-4]) || n > pageEntries {
			return nil, damaged(at, nil)
		}
		hashOf := func(i int) uint64 { return binary.LittleEndian.Uint64(b[i*entrySize:]) }
		for i := sort.Search(n, func(i int) bool { return hashOf(i) >= hash }); i < n && hashOf(i) == hash; i++ {
			found = append(found, binary.LittleEndian.Uint32(b[i*entrySize+8:]))
		}
	}
	return found, nil
}

// read reads the catalog.
func (s *segment) read(f io.ReaderAt) (names []name, blocks []uint32, err error) {
	b := make([]byte, s.length)
	if n, err := f.ReadAt(b, s.catalog); n < len(b) {
		return nil, nil, damaged(s.catalog, err)
	}
	if checksum(s.nonce, b) != s.sum {
		return nil, nil, damaged(s.catalog, nil)
	}
	r := reader{b: b}
	for range r.uvarint() {
		if r.bad {
			break
		}
		n := name{broker: r.uint32()}
		uid, _ := r.text()
		n.uid, n.text = uidOf(uid), r.string()
		names = append(names, n)
	}
	at := uint32(0)
	for range r.uvarint() {
		if r.bad {
			break
		}
		at += r.uint32()
		blocks = append(blocks, at)
	}
	if r.bad {
		return nil, nil, fmt.Errorf("catalog: %w", errDamaged)
	}
	return names, blocks, nil
}

func uidOf(b []byte) channel.UID { return channel.UID(b) }
