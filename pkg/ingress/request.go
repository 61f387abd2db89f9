package ingress

import (
	"io"
	"strconv"
	"time"
	"unsafe"

	"github.com/penstock-events/penstock/pkg/event"
)

// request is one HTTP request as a front end hands it to the Handler: conn, or
// net/http. All of it is good until the Handler returns.
type request struct {
	method string
	path   string        // escaped, without the query
	fields []event.Field // names in lower case
	length int64         // of the body; -1 where only its end will tell
	body   source

	events [1]event.Event // memory for what nearly all requests hold
}

// source is a request's body as it comes.
type source interface {
	// Whole is the body where all of it is here already; false where it must
	// be read.
	Whole() ([]byte, bool)

	io.Reader

	// Extend gives the sender so much time for what it has not sent, and the
	// answer so much from now on.
	Extend(body, answer time.Duration)
}

// get is the value of the first header of that name, "" where there is none.
func (q *request) get(name string) string {
	for i := range q.fields {
		if q.fields[i].Name == name {
			return q.fields[i].Value
		}
	}
	return ""
}

// reply is the Handler's answer, which a front end writes.
type reply struct {
	code   int
	close  bool          // the connection ends
	fields []event.Field // names as they are sent
	reason string        // the body, without its newline; "" for none
	text   []byte        // memory of values
}

func (a *reply) reset() {
	clear(a.fields)
	*a = reply{fields: a.fields[:0], text: a.text[:0]}
}

func (a *reply) set(name, value string) {
	a.fields = append(a.fields, event.Field{Name: name, Value: value})
}

func (a *reply) setInt(name string, n uint64) {
	from := len(a.text)
	a.text = strconv.AppendUint(a.text, n, 10)
	a.set(name, asString(a.text[from:]))
}

// asString views bytes that nobody changes while the string is in use.
func asString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
