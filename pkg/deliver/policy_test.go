package deliver

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

const (
	ms  = time.Millisecond
	sec = time.Second
)

func status(code int) *Error { return &Error{Class: ClassStatus, Status: code} }

// waits lists the waits of a policy until it gives up or has given n of them.
func waits(p Policy, err error, jitter float64, n int) []time.Duration {
	var all []time.Duration
	for attempts := 1; len(all) < n; attempts++ {
		wait, again := p.Next(attempts, err, jitter)
		if !again {
			break
		}
		all = append(all, wait)
	}
	return all
}

func TestWaitsGrowAsThePolicySays(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		jitter float64
		want   []time.Duration
	}{
		{"linear", Policy{Retry: 4, Backoff: Linear, Delay: sec}, 0, []time.Duration{1 * sec, 2 * sec, 3 * sec, 4 * sec}},
		{"exponential", Policy{Retry: 5, Backoff: Exponential, Delay: 2 * sec}, 0, []time.Duration{2 * sec, 4 * sec, 8 * sec, 16 * sec, 32 * sec}},
		{"Knative's shipped defaults", Policy{Retry: 10, Backoff: Exponential, Delay: 200 * ms}, 0,
			[]time.Duration{200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 12800 * ms, 25600 * ms, 51200 * ms, 102400 * ms}},
		{"half the jitter is 10 % more", Policy{Retry: 3, Backoff: Linear, Delay: 10 * sec}, 0.5, []time.Duration{11 * sec, 22 * sec, 33 * sec}},
		{"capped", Policy{Retry: 4, Delay: sec, BackoffMax: 3 * sec}, 0, []time.Duration{1 * sec, 2 * sec, 3 * sec, 3 * sec}},
		{"capped with its jitter", Policy{Retry: 3, Delay: sec, BackoffMax: 2100 * ms}, 0.5, []time.Duration{1100 * ms, 2100 * ms, 2100 * ms}},
		{"capped linear", Policy{Retry: 3, Backoff: Linear, Delay: 2 * sec, BackoffMax: 5 * sec}, 0, []time.Duration{2 * sec, 4 * sec, 5 * sec}},
		{"a delay above the cap", Policy{Retry: 2, Delay: time.Hour}, 0, []time.Duration{10 * time.Minute, 10 * time.Minute}},
		{"no delay is no hot loop", Policy{Retry: 7}, 0, []time.Duration{50 * ms, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1 * sec, 1 * sec}},
		{"no delay, linear", Policy{Retry: 2, Backoff: Linear}, 0, []time.Duration{50 * ms, 100 * ms}},
		{"no delay under a small cap", Policy{Retry: 3, BackoffMax: 80 * ms}, 0, []time.Duration{50 * ms, 80 * ms, 80 * ms}},
		{"no retries", Policy{Delay: sec}, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := waits(c.policy, status(503), c.jitter, 100); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestWaitsNeverOverflow(t *testing.T) {
	for _, p := range []Policy{
		{Retry: math.MaxInt, Backoff: Exponential, Delay: 1},
		{Retry: math.MaxInt, Backoff: Linear, Delay: time.Hour},
		{Retry: math.MaxInt, Backoff: Exponential, Delay: math.MaxInt64, BackoffMax: math.MaxInt64},
		{Retry: math.MaxInt, Backoff: Linear, Delay: math.MaxInt64 / 3, BackoffMax: math.MaxInt64},
		{Retry: math.MaxInt},
	} {
		limit := p.BackoffMax
		if limit == 0 {
			limit = DefaultBackoffMax
		}
		last := time.Duration(0)
		for _, attempts := range []int{-1, 0, 1, 2, 3, 10, 31, 62, 63, 64, 65, 1 << 20, math.MaxInt - 1} {
			for _, jitter := range []float64{0, 0.999999} {
				wait, again := p.Next(attempts, status(500), jitter)
				if !again || wait <= 0 || wait > limit {
					t.Errorf("%+v after %d attempts: %v, %v", p, attempts, wait, again)
				}
				if jitter == 0 {
					if wait < last {
						t.Errorf("%+v: %v after %v", p, wait, last)
					}
					last = wait
				}
			}
		}
	}
}

func TestRetryCountsTheAttemptsAfterTheFirst(t *testing.T) {
	p := Policy{Retry: 2, Delay: sec}
	for attempts, want := range map[int]bool{1: true, 2: true, 3: false, 4: false} {
		if _, again := p.Next(attempts, status(500), 0); again != want {
			t.Errorf("after %d attempts: again is %v", attempts, again)
		}
	}
}

func TestWhatIsRetried(t *testing.T) {
	retried := map[int]bool{404: true, 408: true, 409: true, 429: true}
	for code := 100; code <= 999; code++ {
		if code/100 == 2 {
			continue
		}
		_, again := Policy{Retry: 1}.Next(1, status(code), 0)
		if want := retried[code] || code >= 500; again != want {
			t.Errorf("status %d: again is %v, want %v", code, again, want)
		}
	}
	for class := ClassTarget; class <= ClassCancelled; class++ {
		// A bad reply carries the good status that it came with.
		err := fmt.Errorf("lane: %w", &Error{Class: class, Status: 200})
		if _, again := (Policy{Retry: 1}).Next(1, err, 0); again != (class != ClassEvent) {
			t.Errorf("class %v: again is %v", class, again)
		}
	}
	if _, again := (Policy{Retry: 1}).Next(1, errors.New("append the reply: channel is full"), 0); !again {
		t.Error("a reply that could not be stored is not retried")
	}
}

func TestRetryAfterLengthensAWaitWithinItsCap(t *testing.T) {
	asks := func(code int, after time.Duration) error {
		return fmt.Errorf("lane: %w", &Error{Class: ClassStatus, Status: code, RetryAfter: after})
	}
	base := Policy{Retry: 5, Backoff: Linear, Delay: 2 * sec}
	with := func(f func(*Policy)) Policy { p := base; f(&p); return p }
	for _, c := range []struct {
		name   string
		policy Policy
		err    error
		want   time.Duration
	}{
		{"longer than the backoff", base, asks(503, 30*sec), 30 * sec},
		{"on 429 too", base, asks(429, 30*sec), 30 * sec},
		{"shorter than the backoff", base, asks(503, sec), 2 * sec},
		{"not on other codes", base, asks(500, 30*sec), 2 * sec},
		{"capped by retryAfterMax", with(func(p *Policy) { p.RetryAfterMax = 10 * sec }), asks(503, 30*sec), 10 * sec},
		{"a cap below the backoff", with(func(p *Policy) { p.RetryAfterMax = sec }), asks(503, 30*sec), 2 * sec},
		{"without a cap of its own, by the backoff's", with(func(p *Policy) { p.BackoffMax = 20 * sec }), asks(503, time.Hour), 20 * sec},
		{"by the default", base, asks(503, time.Hour), 10 * time.Minute},
		{"above the backoff's cap if so configured", with(func(p *Policy) { p.RetryAfterMax = 2 * time.Hour }), asks(503, time.Hour), time.Hour},
		{"ignored", with(func(p *Policy) { p.RetryAfterMax = IgnoreRetryAfter }), asks(503, 30*sec), 2 * sec},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, again := c.policy.Next(1, c.err, 0); got != c.want || !again || got > c.policy.LongestWait() {
				t.Errorf("got %v, %v, want %v", got, again, c.want)
			}
		})
	}
}

