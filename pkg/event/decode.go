package event

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// Defaults of a Decoder's bounds.
const (
	DefaultMaxBatch      = 1000
	DefaultMaxDepth      = 64
	DefaultMaxAttributes = 128
)

// Decoder reads CloudEvents from HTTP messages, requests and replies alike.
// Its zero value works. Decode may be called by any number of goroutines; the
// fields must not change, nor the Decoder be copied, once it is in use.
//
// The caller bounds the body; the Decoder bounds what a body can make of it.
type Decoder struct {
	// MaxBatch is the most events a batch may have. 0 means DefaultMaxBatch.
	MaxBatch int
	// MaxDepth is how deep JSON may nest, counted from the event's own object,
	// data included. 0 means DefaultMaxDepth.
	MaxDepth int
	// MaxAttributes is the most attributes an event may have. 0 means
	// DefaultMaxAttributes.
	MaxAttributes int
	// Stamp, if set, is called for each event after it has been validated and
	// before it is built, to set what the receiver adds: hops left, time of
	// arrival. What it sets is not validated again. Its error ends Decode and
	// is returned as it is, or wrapped with the place in the batch.
	Stamp func(*Builder) error

	scratch sync.Pool // of *work
}

// Field is one header of an HTTP message, its name in lower case.
type Field struct{ Name, Value string }

// work is the memory one decoding needs and the next can have.
type work struct {
	b      Builder
	seen   []string // members of the JSON object so far
	fields []Field
}

func (d *Decoder) get() *work {
	if w, ok := d.scratch.Get().(*work); ok {
		return w
	}
	return &work{b: Builder{entries: make([]entry, 0, 16)}}
}

// put empties w, so that the pool keeps no request alive.
func (d *Decoder) put(w *work) {
	w.b.Reset()
	clear(w.seen)
	clear(w.fields)
	w.fields = w.fields[:0]
	d.scratch.Put(w)
}

// Decode reads the events of one message and tells in which mode they came:
// one event, or in Batch any number, all or none. An empty batch is no events
// and no error. It keeps neither h nor body, and it changes neither.
//
// The rules, where the spec leaves room: the Content-Type alone decides the
// mode. In binary mode it is the datacontenttype, byte for byte; a
// ce-datacontenttype header is an error, because two places could disagree, and
// so is any ce- header that comes twice. subject, time, dataschema and
// datacontenttype count as absent when empty. A body of no bytes is no data.
//
// Headers that trace or correlate (X-Request-Id, Traceparent, Tracestate, B3,
// X-B3-*, Knative-*) travel with the event, with each one of a batch; several
// values of one are joined by commas. More than 8 KiB of them is an error.
//
// The error is a *Malformed, or what Stamp returned.
func (d *Decoder) Decode(h http.Header, body []byte) ([]Event, Mode, error) {
	w := d.get()
	defer d.put(w)
	for key, values := range h {
		name := strings.ToLower(key)
		for _, v := range values {
			w.fields = append(w.fields, Field{name, v})
		}
	}
	return d.decode(w, w.fields, body, nil)
}

// DecodeFields is Decode for a message whose header is a list, in the order of
// the message. It appends the events to into, and allocates nothing but what
// the events are in, if the mode is Binary and no value is encoded.
func (d *Decoder) DecodeFields(fields []Field, body []byte, into []Event) ([]Event, Mode, error) {
	w := d.get()
	defer d.put(w)
	return d.decode(w, fields, body, into)
}

func (d *Decoder) decode(w *work, fields []Field, body []byte, into []Event) ([]Event, Mode, error) {
	contentType, err := contentTypeOf(fields)
	if err != nil {
		return nil, Binary, err
	}
	mode, ok := modeOf(contentType)
	if !ok {
		m := malformed("content-type", "%s is an event format this broker does not read; send %s", quote(mediaType(contentType)), ContentTypeJSON)
		m.cause = ErrFormat
		return nil, mode, m
	}
	if mode == Batch {
		events, err := d.batch(w, fields, body, into)
		return events, mode, err
	}
	var e Event
	if mode == Binary {
		e, err = d.binary(w, fields, contentType, body)
	} else {
		e, err = d.structured(w, fields, body)
	}
	if err != nil {
		return nil, mode, err
	}
	return append(into, e), mode, nil
}

