package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// tally is what became of the events of one send. Every event counts once.
type tally struct {
	Broker string `json:"broker,omitempty"`
	URL    string `json:"url"`

	Sent       int         `json:"sent"` // in requests that were made
	Accepted   int         `json:"accepted"`
	Refused    map[int]int `json:"refused"`    // by HTTP status; of 500 it is not known whether the event is stored
	Unanswered int         `json:"unanswered"` // no answer came: not known whether the event is stored, unless no connection came about
	Invalid    int         `json:"invalid"`    // in the input, but no events: not sent
	Retries    int         `json:"retries"`    // requests made again
	Seconds    float64     `json:"seconds"`
	Reasons    []string    `json:"reasons"` // the first few different ones
}

func (t *tally) count(events int, out outcome) {
	t.Sent += events
	t.Retries += out.retries
	switch {
	case out.err != nil:
		t.Unanswered += events
		if _, ends := errors.AsType[*noIngress](out.err); !ends { // that one is the command's own error
			t.sample("no answer: " + out.err.Error())
		}
	case out.code/100 == 2:
		t.Accepted += events
	default:
		if t.Refused == nil {
			t.Refused = make(map[int]int)
		}
		t.Refused[out.code] += events
		t.sample(strings.TrimSpace(fmt.Sprintf("%d %s", out.code, out.reason)))
	}
}

func (t *tally) sample(reason string) {
	if len(t.Reasons) < maxSamples && !slices.Contains(t.Reasons, reason) {
		t.Reasons = append(t.Reasons, reason)
	}
}

// line is the counts in one line.
func (t *tally) line() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sent %d, accepted %d", t.Sent, t.Accepted)
	for _, code := range slices.Sorted(maps.Keys(t.Refused)) {
		fmt.Fprintf(&b, ", refused with %d: %d", code, t.Refused[code])
	}
	for _, c := range []struct {
		n    int
		what string
	}{{t.Unanswered, "without answer"}, {t.Invalid, "invalid"}, {t.Retries, "retries"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %s %d", c.what, c.n)
		}
	}
	return b.String()
}

func (t *tally) print(w io.Writer, format string) error {
	if format == formatJSON {
		whole := *t
		if whole.Refused == nil {
			whole.Refused = map[int]int{}
		}
		if whole.Reasons == nil {
			whole.Reasons = []string{}
		}
		return printJSON(w, whole)
	}
	line := t.line()
	if t.Sent > 1 && t.Seconds > 0 {
		line += fmt.Sprintf(" in %.1fs (%.0f/s)", t.Seconds, float64(t.Accepted)/t.Seconds)
	}
	_, err := fmt.Fprintln(w, line)
	for _, reason := range t.Reasons {
		if err == nil {
			_, err = fmt.Fprintln(w, "  "+clean(reason))
		}
	}
	return err
}

// err is what makes the command fail: anything that was not accepted.
func (t *tally) err() error {
	if lost := t.Sent + t.Invalid - t.Accepted; lost > 0 {
		return fmt.Errorf("%d of %d events were not accepted", lost, t.Sent+t.Invalid)
	}
	return nil
}
