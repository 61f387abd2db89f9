package event

import (
	"encoding/binary"
	"fmt"
	"strings"
	"unsafe"
)

// AppendHTTP appends the header lines of the event in Binary or Structured
// mode, each with its CRLF: those that WriteHTTP sets, for who writes a request
// as bytes. The body is Data in Binary and AppendJSON's in Structured. It
// allocates nothing where dst has the room.
//
// The lines are safe to send whatever the record holds. A Decoder validates;
// Builder and Parse, and so the hop between two programs, check lengths only.
// Names, and the values that are not encoded, are therefore looked at here: one
// that would end its line is an error. A header that decides where a request begins, ends and goes,
// or who sent it, is never an event's to set and is left out.
//
// Other errors are about the mode and the overlay. dst comes back with any.
func (e Event) AppendHTTP(dst []byte, mode Mode, o *Overlay) ([]byte, error) {
	contentType := ""
	switch mode {
	case Binary:
	case Structured:
		contentType = ContentTypeJSON
	default:
		return dst, fmt.Errorf("write event: one event has no %s mode", mode)
	}
	if err := o.check(); err != nil {
		return dst, err
	}
	b, at := dst, headerSize
	for range e.entries() {
		kind, name, value := e.entry(at)
		at += entrySize + len(name) + len(value)
		switch {
		case kind == header:
			if framing(name) {
				continue
			}
			if name == "" || !sendable(name, value) {
				return dst, unsendable(name)
			}
			b = append(append(b, name...), ": "...)
			b = append(append(b, value...), "\r\n"...)
		case mode == Structured:
		case name == AttrDataContentType:
			contentType = value
		case !o.covers(name):
			if !sendable(name, "") {
				return dst, unsendable(name)
			}
			b = appendAttribute(b, name, value)
		}
	}
	if mode == Binary {
		for i := range o.set() {
			b = appendAttribute(b, o.Set[i].Name, o.Set[i].Text)
		}
		if contentType == "" && e.raw[1]&flagJSONData != 0 {
			contentType = "application/json" // as WriteHTTP
		}
	}
	if contentType != "" {
		if !sendable("", contentType) {
			return dst, unsendable(AttrDataContentType)
		}
		b = append(append(b, "Content-Type: "...), contentType...)
		b = append(b, "\r\n"...)
	}
	return b, nil
}

// appendAttribute appends the line of headerOf and encodeHeader, without
// making strings of them.
func appendAttribute(b []byte, name, value string) []byte {
	b = append(b, cePrefix...)
	first := len(b)
	b = append(b, name...)
	if first < len(b) && 'a' <= b[first] && b[first] <= 'z' {
		b[first] -= 'a' - 'A'
	}
	b = append(b, ": "...)
	n := plain(value)
	b = append(b, value[:n]...)
	for _, c := range []byte(value[n:]) {
		if escaped(c) {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, "\r\n"...)
}

// plain is how many bytes at the beginning of a value are not escaped in a
// header, found eight at a time.
func plain(v string) int {
	b, i := unsafe.Slice(unsafe.StringData(v), len(v)), 0
	for ; i+8 <= len(b) && !escapedAmong(binary.LittleEndian.Uint64(b[i:])); i += 8 {
	}
	// What is left are less than eight, unless one was found: look at them
	// together with some of those before.
	if i > 0 && i+8 > len(b) && !escapedAmong(binary.LittleEndian.Uint64(b[len(b)-8:])) {
		return len(b)
	}
	for ; i < len(b) && !escaped(b[i]); i++ {
	}
	return i
}

// escapedAmong reports whether any of eight bytes is escaped. Each of the
// terms sets the high bit of a byte that is 0x7f or more, below 0x21, a quote or a
// percent sign. A borrow or carry crosses over only from such a byte.
func escapedAmong(w uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, percent := w^'"'*ones, w^'%'*ones
	return (w|(w+ones)|(w-0x21*ones)&^w|(quote-ones)&^quote|(percent-ones)&^percent)&high != 0
}

// sendable reports whether a name consists of what headerName accepts and a
// value of what headerValue accepts.
func sendable(name, value string) bool {
	for i := range len(name) {
		if !nameByte[name[i]] {
			return false
		}
	}
	return plain(value) == len(value) || headerValue(value)
}

// nameByte are the bytes of header names. It never changes.
var nameByte = func() (t [256]bool) {
	for c := range t {
		t[c] = headerName(string([]byte{byte(c)}))
	}
	return t
}()

func unsendable(name string) error { return fmt.Errorf("header %s cannot be sent", quote(name)) }

// framing names the headers that are never an event's to set, whatever it
// carries: those that decide where a request begins, ends and goes, those that
// say who sent it, and those that its attributes become.
func framing(name string) bool {
	switch name {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Te", "Trailer",
		"Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Authorization", "Cookie",
		"User-Agent", "Prefer", "Kn-Namespace", "Content-Type":
		return true
	}
	return strings.HasPrefix(name, cePrefix)
}
