// Package http1 reads the heads of HTTP/1.1 messages, and the chunks of their
// bodies, from bytes that somebody else has received. It promises to be strict:
// where two readers of one message could disagree about where it ends or what
// it says, it is refused (RFC 9112, 11.2). Whatever it accepts net/http accepts
// too, with the same meaning; the fuzz tests search for the opposite.
//
// It does no input or output, copies nothing and, once a Request or Response
// has its slice of fields, allocates nothing. What it returns are slices of
// what it was given, good for as long as those bytes stand. Values belong to
// one goroutine.
//
// It is stricter than net/http in this: a line ends in CRLF, never in a bare
// LF; there are no folded lines; Content-Length comes once, and not beside
// Transfer-Encoding; the only transfer coding is chunked, and not in HTTP/1.0;
// a target is printable ASCII; there are no more than MaxFields fields.
package http1

import (
	"bytes"
	"net/http"
)

// MaxFields is how many header fields a message may have.
const MaxFields = 1000

// Field is one header field, its name as sent, its value without the blanks
// around it.
type Field struct{ Name, Value []byte }

// Error says why a message was refused.
type Error struct {
	Status int    // that answers it
	Reason string // a constant: nothing of the message is in it
}

func (e *Error) Error() string { return e.Reason }

func malformed(reason string) *Error { return &Error{http.StatusBadRequest, reason} }

// Made once: a hostile sender shall not make us allocate.
var (
	errLine        = malformed("a line of the head does not end in CRLF")
	errFolded      = malformed("a header is folded over several lines")
	errName        = malformed("a header has no name, or one that is no token")
	errValue       = malformed("a header holds a control character")
	errLength      = malformed("Content-Length is no number, or comes twice")
	errFraming     = malformed("Content-Length and Transfer-Encoding together")
	errOldChunks   = malformed("Transfer-Encoding in HTTP/1.0")
	errRequestLine = malformed("the first line is no request line")
	errHost        = malformed("Host is missing, malformed or comes twice")
	errStatusLine  = malformed("the first line is no status line")
	errChunk       = malformed("a chunk is malformed")
	errManyFields  = &Error{http.StatusRequestHeaderFieldsTooLarge, "too many headers"}
	errCoding      = &Error{http.StatusNotImplemented, "the only transfer coding is chunked"}
	errVersion     = &Error{http.StatusHTTPVersionNotSupported, "the versions spoken here are HTTP/1.1 and HTTP/1.0"}
	errExpectation = &Error{http.StatusExpectationFailed, "the only expectation is 100-continue"}
)

// Head looks for the end of a head: the length up to and with its empty line.
// It is 0 where that has not come yet; next is then the from of the call that
// has more bytes, so that all calls together look at each byte once. A line
// that does not end in CRLF is an error at once.
func Head(b []byte, from int) (end, next int, err error) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, from, nil
		}
		at := from + i
		if at == 0 || b[at-1] != '\r' {
			return 0, from, errLine
		}
		if i == 1 { // CRLF alone, for from is where a line begins
			return at + 1, at + 1, nil
		}
		from = at + 1
	}
}

// fields are what all heads share.
type fields struct {
	// Fields in the order of the message.
	Fields []Field

	// ContentLength as announced; -1 where it is not.
	ContentLength int64

	// Chunked: the body comes in chunks, and ends with the last.
	Chunked bool

	closes, keeps bool // Connection has close, or keep-alive
}

func (f *fields) reset() {
	f.Fields = f.Fields[:0]
	f.ContentLength, f.Chunked, f.closes, f.keeps = -1, false, false, false
}

// Get is the value of the first field of that name, nil where there is none.
// name must be in lower case.
func (f *fields) Get(name string) []byte {
	for i := range f.Fields {
		if Is(f.Fields[i].Name, name) {
			return f.Fields[i].Value
		}
	}
	return nil
}

// parse reads the lines after the first, the empty one included.
func (f *fields) parse(b []byte) error {
	for len(b) > 2 {
		end := bytes.IndexByte(b, '\n') // there is one, with a CR before it: Head has looked
		line := b[:end-1]
		b = b[end+1:]
		colon := bytes.IndexByte(line, ':')
		switch {
		case line[0] == ' ' || line[0] == '\t':
			return errFolded
		case colon <= 0 || !token(line[:colon]):
			return errName
		case len(f.Fields) == MaxFields:
			return errManyFields
		}
		value := trim(line[colon+1:])
		if !text(value) {
			return errValue
		}
		f.Fields = append(f.Fields, Field{line[:colon], value})
		if err := f.framing(line[:colon], value); err != nil {
			return err
		}
	}
	return nil
}

// framing takes note of what says where the body and the connection end.
func (f *fields) framing(name, value []byte) error {
	switch len(name) {
	case len("connection"):
		if Is(name, "connection") {
			f.closes = f.closes || has(value, "close")
			f.keeps = f.keeps || has(value, "keep-alive")
		}
	case len("content-length"):
		if Is(name, "content-length") {
			n, ok := number(value)
			if !ok || f.ContentLength >= 0 {
				return errLength
			}
			f.ContentLength = n
		}
	case len("transfer-encoding"):
		if Is(name, "transfer-encoding") {
			if f.Chunked || !Is(value, "chunked") {
				return errCoding
			}
			f.Chunked = true
		}
	}
	return nil
}

// Is reports whether b is name but for its case. name must be in lower case.
func Is(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// has reports whether a list of tokens has one (RFC 9110, 5.6.1).
func has(list []byte, token string) bool {
	for len(list) > 0 {
		one := list
		if i := bytes.IndexByte(list, ','); i >= 0 {
			one, list = list[:i], list[i+1:]
		} else {
			list = nil
		}
		if Is(trim(one), token) {
			return true
		}
	}
	return false
}

// number reads digits, as many as fit an int64.
func number(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 19 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, n >= 0 // nineteen digits may be one bit too many
}

// trim takes blanks off both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
