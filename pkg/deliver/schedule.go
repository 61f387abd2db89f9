package deliver

import (
	"encoding/binary"
	"math"
	"time"
)

// MaxSchedule is how many waits a Schedule has at most.
const MaxSchedule = 100

// Schedule is a list of waits between attempts. The zero Schedule is empty. It
// is a value that can be compared, which a slice is not: Policy promises that.
type Schedule struct {
	packed string // 8 bytes a wait
}

// NewSchedule makes a Schedule of positive waits, of which it keeps the first
// MaxSchedule.
func NewSchedule(waits ...time.Duration) Schedule {
	packed := make([]byte, 0, 8*len(waits))
	for _, wait := range waits[:min(len(waits), MaxSchedule)] {
		packed = binary.BigEndian.AppendUint64(packed, uint64(max(wait, 1)))
	}
	return Schedule{string(packed)}
}

// Len is how many waits there are.
func (s Schedule) Len() int { return len(s.packed) / 8 }

// At is the n-th wait, from 0.
func (s Schedule) At(n int) (wait time.Duration) {
	for _, b := range []byte(s.packed[8*n : 8*n+8]) {
		wait = wait<<8 | time.Duration(b)
	}
	return wait
}

// wait is the n-th wait, from 1, with its jitter.
func (s Schedule) wait(n int, jitter float64) time.Duration {
	wait := s.At(n - 1)
	if more := time.Duration(float64(wait) * jitterShare * jitter); more < math.MaxInt64-wait {
		return wait + more
	}
	return math.MaxInt64
}

// longest is the most that wait answers.
func (s Schedule) longest() (longest time.Duration) {
	for n := range s.Len() {
		longest = max(longest, s.wait(n+1, 1))
	}
	return longest
}

// Retries is how often an event is sent again after the first attempt.
func (p Policy) Retries() int {
	if n := p.Schedule.Len(); n > 0 {
		return n
	}
	return p.Retry
}

// TotalWait is how long a Policy waits in all between the first attempt and the
// last, jitter and Retry-After apart; at most the largest Duration.
func (p Policy) TotalWait() (total time.Duration) {
	limit := p.limit()
	if p.Delay <= 0 {
		limit = min(limit, unsetDelayMax)
	}
	retries := p.Retries()
	for n := 1; n <= retries; n++ {
		wait := p.backoff(n, 0)
		times := 1
		if p.Schedule.Len() == 0 && wait >= limit {
			times = retries - n + 1 // it grows no more
		}
		if wait > 0 && time.Duration(times) > (math.MaxInt64-total)/wait {
			return math.MaxInt64
		}
		total += wait * time.Duration(times)
		if times > 1 {
			break
		}
	}
	return total
}
