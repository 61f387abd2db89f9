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

// work is the memory one decoding needs and the next can have.
type work struct {
	b    Builder
	seen []string // members of the JSON object so far
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
	contentType, err := contentTypeOf(h)
	if err != nil {
		return nil, Binary, err
	}
	mode, ok := modeOf(contentType)
	if !ok {
		m := malformed("content-type", "%s is an event format this broker does not read; send %s", quote(mediaType(contentType)), ContentTypeJSON)
		m.cause = ErrFormat
		return nil, mode, m
	}
	var events []Event
	switch mode {
	case Binary:
		var e Event
		if e, err = d.binary(h, contentType, body); err == nil {
			events = []Event{e}
		}
	case Structured:
		var e Event
		if e, err = d.structured(h, body); err == nil {
			events = []Event{e}
		}
	case Batch:
		events, err = d.batch(h, body)
	}
	return events, mode, err
}

// binary reads an event from headers and body.
func (d *Decoder) binary(h http.Header, contentType string, body []byte) (Event, error) {
	w := d.get()
	defer d.put(w)
	b := &w.b
	size, attributes := 0, 0
	for key, values := range h {
		key = http.CanonicalHeaderKey(key)
		switch {
		case len(values) == 0:
		case hasPrefixFold(key, cePrefix):
			if attributes++; attributes > bound(d.MaxAttributes, DefaultMaxAttributes) {
				return Event{}, d.tooMany()
			}
			if err := ceHeader(b, key, values); err != nil {
				return Event{}, err
			}
		case travels(key):
			if err := travel(b, key, values, &size); err != nil {
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
func ceHeader(b *Builder, key string, values []string) error {
	name := attributeOf(key)
	switch {
	case name == AttrDataContentType:
		return malformed("ce-datacontenttype", "not a header of binary mode; the media type of the data goes into Content-Type")
	case len(values) > 1 || b.Has(name):
		return malformed(shown(strings.ToLower(key)), "sent more than once; which one holds would be a guess")
	}
	if v := decodeHeader(values[0]); v != "" || !emptyIsAbsent(name) {
		b.Set(name, v)
	}
	return nil
}

func (d *Decoder) tooMany() error {
	return malformed("attributes", "more than %d", bound(d.MaxAttributes, DefaultMaxAttributes))
}

// travelling keeps those headers of a JSON message that go with its events.
func travelling(b *Builder, h http.Header) error {
	size := 0
	for key, values := range h {
		key = http.CanonicalHeaderKey(key)
		if len(values) > 0 && travels(key) {
			if err := travel(b, key, values, &size); err != nil {
				return err
			}
		}
	}
	return nil
}

// travel keeps one header with the event; size counts what is kept so far.
func travel(b *Builder, key string, values []string, size *int) error {
	if !headerName(key) {
		return malformed(shown(key), "not a header name")
	}
	// A list header may be split over several lines (RFC 9110, 5.3).
	v := values[0]
	if len(values) > 1 {
		v = strings.Join(values, ",")
	}
	if *size += len(key) + len(v); *size > maxHeaderBytes {
		return malformed(shown(key), "headers that travel with the event are more than %d bytes together", maxHeaderBytes)
	}
	if !headerValue(v) {
		return malformed(shown(key), "%s holds a control character", quote(v))
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
func contentTypeOf(h http.Header) (string, error) {
	values := h["Content-Type"]
	if values == nil { // net/http would have found it, but h may be made by hand
		for key, v := range h {
			if strings.EqualFold(key, "Content-Type") {
				values = append(values, v...)
			}
		}
	}
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", malformed("content-type", "sent more than once; which one holds would be a guess")
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
