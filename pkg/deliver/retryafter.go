package deliver

import (
	"net/http"
	"strconv"
	"time"
)

// maxRetryAfter bounds what a header can say, so that sums of times stay sane
// whatever policy they meet.
const maxRetryAfter = 365 * 24 * time.Hour

// RetryAfter reads the value of a Retry-After header: whole seconds or an HTTP
// date (RFC 9110, 10.2.3). What is neither, or in the past, is 0,
// and nothing is more than a year.
func RetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if value[0] >= '0' && value[0] <= '9' {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			if allDigits(value) {
				return maxRetryAfter
			}
			return 0
		}
		if seconds > uint64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
