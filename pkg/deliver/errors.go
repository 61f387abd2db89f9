package deliver

import (
	"context"
	"errors"
	"time"
)

// Class is the kind of a failure, a small fixed set fit for a metric's label.
type Class uint8

const (
	ClassStatus    Class = iota // an answer with a status outside 200-299, redirects included
	ClassTarget                 // the destination is no URL that can be delivered to
	ClassDenied                 // the destination's address is one the Guard denies
	ClassDial                   // no connection: name not found, refused, unreachable
	ClassTLS                    // no secure connection: certificate, name, handshake
	ClassTimeout                // the time was up before the answer was complete
	ClassReset                  // the connection ended before the answer was complete
	ClassAnswer                 // what came back is not HTTP
	ClassReply                  // a 200 claims to be an event and is not, or is too large
	ClassEvent                  // the event cannot be written as HTTP; nothing was sent
	ClassCancelled              // our own caller ended the attempt: no verdict on the subscriber
)

var classNames = [...]string{
	"status", "target", "denied", "dial", "tls", "timeout", "reset", "answer", "reply", "event", "cancelled",
}

func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return "unknown"
}

// Error is an attempt that failed.
type Error struct {
	Class Class

	// Status is the answer's, 0 where there was none. A ClassReply carries 200.
	Status int

	// RetryAfter is what the answer asked for, not negative, at most a year.
	RetryAfter time.Duration

	// Body is the beginning of the answer's body, at most Options.MaxKept
	// bytes; nil where there was none. It belongs to the error.
	Body []byte

	// Err is the cause, nil where Status says all.
	Err error

	destination string // fit for people: without user, query and fragment
	reason      string
}

// Error reads as a path from our action to the cause:
//
//	deliver to http://orders.shop: status 503
//
// Of the destination it names scheme, host and path only: a query may hold a secret.
func (e *Error) Error() string { return "deliver to " + e.destination + ": " + e.Reason() }

// Reason is Error without the destination, one line: "status 404",
// "timeout after 30s".
func (e *Error) Reason() string {
	if e.reason != "" {
		return e.reason
	}
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Class.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout makes an Error fit for code that asks a net.Error.
func (e *Error) Timeout() bool { return e.Class == ClassTimeout }

// Cancelled reports whether an attempt ended because its context was
// cancelled. Such an attempt says nothing about the subscriber and should not
// be counted: the event may or may not have arrived.
func Cancelled(err error) bool {
	var e *Error
	if errors.As(err, &e) {
		return e.Class == ClassCancelled
	}
	return errors.Is(err, context.Canceled)
}
