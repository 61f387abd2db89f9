// Package wire is what the sender and the subscriber of a benchmark agree on:
// the event's header names and how its numbers are written. Everything here is
// pure and may be called from any goroutine.
package wire

import (
	"bufio"
	"bytes"
	"fmt"
)

// Names of what the sink reads back from an event.
const (
	// HeaderID is the event's sequence number in 16 decimal digits.
	HeaderID = "Ce-Id"

	// HeaderSent is when the event was due to be sent: nanoseconds since 1970
	// in 19 decimal digits, the extension sentns.
	HeaderSent = "Ce-Sentns"
)

const (
	IDDigits   = 16
	TypeDigits = 5
	SentDigits = 19

	// MaxTypes is how many event types there can be.
	MaxTypes = 100_000

	// TypePrefix begins every event type; TypeDigits digits follow.
	TypePrefix = "bench.event."
)

// TypeName is the n-th event type.
func TypeName(n int) string { return fmt.Sprintf("%s%0*d", TypePrefix, TypeDigits, n) }

// PutNumber writes v in decimal over all of b, with leading zeros.
func PutNumber(b []byte, v uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
}

// Number reads a decimal number of at most 19 digits.
func Number(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > SentDigits {
		return 0, false
	}
	var v uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + uint64(c-'0')
	}
	return v, true
}

// Is compares a header's name without regard to case; most differ in length
// already.
func Is(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

// ReadHead waits for the head of a message, up to and with its empty line, and
// returns it in place: the reader still holds it and the caller discards it. A
// head that is longer than the reader's buffer is bufio.ErrBufferFull.
func ReadHead(reader *bufio.Reader) ([]byte, error) {
	for want := 1; ; {
		if _, err := reader.Peek(want); err != nil {
			return nil, err
		}
		have, _ := reader.Peek(reader.Buffered())
		if end := bytes.Index(have, []byte("\r\n\r\n")); end >= 0 {
			return have[:end+4], nil
		}
		want = len(have) + 1
	}
}
