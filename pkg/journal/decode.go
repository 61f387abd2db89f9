package journal

import (
	"encoding/binary"
	"math"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// reader takes a record apart. Once something is not as it should be, bad is
// set and all that follows is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) fail() {
	r.b, r.bad = nil, true
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) uint32() uint32 {
	v := r.uvarint()
	if v > math.MaxUint32 {
		r.fail()
		return 0
	}
	return uint32(v)
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.fail()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// text is a text and whether it was cut.
func (r *reader) text() (b []byte, short bool) {
	n := r.uvarint()
	return r.bytes(n >> 1), n&1 != 0
}

func (r *reader) string() string {
	b, _ := r.text()
	return string(b)
}

func (r *reader) id() channel.ID {
	return channel.ID{Shard: channel.ShardID(r.uint32()), Position: channel.Position(r.uvarint())}
}

// numbers reads numbers of triggers.
func (r *reader) numbers() []uint32 {
	n := r.uvarint()
	if n > uint64(len(r.b)) { // each has a byte at least
		r.fail()
		return nil
	}
	list := make([]uint32, n)
	for i := range list {
		list[i] = r.uint32()
	}
	return list
}

// payload walks the records of a block, whose checksum has been verified.
type payload struct {
	base int64
	rest []byte
	bad  bool
}

func newPayload(b []byte) payload {
	if len(b) < baseSize {
		return payload{bad: true}
	}
	return payload{base: int64(binary.LittleEndian.Uint64(b)), rest: b[baseSize:]}
}

// next returns the next record, and false at the end or where p.bad is set.
func (p *payload) next() (kind byte, body []byte, ok bool) {
	if len(p.rest) == 0 {
		return 0, nil, false
	}
	if len(p.rest) < recordHeader {
		p.bad = true
		return 0, nil, false
	}
	n := int(p.rest[0]) | int(p.rest[1])<<8 | int(p.rest[2])<<16
	if n > len(p.rest)-recordHeader {
		p.bad = true
		return 0, nil, false
	}
	kind, body = p.rest[3], p.rest[recordHeader:recordHeader+n]
	p.rest = p.rest[recordHeader+n:]
	return kind, body, true
}

// about reads whose record it is: of which Broker's or Trigger's number, about
// which event.
func about(kind byte, r *reader) (n uint32, id channel.ID, ok bool) {
	if kind < kindMatched || kind > kindEnd {
		return 0, channel.ID{}, false
	}
	n, id = r.uint32(), r.id()
	return n, id, !r.bad
}

// matched is a decoded event.
type matched struct {
	entry    Entry // without the broker
	id       cutText
	source   cutText
	typ      cutText
	subject  cutText
	hash     uint64 // of an id that is cut
	triggers []uint32
}

// cutText is a text as it is kept.
type cutText struct {
	text  string
	short bool
}

// is reports whether this may be what is kept of a whole text.
func (c cutText) is(whole string) bool {
	if !c.short {
		return c.text == whole
	}
	return len(whole) > len(c.text) && strings.HasPrefix(whole, c.text)
}

func (r *reader) cutText() cutText {
	b, short := r.text()
	return cutText{string(b), short}
}

// matched reads what follows the ID.
func (r *reader) matched(base int64, id channel.ID) (m matched) {
	accepted := r.varint() + base
	has := r.byte()
	m.id = r.cutText()
	if m.id.short {
		if b := r.bytes(8); b != nil {
			m.hash = binary.LittleEndian.Uint64(b)
		}
	}
	m.source, m.typ, m.subject = r.cutText(), r.cutText(), r.cutText()
	m.entry = Entry{
		ID: id, Accepted: instant(accepted),
		EventID: m.id.text, Source: m.source.text, Type: m.typ.text, Subject: m.subject.text,
	}
	if has&hasCausation != 0 {
		m.entry.CausationID = r.string()
	}
	if has&hasCorrelation != 0 {
		m.entry.CorrelationID = r.string()
	}
	total := r.uvarint()
	if total > math.MaxInt32 {
		r.fail()
		return m
	}
	m.entry.Matched = int(total)
	m.triggers = r.numbers()
	return m
}

// has reports whether the event has this CloudEvents id, of which hash is the hash.
func (m *matched) has(id string, hash uint64) bool {
	return m.id.is(id) && (!m.id.short || m.hash == hash)
}

// attempt reads what follows the ID.
func (r *reader) attempt(base int64) (a Attempt) {
	start := r.varint() + base
	a.Start = instant(start)
	a.Duration = time.Duration(r.uvarint())
	a.Number = int(r.uint32())
	a.Status = int(r.uint32())
	has := r.uvarint()
	a.Final = State(has & attemptFinal)
	a.Sink = has&attemptSink != 0
	a.Spared = has&attemptSpared != 0
	if has&attemptError != 0 {
		a.Error = r.string()
	}
	if has&attemptAnswer != 0 {
		b, _ := r.text()
		a.Answer = append([]byte(nil), b...)
	}
	if has&attemptNext != 0 {
		a.Next = instant(r.varint() + start)
	}
	if has&attemptRerun != 0 {
		a.Rerun = r.string()
	}
	if has&attemptReplies != 0 {
		n := r.uvarint()
		if n > uint64(len(r.b)) {
			r.fail()
			return a
		}
		for range n {
			a.Replies = append(a.Replies, r.id())
		}
	}
	return a
}

// gap reads a gap's record.
func (r *reader) gap(base int64) Gap {
	from := r.varint() + base
	to := r.varint() + from
	return Gap{From: instant(from), To: instant(to), Records: r.uvarint(), Cause: r.string()}
}
