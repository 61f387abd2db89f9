package deliver

import (
	"errors"
	"net/http"
	"time"
)

// Backoff is the shape of the waits between attempts.
type Backoff uint8

const (
	Exponential Backoff = iota // d, 2d, 4d, ...
	Linear                     // d, 2d, 3d, ...
)

// String is the name that a DeliverySpec uses.
func (b Backoff) String() string {
	if b == Linear {
		return "linear"
	}
	return "exponential"
}

const (
	// DefaultBackoffMax caps waits where the policy names no cap.
	DefaultBackoffMax = 10 * time.Minute

	// DefaultTimeout is the time one attempt may take where nobody says otherwise.
	DefaultTimeout = 5 * time.Minute

	// IgnoreRetryAfter as RetryAfterMax means that Retry-After is not looked at,
	// which is what a DeliverySpec asks for with retryAfterMax: PT0S.
	IgnoreRetryAfter time.Duration = -1

	// Without a delay of its own a policy starts here and stops growing there:
	// a retry is never a hot loop.
	unsetDelay    = 50 * time.Millisecond
	unsetDelayMax = time.Second

	jitterShare = 0.2
)

// Policy says whether and when a failed attempt is made again. It is a value:
// any number of goroutines may use it, and two can be compared with ==.
//
// Knative specification, control plane, DeliverySpec, with two differences. A
// linear policy grows, since the classes in use grow it; the spec repeats the
// same delay. Waits have jitter and a cap; the spec is silent on both.
type Policy struct {
	// Retry is how often an event is sent again after the first attempt: there
	// are Retry+1 attempts in all.
	Retry int

	// Backoff shapes the waits that Delay begins. Delay 0 stands for none
	// given: waits then begin at 50 ms and double up to 1 s, whatever Backoff is.
	Backoff Backoff
	Delay   time.Duration

	// BackoffMax caps every wait, jitter included; 0 is DefaultBackoffMax.
	BackoffMax time.Duration

	// RetryAfterMax caps what the subscriber may ask for with Retry-After on a
	// 429 or 503; 0 is BackoffMax, IgnoreRetryAfter is not at all. (Knative looks at
	// Retry-After only where retryAfterMax is set, and means to look always;
	// this is the later rule.)
	RetryAfterMax time.Duration

	// Schedule, where it is not empty, takes the place of Retry, Backoff, Delay
	// and BackoffMax: the n-th failed attempt waits its n-th wait, and there is
	// one attempt more than there are waits. Jitter adds as ever; what Retry-After
	// may ask for still falls back to BackoffMax.
	Schedule Schedule

	// Timeout bounds one attempt, from the dial to the last byte of the answer;
	// 0 is DefaultTimeout. It is here because a DeliverySpec has it; Next does
	// not use it.
	Timeout time.Duration
}

// Next decides about an event whose last attempt failed with err: again after
// wait, or no more. attempts counts those made so far, that one included;
// jitter is a random number in [0, 1). Next is a pure function.
//
// An err that holds no *Error, such as a reply that could not be stored, is
// retriable: the delivery as a whole has failed (Knative specification,
// control plane, Event Routing).
func (p Policy) Next(attempts int, err error, jitter float64) (wait time.Duration, again bool) {
	if attempts > p.Retries() || !Retriable(err) {
		return 0, false
	}
	wait = p.backoff(attempts, jitter)
	if asked, ok := p.Asked(err); ok && asked > wait {
		wait = asked
	}
	return wait, true
}

// backoff is the wait after so many attempts.
func (p Policy) backoff(attempts int, jitter float64) time.Duration {
	if n := p.Schedule.Len(); n > 0 {
		return p.Schedule.wait(min(max(attempts, 1), n), jitter)
	}
	limit := p.limit()
	delay, shape := p.Delay, p.Backoff
	if delay <= 0 {
		delay, shape, limit = unsetDelay, Exponential, min(limit, unsetDelayMax)
	}
	attempts = max(attempts, 1)

	wait := limit
	if shape == Linear {
		if delay <= limit/time.Duration(attempts) {
			wait = delay * time.Duration(attempts)
		}
	} else if doubled := attempts - 1; doubled < 63 && delay <= limit>>doubled {
		wait = delay << doubled
	}
	// wait is at most limit, and limit may be close to the largest Duration.
	if more := time.Duration(float64(wait) * jitterShare * jitter); more < limit-wait {
		return wait + more
	}
	return limit
}

// Asked is the wait that the subscriber asked for, as far as the policy grants it.
func (p Policy) Asked(err error) (time.Duration, bool) {
	var e *Error
	if p.RetryAfterMax < 0 || !errors.As(err, &e) {
		return 0, false
	}
	if e.Status != http.StatusTooManyRequests && e.Status != http.StatusServiceUnavailable {
		return 0, false
	}
	limit := p.RetryAfterMax
	if limit == 0 {
		limit = p.limit()
	}
	return min(e.RetryAfter, limit), true
}

func (p Policy) limit() time.Duration {
	if p.BackoffMax > 0 {
		return p.BackoffMax
	}
	return DefaultBackoffMax
}

// Retriable reports whether a failure may pass by itself (Knative
// specification, data plane, the table of response codes). 404 and 409 are
// among them because a subscriber that is just starting answers so. A
// destination that cannot be used may be corrected before the next attempt; an
// event that cannot be written stays so.
func Retriable(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Class != ClassStatus {
		return e == nil || e.Class != ClassEvent
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests:
		return true
	}
	return e.Status >= 500
}

// LongestWait is the most that Next can answer, whatever it is asked.
func (p Policy) LongestWait() time.Duration {
	return max(p.limit(), p.RetryAfterMax, p.Schedule.longest())
}
