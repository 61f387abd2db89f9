package history

import (
	"math"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// This file says what the delivery contract is, once more and independently of
// pkg/deliver: two that agree are worth more than one.

// good reports whether a status takes the event.
func good(a Answer) bool { return a.Code/100 == 2 && !a.Failed }

// retriable reports whether a failed attempt is to be made again (Knative
// specification, data plane, the table of response codes). A 2xx that is no
// delivery, and no answer at all, are.
func retriable(code int) bool {
	switch code {
	case 404, 408, 409, 429:
		return true
	}
	return code >= 500 || code/100 == 2 || code == 0
}

// leastWait is the least that may lie between the failure of the n-th attempt
// and the next: jitter only adds. Without a delay of its own a policy waits
// 50 ms, 100 ms, ... up to a second.
func leastWait(p deliver.Policy, n int, a Answer) time.Duration {
	limit := p.BackoffMax
	if limit <= 0 {
		limit = 10 * time.Minute
	}
	wait := math.MaxFloat64
	switch d := float64(p.Delay); {
	case d <= 0:
		wait = math.Min(float64(50*time.Millisecond)*math.Pow(2, float64(n-1)), float64(time.Second))
	case p.Backoff == deliver.Linear:
		wait = d * float64(n)
	default:
		wait = d * math.Pow(2, float64(n-1))
	}
	least := time.Duration(math.Min(wait, float64(limit)))
	if (a.Code == 429 || a.Code == 503) && p.RetryAfterMax >= 0 {
		most := p.RetryAfterMax
		if most == 0 {
			most = limit
		}
		least = max(least, min(a.RetryAfter, most))
	}
	return least
}

// jittered is the most that a wait becomes by jitter.
func jittered(wait time.Duration) time.Duration { return wait + wait/5 }

// timeout is how long an attempt of this policy may take.
func timeout(p deliver.Policy) time.Duration {
	if p.Timeout > 0 {
		return p.Timeout
	}
	return 5 * time.Minute
}

// bounds are the limits of all policies that may have been in force.
type bounds struct {
	leastRetry, mostRetry     int
	leastTimeout, mostTimeout time.Duration
	policies                  []deliver.Policy
}

func (t *trigger) bounds(from, to time.Duration) bounds {
	b := bounds{leastRetry: math.MaxInt, leastTimeout: forever, policies: t.policies(from, to)}
	for _, p := range b.policies {
		b.leastRetry, b.mostRetry = min(b.leastRetry, p.Retry), max(b.mostRetry, p.Retry)
		b.leastTimeout, b.mostTimeout = min(b.leastTimeout, timeout(p)), max(b.mostTimeout, timeout(p))
	}
	return b
}

// leastWait is that of the policy which waits least.
func (b *bounds) leastWait(n int, a Answer) time.Duration {
	least := forever
	for _, p := range b.policies {
		least = min(least, leastWait(p, n, a))
	}
	return least
}
