package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Keys of every log line that concerns a delivery. Messages are constant;
// what differs is a value under one of these or under a key of its own.
const (
	KeyBroker  = "broker"  // namespace/name
	KeyTrigger = "trigger" // namespace/name
	KeyID      = "id"      // the event's id inside Penstock, SHARD-POSITION
	KeyAttempt = "attempt" // number, from 1
	KeyError   = "err"
)

// Stack is a goroutine's stack: text of our own, which is logged whole.
type Stack string

// MaxLogValue bounds each text in a log line, in bytes.
const MaxLogValue = 256

// NewLogHandler returns a handler that writes one line per record to w, as
// "json" or as "text". Texts come from senders and subscribers too: each is
// cut at MaxLogValue bytes, and control characters and others that could
// steer a terminal are either escaped by the format or replaced by U+FFFD.
func NewLogHandler(w io.Writer, format string, level slog.Leveler) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: tame}
	switch format {
	case "json":
		return slog.NewJSONHandler(w, o), nil
	case "text":
		return slog.NewTextHandler(w, o), nil
	}
	return nil, fmt.Errorf("log format %q: want json or text", format)
}

// tame bounds a value. Numbers, times and the like are what they are; every
// other value is logged as the text it prints as, errors and Stringers
// included, since their text may quote a peer.
func tame(groups []string, a slog.Attr) slog.Attr {
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Clean(a.Value.String()))
	case slog.KindAny:
		if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.SourceKey) {
			return a
		}
		if stack, ok := a.Value.Any().(Stack); ok {
			a.Value = slog.StringValue(string(stack))
			return a
		}
		a.Value = slog.StringValue(Clean(fmt.Sprint(a.Value.Any())))
	}
	return a
}

// Clean makes a text from outside fit for a log line or a one-line answer: at
// most MaxLogValue bytes, valid UTF-8, nothing in it that ends the line or
// steers a terminal.
func Clean(s string) string {
	if len(s) <= MaxLogValue && strings.IndexFunc(s, steers) < 0 && utf8.ValidString(s) {
		return s
	}
	const ellipsis = "…"
	var b strings.Builder
	for _, r := range s { // bytes that are no UTF-8 come out as U+FFFD
		switch {
		case r == '\n' || r == '\t':
			r = ' '
		case steers(r):
			r = unicode.ReplacementChar
		}
		if b.Len()+utf8.RuneLen(r) > MaxLogValue-len(ellipsis) {
			b.WriteString(ellipsis)
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

// steers reports whether a character may end a line, move a cursor or turn
// the direction of writing.
func steers(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r)
}
