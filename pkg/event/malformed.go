package event

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrFormat is what a *Malformed wraps when the message is an event in a
// format other than JSON, which HTTP answers with 415.
var ErrFormat = errors.New("event format is not supported")

// Malformed says why a message is not a CloudEvent, in one line for the person
// who sent it: `ce-id: missing; every CloudEvent needs one`. Text that the
// sender controls is quoted and at most 256 bytes long, so that the line can
// go into a log or onto a terminal as it is.
type Malformed struct {
	// Event and Of say which event of a batch it was, counting from 1; both are
	// 0 outside a batch.
	Event, Of int
	// Field is the header, attribute or JSON member at fault, or "body".
	Field string
	// Reason is what is wrong and, where that is not plain, how to put it right.
	Reason string

	cause error
}

// Error is the line.
func (m *Malformed) Error() string {
	if m.Of > 0 {
		return fmt.Sprintf("event %d of %d: %s: %s", m.Event, m.Of, m.Field, m.Reason)
	}
	return m.Field + ": " + m.Reason
}

// Unwrap is ErrFormat for an unknown event format, otherwise nil.
func (m *Malformed) Unwrap() error { return m.cause }

// malformed makes one. Whatever the sender controls goes through quote first,
// the field included where it is not one of our own constants.
func malformed(field, format string, args ...any) *Malformed {
	return &Malformed{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// quoteInput is how much of a hostile text is shown: quoting makes at most
// four bytes of one, and the whole must stay under 256.
const quoteInput = 60

// quote makes text from outside fit to be shown.
func quote(s string) string {
	if len(s) <= quoteInput {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:quoteInput]) + "..."
}

// shown is a name as it may stand in a message: bare if it is an ordinary
// attribute or header name, quoted otherwise.
func shown(name string) string {
	plain := func(c rune) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
	}
	if name == "" || len(name) > quoteInput || strings.ContainsFunc(name, func(c rune) bool { return !plain(c) }) {
		return quote(name)
	}
	return name
}
