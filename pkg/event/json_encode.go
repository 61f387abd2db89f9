package event

import (
	"encoding/base64"
	"encoding/json"
	"unicode/utf8"
)

// form is how the JSON format carries an event's data.
type form uint8

const (
	formNone   form = iota
	formJSON        // data, the bytes themselves being a JSON value
	formText        // data, a string
	formBase64      // data_base64; in 0.3 data with datacontentencoding
)

// form chooses so that reading the JSON gives back the same bytes, whatever
// they are. The way the data came is kept where it still can be; otherwise
// JSON goes in as it is, text as a string, and all else as base64.
func (e Event) form() form {
	flags, data := e.raw[1], e.Data()
	contentType, has := e.Attribute(AttrDataContentType)
	switch {
	case flags&flagData == 0:
		return formNone
	case flags&flagBase64 != 0:
		return formBase64
	case e.SpecVersion() == version03 && e.Text(AttrDataEncoding) != "":
		// Only binary mode leaves that attribute in place, over a body that is
		// base64 of something. The body is the data here: it is encoded once
		// more, and the reader gets back what came.
		return formBase64
	case has && contentType.Text != "" && !isJSON(contentType.Text):
		if utf8.Valid(data) {
			return formText
		}
		return formBase64
	case flags&flagJSONData != 0 || jsonValue(data):
		return formJSON
	}
	return formBase64
}

// jsonValue reports whether data can stand in JSON as it is and be cut out of
// it again unchanged, by this package's Decoder too.
func jsonValue(data []byte) bool {
	if len(data) == 0 || space(data[0]) || space(data[len(data)-1]) {
		return false // white space around a value is not part of it
	}
	return jsonDepth(data) < DefaultMaxDepth && utf8.Valid(data) && json.Valid(data)
}

// AppendJSON appends the event in the JSON format, with the overlay applied
// (nil for none). Integers and booleans that came as such stay such, and data
// that is a JSON value goes in byte for byte. The error is about the overlay.
func (e Event) AppendJSON(dst []byte, o *Overlay) ([]byte, error) {
	if err := o.check(); err != nil {
		return dst, err
	}
	form, is03 := e.form(), e.SpecVersion() == version03
	first := true
	member := func(name string) {
		if first {
			dst = append(dst, '{')
		} else {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, name), ':')
	}
	for name, v := range e.Attributes() {
		if o.covers(name) || is03 && name == AttrDataEncoding {
			continue
		}
		member(name)
		dst = appendValue(dst, v)
	}
	for _, a := range o.set() {
		member(a.Name)
		dst = appendValue(dst, a.Value)
	}
	switch form {
	case formJSON:
		member(memberData)
		dst = append(dst, e.Data()...)
	case formText:
		member(memberData)
		dst = appendString(dst, text(e.Data()))
	case formBase64:
		if is03 {
			member(AttrDataEncoding)
			dst = append(dst, `"base64"`...)
			member(memberData)
		} else {
			member(memberBase64)
		}
		dst = append(base64.StdEncoding.AppendEncode(append(dst, '"'), e.Data()), '"')
	}
	if first {
		dst = append(dst, '{')
	}
	return append(dst, '}'), nil
}

// MarshalJSON is the event in the JSON format, for people and tools; the zero
// Event is null. encoding/json re-formats what a Marshaler returns, data
// included: AppendJSON is the way to exact bytes.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.IsZero() {
		return []byte("null"), nil
	}
	return e.AppendJSON(make([]byte, 0, e.jsonSize()), nil)
}

// jsonSize guesses the size of the JSON form, so that most fit at once.
func (e Event) jsonSize() int {
	size := e.Size() + e.Size()/8 + 64
	if e.raw[1]&flagBase64 != 0 {
		size += len(e.Data()) / 3
	}
	return size
}

// appendValue writes an attribute. A value that does not have the form its
// kind promises goes out as a string: it cannot break the JSON around it.
func appendValue(dst []byte, v Value) []byte {
	if v.Kind == Integer && integer(v.Text) || v.Kind == Boolean && boolean(v.Text) {
		return append(dst, v.Text...)
	}
	return appendString(dst, v.Text)
}

// appendString writes a JSON string. Unlike json.Marshal it leaves <, > and &
// alone and makes no copy on the way. Invalid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[done:i]...), "\ufffd"...)
				done = i + n
			}
			i += n
			continue
		}
		dst = append(dst, s[done:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
		}
		i++
		done = i
	}
	return append(append(dst, s[done:]...), '"')
}
