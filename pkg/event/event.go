// Package event is one CloudEvent as Penstock keeps it: an immutable run of
// bytes that is parsed once at the door, stored as it is, matched by filters
// without decoding, and written out to subscribers. The package also speaks
// the HTTP protocol binding: binary, structured and batched mode, in requests
// and in replies.
//
// An Event is a value of one slice header. It may be copied, kept and read by
// any number of goroutines; nothing changes its bytes after Build or Parse.
package event

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unsafe"
)

// Kind is the type an attribute had on the wire. Binary mode knows strings
// only; JSON also carries integers and booleans, which a structured delivery
// must give back as such (CloudEvents JSON format, 2.2).
type Kind uint8

const (
	String Kind = iota
	Integer
	Boolean
	// header marks a request header that travels with the event (x-request-id,
	// traceparent, ...). It is not an attribute: filters and Attribute do not see it.
	header
)

// Names of the context attributes (CloudEvents 1.0, section 2; 0.3 where noted).
const (
	AttrID              = "id"
	AttrSource          = "source"
	AttrSpecVersion     = "specversion"
	AttrType            = "type"
	AttrSubject         = "subject"
	AttrTime            = "time"
	AttrDataContentType = "datacontenttype"
	AttrDataSchema      = "dataschema"
	AttrSchemaURL       = "schemaurl"           // 0.3
	AttrDataEncoding    = "datacontentencoding" // 0.3
)

// Extensions that Knative's data plane defines and Penstock keeps.
const (
	ExtTTL         = "knativebrokerttl"
	ExtArrivalTime = "knativearrivaltime"
	ExtPartition   = "partitionkey"
)

// Extensions by which an event names what it follows from (CloudEvents
// correlation extension): the event that caused it, and the first of the chain.
const (
	ExtCausation   = "causationid"
	ExtCorrelation = "correlationid"
)

// DefaultTTL is how many passes through a broker an event has that comes
// without a count in ExtTTL (Knative's MAX_TTL).
const DefaultTTL = 255

// The stored form, version 1, all integers little endian:
//
//	0  u8   version
//	1  u8   flags
//	2  u16  number of entries
//	4  u32  offset of the data
//	8       entries: u8 kind, u8 length of name, u32 length of value, name, value
//	        data, to the end
//
// id, source, specversion and type come first, in this order; then the other
// attributes and then the headers, both by name.
const (
	encodingVersion = 1
	headerSize      = 8
	entrySize       = 6
)

const (
	flagStructured = 1 << iota // arrived as JSON: goes out as JSON unless delivery.format says otherwise
	flagData                   // has data, if only of length 0
	flagBase64                 // JSON carried the data as data_base64
	flagJSONData               // JSON carried the data as a JSON value, kept byte for byte
)

// Limits of the stored form.
const (
	MaxEntries   = 1<<16 - 1
	MaxNameBytes = 1<<8 - 1
)

// Event is one CloudEvent. The zero Event is no event; IsZero tells.
type Event struct {
	raw []byte
}

// Value is an attribute's canonical string form and its kind.
type Value struct {
	Text string
	Kind Kind
}

// ErrEncoding says that stored bytes are not an event of a version we read.
var ErrEncoding = errors.New("not a stored event")

// Parse takes stored bytes as an event. It checks every length inside them,
// so that no later access can leave the slice. The event keeps raw: the
// caller must not change it afterwards.
func Parse(raw []byte) (Event, error) {
	if len(raw) < headerSize {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrEncoding, len(raw))
	}
	if raw[0] != encodingVersion {
		return Event{}, fmt.Errorf("%w: version %d, this build reads %d", ErrEncoding, raw[0], encodingVersion)
	}
	data := uint64(binary.LittleEndian.Uint32(raw[4:]))
	if data > uint64(len(raw)) {
		return Event{}, fmt.Errorf("%w: data at %d of %d bytes", ErrEncoding, data, len(raw))
	}
	at := uint64(headerSize)
	for range binary.LittleEndian.Uint16(raw[2:]) {
		if at+entrySize > data {
			return Event{}, fmt.Errorf("%w: attribute at %d runs into the data", ErrEncoding, at)
		}
		if Kind(raw[at]) > header {
			return Event{}, fmt.Errorf("%w: attribute at %d is of kind %d", ErrEncoding, at, raw[at])
		}
		at += entrySize + uint64(raw[at+1]) + uint64(binary.LittleEndian.Uint32(raw[at+2:]))
	}
	if at != data {
		return Event{}, fmt.Errorf("%w: attributes end at %d, data begins at %d", ErrEncoding, at, data)
	}
	return Event{raw: raw}, nil
}

