package event

import (
	"encoding/base64"
	"slices"
)

// Members of the JSON format that are not attributes (CloudEvents JSON
// format, 3.1).
const (
	memberData   = "data"
	memberBase64 = "data_base64"
)

// DecodeJSON reads one event in the JSON format, with the default bounds. The
// event keeps no part of body. The error is a *Malformed.
func DecodeJSON(body []byte) (Event, error) {
	var d Decoder
	w := d.get()
	defer d.put(w)
	return d.structured(w, nil, body)
}

// UnmarshalJSON makes e the event that body holds. See DecodeJSON.
func (e *Event) UnmarshalJSON(body []byte) error {
	decoded, err := DecodeJSON(body)
	if err == nil {
		*e = decoded
	}
	return err
}

// structured reads the one event that body is.
func (d *Decoder) structured(w *work, fields []Field, body []byte) (Event, error) {
	if err := checkJSON(body, bound(d.MaxDepth, DefaultMaxDepth)); err != nil {
		return Event{}, err
	}
	if err := travelling(&w.b, fields); err != nil {
		return Event{}, err
	}
	return d.object(w, body[skipSpace(body, 0):])
}

// batch reads all events of a JSON array, or none.
func (d *Decoder) batch(w *work, fields []Field, body []byte, into []Event) ([]Event, error) {
	if err := checkJSON(body, bound(d.MaxDepth, DefaultMaxDepth)+1); err != nil {
		return nil, err
	}
	body = body[skipSpace(body, 0):]
	if body[0] != '[' {
		return nil, malformed("body", "a batch is a JSON array of events")
	}
	most, n := bound(d.MaxBatch, DefaultMaxBatch), 0
	for range elements(body) {
		if n++; n > most {
			return nil, malformed("body", "batch of more than %d events", most)
		}
	}
	events := slices.Grow(into, n)
	for element := range elements(body) {
		w.b.Reset()
		if err := travelling(&w.b, fields); err != nil {
			return nil, err
		}
		e, err := d.object(w, element)
		if err != nil {
			return nil, inBatch(err, len(events)-len(into)+1, n)
		}
		events = append(events, e)
	}
	return events, nil
}

// payload is how an event's JSON carried its data.
type payload struct {
	data, base64 []byte // the members' values as they stand, nil where absent
}

// object reads an event from a JSON value known to be valid.
func (d *Decoder) object(w *work, obj []byte) (Event, error) {
	if obj[0] != '{' {
		return Event{}, malformed("body", "an event is a JSON object, not %s", jsonType(obj))
	}
	b := &w.b
	b.flags |= flagStructured
	w.seen = w.seen[:0]
	var p payload
	for quoted, value := range members(obj) {
		raw, ok := unquote(quoted)
		if !ok {
			return Event{}, malformed(quote(string(quoted)), "half of a surrogate pair in a name")
		}
		name := known(raw)
		if slices.Contains(w.seen, name) {
			return Event{}, malformed(shown(name), "there twice; which one holds would be a guess")
		}
		w.seen = append(w.seen, name)
		if len(w.seen) > bound(d.MaxAttributes, DefaultMaxAttributes)+2 { // and data, data_base64
			return Event{}, d.tooMany()
		}
		switch name {
		case memberData:
			p.data = value
		case memberBase64:
			p.base64 = value
		default:
			if err := attribute(b, name, value); err != nil {
				return Event{}, err
			}
		}
	}
	if err := b.Validate(); err != nil {
		return Event{}, err
	}
	if err := p.set(b); err != nil {
		return Event{}, err
	}
	return d.build(b)
}

// attribute sets an attribute from its JSON value; null means absent
// (CloudEvents JSON format, 2.2 and 2.3).
func attribute(b *Builder, name string, value []byte) error {
	// Before the value: a name that is none is the better thing to complain about.
	if err := checkName(name); err != nil {
		return err
	}
	switch c := value[0]; {
	case c == 'n':
	case c != '"' && core(name, version1):
		return malformed(name, "must be a string, not %s", jsonType(value))
	case c == 't', c == 'f':
		b.SetValue(name, Value{Text: string(value), Kind: Boolean})
	case c == '-', '0' <= c && c <= '9':
		if string(value) == "-0" {
			value = value[1:]
		}
		if !integer(string(value)) {
			return malformed(shown(name), "%s is not an integer from -2147483648 to 2147483647; send other numbers as strings", quote(string(value)))
		}
		b.SetValue(name, Value{Text: string(value), Kind: Integer})
	case c == '"':
		s, ok := unquote(value)
		if !ok {
			return malformed(shown(name), "%s holds half of a surrogate pair", quote(string(value)))
		}
		if len(s) > 0 || !emptyIsAbsent(name) {
			b.Set(name, string(s))
		}
	default:
		return malformed(shown(name), "an attribute cannot be %s", jsonType(value))
	}
	return nil
}

// set gives the builder the data. What kind of data it is depends on attributes
// that may stand after it, so this comes last.
func (p payload) set(b *Builder) error {
	version, contentType := b.Text(AttrSpecVersion), b.Text(AttrDataContentType)
	// A serializer that writes both, one of them null, means the other.
	if isNull(p.base64) {
		p.base64 = nil
	}
	if p.base64 != nil && isNull(p.data) {
		p.data = nil
	}
	// What datacontentencoding says is about the JSON, so it goes with the JSON.
	encoded := version == version03 && b.Has(AttrDataEncoding)
	if encoded {
		b.Delete(AttrDataEncoding)
	}
	switch {
	case p.base64 != nil && p.data != nil:
		return malformed(memberBase64, "there together with data; an event has one payload")
	case p.base64 != nil && version == version03:
		return malformed(memberBase64, "not known in 0.3; send datacontentencoding base64 and data")
	case p.base64 != nil:
		return setBase64(b, memberBase64, p.base64)
	case p.data == nil:
		return nil
	case encoded && isNull(p.data):
		return nil
	case encoded:
		return setBase64(b, memberData, p.data)
	case contentType == "" || isJSON(contentType):
		// The value itself is the data, byte for byte (JSON format, 3.1.1).
		b.SetData(p.data)
		b.flags |= flagJSONData
		return nil
	case isNull(p.data):
		return nil
	case p.data[0] != '"':
		return malformed(memberData, "%s, but datacontenttype %s is not JSON; send a string, or data_base64, or a JSON datacontenttype", jsonType(p.data), quote(contentType))
	}
	s, ok := unquote(p.data)
	if !ok {
		return malformed(memberData, "half of a surrogate pair in a string")
	}
	b.SetData(s)
	return nil
}

func setBase64(b *Builder, member string, value []byte) error {
	if value[0] != '"' {
		return malformed(member, "must be a string of base64, not %s", jsonType(value))
	}
	s, ok := unquote(value)
	if !ok {
		return malformed(member, "not base64")
	}
	data := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(data, s)
	if err != nil {
		return malformed(member, "not base64: %v", err)
	}
	b.SetData(data[:n])
	b.flags |= flagBase64
	return nil
}

func isNull(value []byte) bool { return len(value) > 0 && value[0] == 'n' }

// jsonType names a value's type for people.
func jsonType(value []byte) string {
	switch value[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}
