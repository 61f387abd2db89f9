package history

import (
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// What a subscriber that scales from zero refuses costs no attempt, for at most
// so long and no event more than that, counted anew by each process; and the
// broker tries again after at least sparedWait.
const (
	sparedFor  = 5 * time.Minute
	sparedWait = 100 * time.Millisecond
)

// maySpare reports whether an attempt need not have been counted: it was
// answered 502, 503 or 504, or not at all for all that the broker knows, by a
// subscriber that scales from zero.
func (j *judge) maySpare(t *trigger, a *attempt) bool {
	if !t.scales(a.at, j.latest(t, a)) {
		return false
	}
	if a.ended == forever || a.answer.Gone || j.deaf.touch(a.at, a.ended) {
		return true // perhaps the connection was reset
	}
	switch a.answer.Code {
	case 502, 503, 504:
		return true
	}
	return false
}

// scales reports whether the subscriber may have been one that scales from zero.
func (t *trigger) scales(from, to time.Duration) bool {
	for i := range t.settings {
		if s := &t.settings[i]; s.scales && s.from <= to && s.to >= from {
			return true
		}
	}
	return false
}

// surelyCounted is how many of the attempts the broker must have counted: those
// that its end has not cut off, less the most that it can have spared. These
// lie within sparedFor, in each process.
func (j *judge) surelyCounted(t *trigger, attempts []attempt) int {
	counted, spared, most := 0, 0, 0
	var may []time.Duration // when it knew of those it may have spared at the latest, in this process
	for i := range attempts {
		a := &attempts[i]
		if i > 0 {
			if end := j.endAfter(attempts[i-1].at); end != nil && end.at <= a.at {
				spared, most, may = spared+most, 0, may[:0]
			}
		}
		if j.endOf(a.at, j.latest(t, a)) != nil {
			continue
		}
		if counted++; !j.maySpare(t, a) {
			continue
		}
		may = append(may, j.latest(t, a))
		soonest, within := min(a.ended, j.latest(t, a)), 0
		for _, at := range may {
			if soonest-at < sparedFor {
				within++
			}
		}
		most = max(most, within)
	}
	return counted - spared - most
}

// leastSparedWait is the least between a spared attempt and the next: what the
// subscriber asked for holds here too.
func (b *bounds) leastSparedWait(a Answer) time.Duration {
	least := forever
	for _, p := range b.policies {
		p.Delay, p.Backoff = sparedWait, deliver.Linear
		least = min(least, leastWait(p, 1, a))
	}
	return least
}
