package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A segment is a header and blocks:
//
//	0  u32  blockMagic
//	4  u32  length of the payload
//	8  u32  checksum of the payload
//	12 u32  checksum of the 12 bytes before
//	16      payload: i64 time that its records' times are relative to, records
//
// All checksums of a segment begin with its nonce. Without it nobody who sends
// an event can put bytes into it that would pass for a block where the true
// ones are damaged.
const (
	segmentMagic  = "PNSTKJNL"
	segmentFormat = 1
	segmentHeader = 32

	blockMagic  = 0x4b4c424a // "JBLK"
	blockHeader = 16
	baseSize    = 8

	// maxBlock is more than any block has: what claims more is damaged.
	maxBlock = 2 * maxBuffer
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("damaged")
	magicBytes = binary.LittleEndian.AppendUint32(nil, blockMagic)
)

func checksum(nonce uint32, b []byte) uint32 { return crc32.Update(nonce, castagnoli, b) }

// appendBlock begins a block. Its header is filled in when it is complete.
func appendBlock(d []byte, time int64) []byte {
	var header [blockHeader + baseSize]byte
	binary.LittleEndian.PutUint64(header[blockHeader:], uint64(time))
	return append(d, header[:]...)
}

// completeBlock fills in the header of a block.
func completeBlock(b []byte, nonce uint32) {
	binary.LittleEndian.PutUint32(b, blockMagic)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-blockHeader))
	binary.LittleEndian.PutUint32(b[8:], checksum(nonce, b[blockHeader:]))
	binary.LittleEndian.PutUint32(b[12:], checksum(nonce, b[:12]))
}

// blockLength verifies a block's header and returns the length of its payload.
func blockLength(header []byte, nonce uint32) (int, bool) {
	n := binary.LittleEndian.Uint32(header[4:])
	ok := binary.LittleEndian.Uint32(header) == blockMagic && n <= maxBlock &&
		binary.LittleEndian.Uint32(header[12:]) == checksum(nonce, header[:12])
	return int(n), ok
}

// firstRead is how much of a block is read at first: all of it, where little is
// written, or enough to know how much there is.
const firstRead = 8 << 10

// readBlock reads and verifies the block at a place. It returns the payload,
// which is in buf.
func readBlock(f io.ReaderAt, nonce uint32, at int64, buf *[]byte) ([]byte, error) {
	if len(*buf) < firstRead {
		*buf = make([]byte, blockHeader+blockBytes+blockBytes/8)
	}
	got, err := f.ReadAt((*buf)[:firstRead], at)
	if got < blockHeader {
		return nil, damaged(at, err)
	}
	n, ok := blockLength(*buf, nonce)
	if !ok {
		return nil, damaged(at, nil)
	}
	sum, end := binary.LittleEndian.Uint32((*buf)[8:]), blockHeader+n
	if end > len(*buf) {
		*buf = make([]byte, end)
		got = 0
	}
	if end > firstRead {
		got, err = f.ReadAt((*buf)[:end], at)
	}
	if got < end {
		return nil, damaged(at, err)
	}
	b := (*buf)[blockHeader:end]
	if checksum(nonce, b) != sum {
		return nil, damaged(at, nil)
	}
	return b, nil
}

func damaged(at int64, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("block at %d: %w", at, errDamaged)
	}
	return fmt.Errorf("block at %d: %w", at, err)
}

func segmentHead(num uint64, nonce uint32) []byte {
	h := make([]byte, segmentHeader)
	copy(h, segmentMagic)
	binary.LittleEndian.PutUint32(h[8:], segmentFormat)
	binary.LittleEndian.PutUint32(h[12:], nonce)
	binary.LittleEndian.PutUint64(h[16:], num)
	binary.LittleEndian.PutUint32(h[28:], checksum(0, h[:28]))
	return h
}

// parseHead verifies a segment's header and returns its nonce.
func parseHead(h []byte, num uint64) (nonce uint32, err error) {
	switch {
	case len(h) < segmentHeader || string(h[:8]) != segmentMagic || binary.LittleEndian.Uint32(h[28:]) != checksum(0, h[:28]):
		return 0, fmt.Errorf("header: %w", errDamaged)
	case binary.LittleEndian.Uint32(h[8:]) != segmentFormat:
		return 0, fmt.Errorf("format %d, this build reads %d", binary.LittleEndian.Uint32(h[8:]), segmentFormat)
	case binary.LittleEndian.Uint64(h[16:]) != num:
		return 0, fmt.Errorf("header: it is segment %d", binary.LittleEndian.Uint64(h[16:]))
	}
	return binary.LittleEndian.Uint32(h[12:]), nil
}

// contents is what a segment holds, as its index will say.
type contents struct {
	size    int64 // up to the end of the last good block
	keys    []key
	blocks  []uint32
	names   []name
	gaps    []Gap
	first   int64
	last    int64
	timed   bool // first and last are known
	records int
	damaged bool // not all before size is good

	most uint32 // names that there can be in what has been read
}

// maxGaps bounds the gaps that a segment lists. Beyond it the last one grows.
const maxGaps = 32

func (c *contents) gap(g Gap) { c.gaps = addGap(c.gaps, g) }

func addGap(gaps []Gap, g Gap) []Gap {
	if len(gaps) < maxGaps {
		return append(gaps, g)
	}
	gaps[maxGaps-1].merge(g)
	return gaps
}

