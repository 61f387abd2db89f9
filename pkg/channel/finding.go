package channel

import (
	"fmt"
	"strconv"
)

// Severity says how much a Finding matters.
type Severity int

// The severities, the least first.
const (
	OK      Severity = iota // as it should be
	Note                    // worth knowing, nothing to do
	Warning                 // nothing is lost yet; somebody should look
	Problem                 // events are lost, refused or not delivered
)

func (s Severity) String() string {
	switch s {
	case OK:
		return "ok"
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Problem:
		return "problem"
	}
	return fmt.Sprintf("severity %d", int(s))
}

// Finding is one result of an examination, in words for the person who has to
// act on it.
type Finding struct {
	Severity Severity
	Subject  string // what was looked at: "segment 3", "free space"
	What     string // one line, with the file and the offset where it has one
	Means    string // what it means for events; "" where it means nothing
	Cure     string // what to do; "" where nothing need be done
}

// Worst is the highest severity among findings, OK for none.
func Worst(findings []Finding) Severity {
	worst := OK
	for _, f := range findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// Examiner is a Log that can say how it is while it runs. Examine reads no
// events, and may be called by any number of goroutines.
type Examiner interface {
	Examine() []Finding
}

// Count is a number of things in words: 1 event, 2 events.
func Count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Amount is a number of bytes in words: 512 bytes, 1.5 KiB.
func Amount(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 40, "TiB"}, {1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return strconv.FormatFloat(float64(n)/float64(unit.size), 'f', 1, 64) + " " + unit.name
		}
	}
	return Count(n, "byte")
}
