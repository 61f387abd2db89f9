package deliver

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestAScheduleTakesThePlaceOfRetriesAndBackoff(t *testing.T) {
	p := Policy{Retry: 10, Delay: time.Hour, BackoffMax: 5 * sec, Schedule: NewSchedule(1*sec, 10*sec, time.Minute)}
	if got, want := waits(p, status(503), 0, 10), []time.Duration{1 * sec, 10 * sec, time.Minute}; !slices.Equal(got, want) {
		t.Errorf("waits %v, want %v", got, want)
	}
	if got, want := waits(p, status(503), 0.5, 10), []time.Duration{1100 * ms, 11 * sec, 66 * sec}; !slices.Equal(got, want) {
		t.Errorf("waits with jitter %v, want %v", got, want)
	}
	asks := &Error{Class: ClassStatus, Status: 429, RetryAfter: time.Hour}
	if wait, again := p.Next(1, asks, 0); !again || wait != 5*sec {
		t.Errorf("with Retry-After %v, %v; want backoff-max", wait, again)
	}
	if _, again := p.Next(1, status(400), 0); again {
		t.Error("a 400 is sent again")
	}
	if p.LongestWait() != 72*sec {
		t.Errorf("longest wait %v, want a minute and its jitter", p.LongestWait())
	}
	if p != (Policy{Retry: 10, Delay: time.Hour, BackoffMax: 5 * sec, Schedule: NewSchedule(1*sec, 10*sec, time.Minute)}) {
		t.Error("two equal policies are not equal")
	}
	forever := Policy{Schedule: NewSchedule(math.MaxInt64)}
	if wait, _ := forever.Next(1, errors.New("full"), 0.9); wait != math.MaxInt64 {
		t.Errorf("the longest wait with jitter is %v", wait)
	}
}

func TestTotalWaitIsTheSumOfAllWaits(t *testing.T) {
	for _, p := range []Policy{
		{}, {Retry: 1}, {Retry: 12}, {Retry: 400, Backoff: Linear, Delay: sec}, {Retry: 30, Delay: 200 * ms},
		{Retry: 1000, Delay: 3 * sec, BackoffMax: 7 * sec}, {Retry: 7, Schedule: NewSchedule(sec, sec, time.Hour)},
	} {
		var want time.Duration
		for _, wait := range waits(p, errors.New("refused"), 0, math.MaxInt) {
			want += wait
		}
		if got := p.TotalWait(); got != want {
			t.Errorf("%+v: total %v, want %v", p, got, want)
		}
	}
	if got := (Policy{Retry: math.MaxInt, Delay: time.Hour}).TotalWait(); got != math.MaxInt64 {
		t.Errorf("without end: %v", got)
	}
}