// at takes a time into account.
func (c *contents) at(n int64) {
	if !c.timed || n < c.first {
		c.first = n
	}
	if !c.timed || n > c.last {
		c.last = n
	}
	c.timed = true
}

// scan reads a segment of which there is no index. What follows the last good
// block was cut off by a crash; a bad block before it is a gap.
func scan(f io.ReaderAt, nonce uint32, size int64) (*contents, error) {
	c := &contents{size: segmentHeader}
	var buf []byte
	var pending bool // there is damage since the last good block
	for at := int64(segmentHeader); at+blockHeader <= size; {
		b, err := readBlock(f, nonce, at, &buf)
		if err == nil && at+blockHeader+int64(len(b)) > size {
			err = errDamaged
		}
		if err != nil && !errors.Is(err, errDamaged) {
			return nil, err
		}
		if err != nil {
			pending = true
			if at, err = seek(f, nonce, at+1, size); err != nil {
				return nil, err
			}
			continue
		}
		end := at + blockHeader + int64(len(b))
		before := c.last
		good := c.take(b, uint32(at))
		if pending || !good {
			c.damaged, pending = true, false
			from := before
			if from == 0 {
				from = c.first
			}
			c.gap(Gap{From: instant(from), To: instant(c.last), Cause: "the file is damaged"})
		}
		at, c.size = end, end
	}
	return c, nil
}

// take lists what is in a block, and reports whether all of it is good.
func (c *contents) take(b []byte, at uint32) bool {
	p := newPayload(b)
	c.most = (at + uint32(len(b))) / leastName
	if !p.bad {
		c.at(p.base)
		c.blocks = append(c.blocks, at)
	}
	good := true
	for {
		kind, body, ok := p.next()
		if !ok {
			return good && !p.bad
		}
		good = c.record(p.base, kind, body, at) && good
	}
}

func (c *contents) record(base int64, kind byte, body []byte, at uint32) bool {
	r := reader{b: body}
	switch kind {
	case kindBroker, kindTrigger:
		return c.name(kind, &r)
	case kindGap:
		g := r.gap(base)
		if r.bad {
			return false
		}
		c.gap(g)
		return true
	}
	n, id, ok := about(kind, &r)
	if !ok {
		return kind < kindMatched || kind > kindGap
	}
	broker, _ := resolve(c.names, kind, n)
	if broker == nil {
		return false // the block that names it is lost
	}
	c.records++
	c.keys = append(c.keys, key{hashID(hashText(seedBroker, string(broker.uid)), id), at})
	switch kind {
	case kindMatched:
		m := r.matched(base, id)
		if r.bad {
			return false
		}
		hash := m.hash
		if !m.id.short {
			hash = hashText(seedEvent, m.id.text)
		}
		c.keys = append(c.keys, key{hash, at})
		c.at(nanos(m.entry.Accepted))
	case kindAttempt:
		c.at(r.varint() + base + int64(r.uvarint()))
	case kindEnd:
		c.at(r.varint() + base)
	}
	return !r.bad
}

// leastName is the least that a name's record takes.
const leastName = recordHeader + 3

func (c *contents) name(kind byte, r *reader) bool {
	number := r.uint32()
	var n name
	if kind == kindTrigger {
		n.broker = r.uint32()
	}
	uid, _ := r.text()
	text, _ := r.text()
	n.uid, n.text = uidOf(uid), string(text)
	// Numbers come in order, but for those of a block that is lost: a list with
	// holes. A number that was made up must not make it longer than names fit.
	if r.bad || number == 0 || number > c.most || kind == kindTrigger && n.broker == 0 {
		return false
	}
	for uint32(len(c.names)) < number {
		c.names = append(c.names, name{})
	}
	if was := &c.names[number-1]; was.uid != "" && *was != n {
		return false // a number stands for one thing only
	}
	c.names[number-1] = n
	return true
}

// resolve finds whose record it is: a Broker and, where the kind is one of a
// Trigger's, the Trigger. broker is nil where it is not known.
func resolve(names []name, kind byte, n uint32) (broker, trigger *name) {
	of := func(n uint32) *name {
		if n == 0 || uint64(n) > uint64(len(names)) || names[n-1].uid == "" {
			return nil
		}
		return &names[n-1]
	}
	who := of(n)
	if who == nil {
		return nil, nil
	}
	if kind == kindMatched || kind == kindMore {
		if who.broker != 0 {
			return nil, nil
		}
		return who, nil
	}
	if who.broker == 0 {
		return nil, nil
	}
	if broker = of(who.broker); broker == nil || broker.broker != 0 {
		return nil, nil
	}
	return broker, who
}

// seek finds the next header of a block at or after a place, or size.
func seek(f io.ReaderAt, nonce uint32, at, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for at+blockHeader <= size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if n < blockHeader {
			if err == nil || errors.Is(err, io.EOF) {
				return size, nil
			}
			return 0, err
		}
		b, from := buf[:n], 0
		for from+blockHeader <= len(b) {
			i := bytes.Index(b[from:], magicBytes)
			if i < 0 || from+i+blockHeader > len(b) {
				break
			}
			from += i
			if _, ok := blockLength(b[from:], nonce); ok {
				return at + int64(from), nil
			}
			from++
		}
		at += int64(n - blockHeader + 1)
	}
	return size, nil
}