// IsZero reports whether e is the zero Event.
func (e Event) IsZero() bool { return e.raw == nil }

// Raw is the stored form. It must not be changed.
func (e Event) Raw() []byte { return e.raw }

// Size is the length of the stored form in bytes.
func (e Event) Size() int { return len(e.raw) }

// Structured reports whether the event arrived in structured or batched mode.
func (e Event) Structured() bool { return e.raw[1]&flagStructured != 0 }

// HasData tells an event with empty data from one without data.
func (e Event) HasData() bool { return e.raw[1]&flagData != 0 }

// Data is the payload, byte for byte as it came. It must not be changed.
func (e Event) Data() []byte { return e.raw[binary.LittleEndian.Uint32(e.raw[4:]):] }

// ID, Source, Type, SpecVersion and Subject are the attributes of that name,
// "" where absent.
func (e Event) ID() string          { return e.Text(AttrID) }
func (e Event) Source() string      { return e.Text(AttrSource) }
func (e Event) Type() string        { return e.Text(AttrType) }
func (e Event) SpecVersion() string { return e.Text(AttrSpecVersion) }
func (e Event) Subject() string     { return e.Text(AttrSubject) }

// TTL is how many more times the event may pass a broker (knativebrokerttl, as
// Knative's brokers count it). ok is false if there is no such attribute, or
// if it is not an integer.
func (e Event) TTL() (hops int, ok bool) {
	n, err := strconv.ParseInt(e.Text(ExtTTL), 10, 32)
	return int(n), err == nil
}

// Text is the string form of the named attribute, "" where absent. The string
// shares the event's memory and holds it alive.
func (e Event) Text(name string) string {
	v, _ := e.Attribute(name)
	return v.Text
}

// Attribute finds a context attribute or extension by its exact name. It does
// not allocate.
func (e Event) Attribute(name string) (Value, bool) {
	at := headerSize
	for range e.entries() {
		kind, n, v := e.entry(at)
		at += entrySize + len(n) + len(v)
		if n == name && kind != header {
			return Value{Text: v, Kind: kind}, true
		}
	}
	return Value{}, false
}

// Attributes walks all context attributes and extensions in stored order.
func (e Event) Attributes() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		e.walk(func(kind Kind, name, value string) bool {
			return kind == header || yield(name, Value{Text: value, Kind: kind})
		})
	}
}

// Headers walks the request headers that travel with the event, by canonical name.
func (e Event) Headers() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		e.walk(func(kind Kind, name, value string) bool {
			return kind != header || yield(name, value)
		})
	}
}

// entry reads the entry at an offset that Parse or Build has checked.
func (e Event) entry(at int) (kind Kind, name, value string) {
	n := int(e.raw[at+1])
	v := int(binary.LittleEndian.Uint32(e.raw[at+2:]))
	at += entrySize
	return Kind(e.raw[at-entrySize]), text(e.raw[at : at+n]), text(e.raw[at+n : at+n+v])
}

// walk calls yield for each entry until it answers false.
func (e Event) walk(yield func(kind Kind, name, value string) bool) {
	at := headerSize
	for range e.entries() {
		kind, name, value := e.entry(at)
		if !yield(kind, name, value) {
			return
		}
		at += entrySize + len(name) + len(value)
	}
}

// text views bytes of an immutable event as a string without a copy.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// entries is how many attributes and headers there are.
func (e Event) entries() int { return int(binary.LittleEndian.Uint16(e.raw[2:])) }