func TestBackoffNamesAreTheSpecs(t *testing.T) {
	if Linear.String() != "linear" || Exponential.String() != "exponential" {
		t.Error(Linear, Exponential)
	}
}

func FuzzNext(f *testing.F) {
	f.Add(10, uint8(0), int64(200*ms), int64(0), int64(0), 3, 503, int64(0), 0.5)
	f.Add(math.MaxInt, uint8(1), int64(math.MaxInt64), int64(math.MaxInt64), int64(math.MaxInt64), 64, 429, int64(math.MaxInt64), 0.99)
	f.Fuzz(func(t *testing.T, retry int, shape uint8, delay, backoffMax, retryAfterMax int64, attempts, code int, after int64, jitter float64) {
		if !(jitter >= 0 && jitter < 1) || after < 0 {
			t.Skip("outside the contract")
		}
		p := Policy{Retry: retry, Backoff: Backoff(shape), Delay: time.Duration(delay), BackoffMax: time.Duration(backoffMax), RetryAfterMax: time.Duration(retryAfterMax)}
		wait, again := p.Next(attempts, &Error{Class: ClassStatus, Status: code, RetryAfter: time.Duration(after)}, jitter)
		if again && (wait <= 0 || attempts > retry || wait > p.LongestWait()) || !again && wait != 0 {
			t.Errorf("%+v after %d attempts: %v, %v", p, attempts, wait, again)
		}
	})
}
