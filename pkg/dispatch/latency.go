package dispatch

import "time"

const (
	// latencyEpoch is over how long answers are averaged, latencyAnswers how many
	// there must be: a machine that stutters has forgotten it by then.
	latencyEpoch   = 10 * time.Second
	latencyAnswers = 64

	// An epoch is late if its average is lateFactor times the floor and lateLeast
	// above it, and the window was full in it; lateEpochs of them in a row narrow the window.
	lateFactor = 8
	lateLeast  = time.Second
	lateEpochs = 3

	// lateShare is the part of its concurrency that no latency takes from a lane:
	// that it answers late is a guess about a subscriber, not its word.
	lateShare = 4

	// floorDrift is how much of itself the floor rises with each epoch that is
	// above it: eight times in some ten minutes. What a subscriber always takes
	// is what it takes.
	floorDrift = 32
)

// latency compares how long good answers take with how long they used to. It
// is a value without clock or lock, as pace is.
type latency struct {
	begun time.Time // of the epoch
	n     int
	sum   time.Duration
	full  uint64 // pace.full when it began

	floor  time.Duration // 0: not known yet
	late   int           // epochs in a row
	mean   time.Duration // of the last epoch
	before time.Duration // the mean that narrowed the window, until it is known what that did
	settle bool          // the epoch has attempts from before the window was narrowed
}

type trend uint8

const (
	level  trend = iota
	rising       // the window is to be narrowed
	inVain       // it was, and answers come as late as before: that is not why
)

// restart forgets the epoch under way.
func (l *latency) restart() { l.begun, l.n, l.sum, l.late, l.before = time.Time{}, 0, 0, 0, 0 }

// narrowed is told that the window was.
func (l *latency) narrowed() { l.before, l.settle, l.late = l.mean, true, 0 }

// take adds an answer. full is the last attempt that filled the window.
func (l *latency) take(took time.Duration, full uint64, now time.Time) trend {
	if l.begun.IsZero() {
		l.begun, l.n, l.sum, l.full = now, 0, 0, full
	}
	l.n++
	l.sum += took
	if l.n < latencyAnswers || now.Sub(l.begun) < latencyEpoch {
		return level
	}
	filled := full != l.full
	l.mean = l.sum / time.Duration(l.n)
	l.begun, l.n, l.sum, l.full = now, 0, 0, full
	if l.settle {
		l.settle = false
		return level
	}
	if before := l.before; before > 0 {
		l.before = 0
		if l.mean > before/4*3 {
			l.floor, l.late = l.mean, 0
			return inVain
		}
	}
	switch {
	case l.floor == 0 || l.mean <= l.floor:
		l.floor, l.late = l.mean, 0
		return level
	case !filled || l.mean < lateFactor*l.floor || l.mean < l.floor+lateLeast:
		l.late = 0
	default:
		l.late++
	}
	l.floor += l.floor / floorDrift
	if l.late < lateEpochs {
		return level
	}
	return rising
}
