package deliver

import (
	"math"
	"strconv"
	"testing"
	"time"
)

func TestRetryAfterIsSecondsOrADate(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"7":                              7 * time.Second,
		"120":                            2 * time.Minute,
		"Sun, 22 Nov 2026 12:00:30 GMT":  30 * time.Second, // the three forms of RFC 9110, 5.6.7
		"Sunday, 22-Nov-26 12:00:30 GMT": 30 * time.Second,
		"Sun Nov 22 12:00:30 2026":       30 * time.Second,
		"Sun, 22 Nov 2026 11:59:59 GMT":  0,
		"Fri, 31 Dec 9999 23:59:59 GMT":  maxRetryAfter,
		"31536001":                       maxRetryAfter,
		"18446744073709551616":           maxRetryAfter,
		"99999999999999999999999999999":  maxRetryAfter,
		"-5":                             0,
		"+5":                             0,
		"1.5":                            0,
		"5s":                             0,
		" 5":                             0,
		"soon":                           0,
	} {
		if got := RetryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "18446744073709551616", "Sun, 22 Nov 2026 12:00:30 GMT", "Sun Nov 22 12:00:30 2026", "-1", "1e9"} {
		f.Add(seed)
	}
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value string) {
		got := RetryAfter(value, now)
		if got < 0 || got > maxRetryAfter {
			t.Fatalf("%q: %v", value, got)
		}
		if n, err := strconv.ParseUint(value, 10, 63); err == nil {
			want := maxRetryAfter
			if n < uint64(maxRetryAfter/time.Second) {
				want = time.Duration(n) * time.Second
			}
			if got != want {
				t.Fatalf("%q: got %v, want %v", value, got, want)
			}
		}
	})
}

func TestAPeersKeepAliveShortensOurs(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                     time.Minute,
		"timeout=5":            4 * time.Second,
		"timeout=5, max=100":   4 * time.Second,
		"max=100,Timeout=5":    4 * time.Second,
		"timeout=1":            0,
		"timeout=0":            -time.Second,
		"timeout=3600":         time.Minute,
		"timeout=-5":           time.Minute,
		"timeout=5s":           time.Minute,
		"timeout":              time.Minute,
		"max=5":                time.Minute,
		",,,":                  time.Minute,
		"timeout=999999999999": time.Minute,
	} {
		if got := keepAlive(header, time.Minute); got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
	if got := keepAlive("timeout="+strconv.Itoa(math.MaxUint16), 100*time.Hour); got != math.MaxUint16*time.Second-time.Second {
		t.Error(got)
	}
}