// binary reads an event from headers and body.
func (d *Decoder) binary(w *work, fields []Field, contentType string, body []byte) (Event, error) {
	b := &w.b
	size, attributes := 0, 0
	for i := range fields {
		f := &fields[i]
		switch {
		case strings.HasPrefix(f.Name, fieldPrefix):
			if attributes++; attributes > bound(d.MaxAttributes, DefaultMaxAttributes) {
				return Event{}, d.tooMany()
			}
			if err := ceHeader(b, f); err != nil {
				return Event{}, err
			}
		case travels(f.Name):
			if err := travel(b, f, &size); err != nil {
				return Event{}, err
			}
		}
	}
	if contentType != "" {
		b.Set(AttrDataContentType, contentType)
	}
	if err := b.Validate(); err != nil {
		return Event{}, inHeader(err)
	}
	if len(body) > 0 {
		b.SetData(body)
	}
	return d.build(b)
}

// ceHeader sets the attribute that a ce- header carries.
func ceHeader(b *Builder, f *Field) error {
	name := f.Name[len(fieldPrefix):]
	switch {
	case name == AttrDataContentType:
		return malformed("ce-datacontenttype", "not a header of binary mode; the media type of the data goes into Content-Type")
	case b.Has(name):
		return malformed(shown(f.Name), "sent more than once; which one holds would be a guess")
	}
	if v := decodeHeader(f.Value); v != "" || !emptyIsAbsent(name) {
		b.set(String, name, v)
	}
	return nil
}

func (d *Decoder) tooMany() error {
	return malformed("attributes", "more than %d", bound(d.MaxAttributes, DefaultMaxAttributes))
}

// travelling keeps those headers of a JSON message that go with its events.
func travelling(b *Builder, fields []Field) error {
	size := 0
	for i := range fields {
		if travels(fields[i].Name) {
			if err := travel(b, &fields[i], &size); err != nil {
				return err
			}
		}
	}
	return nil
}

// travel keeps one header with the event; size counts what is kept so far.
func travel(b *Builder, f *Field, size *int) error {
	if !headerName(f.Name) {
		return malformed(shown(f.Name), "not a header name")
	}
	key, v := canonical(f.Name), f.Value
	if *size += len(key) + len(v); *size > maxHeaderBytes {
		return malformed(shown(key), "headers that travel with the event are more than %d bytes together", maxHeaderBytes)
	}
	if !headerValue(v) {
		return malformed(shown(key), "%s holds a control character", quote(v))
	}
	// A list header may be split over several lines (RFC 9110, 5.3).
	if i := b.find(true, key); i >= 0 {
		v = b.entries[i].value + "," + v
	}
	b.SetHeader(key, v)
	return nil
}

// build stamps and builds an event that has been validated.
func (d *Decoder) build(b *Builder) (Event, error) {
	if d.Stamp != nil {
		if err := d.Stamp(b); err != nil {
			return Event{}, err
		}
	}
	e, err := b.Build()
	if err != nil {
		return Event{}, malformed("event", "%v", err)
	}
	return e, nil
}

// contentTypeOf is the message's one Content-Type, "" where it has none.
func contentTypeOf(fields []Field) (contentType string, err error) {
	found := false
	for i := range fields {
		if fields[i].Name != "content-type" {
			continue
		}
		if found {
			return "", malformed("content-type", "sent more than once; which one holds would be a guess")
		}
		contentType, found = fields[i].Value, true
	}
	return contentType, nil
}

// emptyIsAbsent lists the optional attributes whose empty value says nothing:
// the spec wants them non-empty where present, and senders that fill a template
// leave them empty.
func emptyIsAbsent(name string) bool {
	switch name {
	case AttrSubject, AttrTime, AttrDataSchema, AttrDataContentType:
		return true
	}
	return false
}

// inHeader names the header where Validate named the attribute.
func inHeader(err error) error {
	m, ok := err.(*Malformed)
	if !ok {
		return err
	}
	named := *m
	if m.Field == AttrDataContentType {
		named.Field = "content-type"
	} else {
		named.Field = "ce-" + m.Field
	}
	return &named
}

// inBatch says which event of a batch it was, counting from 1.
func inBatch(err error, n, of int) error {
	if m, ok := err.(*Malformed); ok {
		placed := *m // Stamp may return one error for many events
		placed.Event, placed.Of = n, of
		return &placed
	}
	return fmt.Errorf("event %d of %d: %w", n, of, err)
}

func bound(set, or int) int {
	if set > 0 {
		return set
	}
	return or
}
