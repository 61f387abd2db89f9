package event

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Builder collects one event. Its zero value is ready; Reset makes it ready
// again and keeps its memory. A Builder belongs to one goroutine.
type Builder struct {
	entries []entry
	sorted  []place
	times   []byte // texts of SetTime
	data    []byte
	flags   byte
}

// place is where an entry will stand. Places are sorted, not entries: moving
// pointers about is what costs.
type place struct {
	rank  uint8
	index uint16 // in entries
}

type entry struct {
	kind        Kind
	name, value string
}

// Edit starts from an existing event: set or delete what shall differ.
func Edit(e Event) *Builder {
	b := &Builder{flags: e.raw[1], data: e.Data()}
	e.walk(func(kind Kind, name, value string) bool {
		b.entries = append(b.entries, entry{kind, name, value})
		return true
	})
	return b
}

// Reset empties the builder.
func (b *Builder) Reset() {
	clear(b.entries)
	*b = Builder{entries: b.entries[:0], sorted: b.sorted[:0], times: b.times[:0]}
}

// Set gives an attribute a string value, replacing an earlier one.
func (b *Builder) Set(name, value string) *Builder { return b.set(String, name, value) }

// SetValue gives an attribute a value of its wire kind, replacing an earlier one.
func (b *Builder) SetValue(name string, v Value) *Builder { return b.set(v.Kind, name, v.Text) }

// SetTime gives an attribute a time in UTC, as RFC 3339 writes it.
func (b *Builder) SetTime(name string, t time.Time) *Builder {
	from := len(b.times)
	b.times = t.UTC().AppendFormat(b.times, time.RFC3339Nano)
	return b.set(String, name, text(b.times[from:]))
}

// SetHeader keeps a request header with the event, by canonical name.
func (b *Builder) SetHeader(name, value string) *Builder { return b.set(header, name, value) }

// SetData sets the payload; the builder keeps the slice until Build copies it.
func (b *Builder) SetData(data []byte) *Builder {
	// How JSON carried the data it replaces says nothing about this one.
	b.data, b.flags = data, b.flags&^(flagBase64|flagJSONData)|flagData
	return b
}

// Text is the value set so far for an attribute, "" where there is none.
func (b *Builder) Text(name string) string {
	if i := b.find(false, name); i >= 0 {
		return b.entries[i].value
	}
	return ""
}

// Has reports whether an attribute is set.
func (b *Builder) Has(name string) bool { return b.find(false, name) >= 0 }

// Delete takes an attribute away.
func (b *Builder) Delete(name string) *Builder {
	if i := b.find(false, name); i >= 0 {
		b.entries = slices.Delete(b.entries, i, i+1)
	}
	return b
}

func (b *Builder) set(kind Kind, name, value string) *Builder {
	if i := b.find(kind == header, name); i >= 0 {
		b.entries[i] = entry{kind, name, value}
	} else {
		b.entries = append(b.entries, entry{kind, name, value})
	}
	return b
}

func (b *Builder) find(isHeader bool, name string) int {
	for i := range b.entries {
		if b.entries[i].name == name && (b.entries[i].kind == header) == isHeader {
			return i
		}
	}
	return -1
}

// leading are the attributes that every filter and log line asks for: they
// stand first in the stored form.
var leading = [...]string{AttrID, AttrSource, AttrSpecVersion, AttrType}

// rank puts the leading attributes first, then the others, then the headers.
func rank(e *entry) uint8 {
	if e.kind == header {
		return uint8(len(leading)) + 1
	}
	for i, name := range leading {
		if e.name == name {
			return uint8(i)
		}
	}
	return uint8(len(leading))
}

// sort puts the entries in stored order, those of one rank by name, so that
// equal events have equal bytes whatever order they came in.
func (b *Builder) sort() {
	b.sorted = b.sorted[:0]
	for i := range b.entries {
		b.sorted = append(b.sorted, place{rank(&b.entries[i]), uint16(i)})
	}
	slices.SortFunc(b.sorted, func(x, y place) int {
		if x.rank != y.rank {
			return int(x.rank) - int(y.rank)
		}
		return strings.Compare(b.entries[x.index].name, b.entries[y.index].name)
	})
}

// Build checks the limits of the stored form and returns the event in one
// allocation. Whether it is a valid CloudEvent is Validate's question.
func (b *Builder) Build() (Event, error) {
	if len(b.entries) > MaxEntries {
		return Event{}, fmt.Errorf("%d attributes: at most %d", len(b.entries), MaxEntries)
	}
	b.sort()
	size := headerSize
	for i := range b.entries {
		if len(b.entries[i].name) > MaxNameBytes {
			return Event{}, fmt.Errorf("attribute name of %d bytes: at most %d", len(b.entries[i].name), MaxNameBytes)
		}
		size += entrySize + len(b.entries[i].name) + len(b.entries[i].value)
	}
	if uint64(size)+uint64(len(b.data)) > 1<<31 {
		return Event{}, fmt.Errorf("event of %d bytes is too large to store", size+len(b.data))
	}
	raw := make([]byte, headerSize, size+len(b.data))
	raw[0], raw[1] = encodingVersion, b.flags
	binary.LittleEndian.PutUint16(raw[2:], uint16(len(b.entries)))
	binary.LittleEndian.PutUint32(raw[4:], uint32(size))
	for _, p := range b.sorted {
		e := &b.entries[p.index]
		raw = append(raw, byte(e.kind), byte(len(e.name)))
		raw = binary.LittleEndian.AppendUint32(raw, uint32(len(e.value)))
		raw = append(raw, e.name...)
		raw = append(raw, e.value...)
	}
	return Event{raw: append(raw, b.data...)}, nil
}
