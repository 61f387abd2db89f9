package config

import (
	"errors"
	"time"
)

// Start is where a new Trigger begins: annotation penstock.dev/start. The zero
// value is now: with the first event accepted after it was routed.
type Start struct {
	Earliest bool          // with all that is kept
	At       time.Time     // with what was accepted from then on; wall clock
	Back     time.Duration // with what was accepted so long before it was routed
}

// IsZero reports whether nothing that was accepted before is wanted.
func (s Start) IsZero() bool { return s == Start{} }

// parseStart reads penstock.dev/start.
func parseStart(value string) (Start, error) {
	switch value {
	case "now":
		return Start{}, nil
	case "earliest":
		return Start{Earliest: true}, nil
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return Start{At: at.UTC()}, nil
	}
	back, err := parseDuration(value)
	if err != nil {
		return Start{}, errors.New("want now, earliest, a time such as 2026-03-01T12:00:00Z, or how long ago, such as 2h or 7d")
	}
	return Start{Back: back}, nil
}
