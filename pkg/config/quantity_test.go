package config

import (
	"math"
	"testing"
	"time"
)

func TestISODurations(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"PT0S": 0, "PT0.2S": 200 * time.Millisecond, "PT5M": 5 * time.Minute, "P1D": 24 * time.Hour,
		"P1DT2H3M4S": 26*time.Hour + 3*time.Minute + 4*time.Second, "P2W": 14 * 24 * time.Hour, "PT36H": 36 * time.Hour,
	} {
		if got, err := parseISO(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "P", "PT", "P1DT", "1s", "PT1", "-PT1S", "PT1X", "P101Y", "PT99999999999999999999S", "PTS", "PT1S ", "PT1.2.3S", "NaN"} {
		if got, err := parseISO(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
}

func TestDurationsOfAnnotations(t *testing.T) {
	for s, want := range map[string]time.Duration{"0s": 0, "24h": 24 * time.Hour, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "PT24H": 24 * time.Hour} {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "d", "-1d", "-1s", "1.5d", "65535d", "2000000h", "1", "24 h"} {
		if got, err := parseDuration(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
}

func TestBytes(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "1": 1, "1024": 1024, "512Mi": 512 << 20, "1.5Gi": 3 << 29, "10G": 10e9, "2k": 2000, "7Ei": 7 << 60} {
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "Mi", "-1", "1e3", "+1", "8Ei", "1 Gi", "1gi", "1.2.3", ".", "NaN", "Inf", "0x10", "1_000"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
	if got, err := ParseBytes("9223372036854775807"); err == nil && got != math.MaxInt64 {
		t.Errorf("the largest number becomes %d", got)
	}
}

func TestRetention(t *testing.T) {
	base := retention{time.Hour, 100}
	for s, want := range map[string]retention{
		"24h": {24 * time.Hour, 100}, "1Gi": {time.Hour, 1 << 30}, "24h,1Gi": {24 * time.Hour, 1 << 30},
		"1Gi, PT24H": {24 * time.Hour, 1 << 30}, "0": {}, "0s": {0, 100}, "7d,0": {7 * 24 * time.Hour, 0}, "5m": {5 * time.Minute, 100}, "5M": {time.Hour, 5e6},
	} {
		if got, err := parseRetention(s, base); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", ",", "24h,", "24h,48h", "1Gi,2Gi", "24h,1Gi,1", "forever"} {
		if got, err := parseRetention(s, base); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
}

func TestRate(t *testing.T) {
	for s, want := range map[string]float64{"100": 100, "1000/s": 1000, "90/m": 1.5, "36/h": 0.01, "0.5/s": 0.5, "1e9": 1e9} {
		if got, err := ParseRate(s); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "/s", "0", "0/s", "-1/s", "NaN", "Inf", "1e10", "10/d", "10/S", "10/", "10 /s", "1000/1s", "5e-324/h"} {
		if got, err := ParseRate(s); err == nil {
			t.Errorf("%q is taken for %v", s, got)
		}
	}
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"24h,1Gi", "PT0.2S", "1.5Gi", "7d", "P1Y2M3DT4H5M6S", "9223372036854775807", "0", "5/m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := parseRetention(s, retention{}); err == nil && (r.age < 0 || r.age > maxDuration || r.bytes < 0) {
			t.Errorf("%q becomes %+v", s, r)
		}
		if r, err := ParseRate(s); err == nil && !(r > 0 && r <= maxRate) {
			t.Errorf("%q becomes %v", s, r)
		}
		if d, err := parseISO(s); err == nil && (d < 0 || d > maxDuration) {
			t.Errorf("%q becomes %v", s, d)
		}
	})
}

func TestSuggestions(t *testing.T) {
	known := []string{"retry", "timeout", "backoffDelay", "uri"}
	for word, want := range map[string]string{
		"retrry": "retry", "Retry": "retry", "timeOut": "timeout", "backofDelay": "backoffDelay", "url": "uri", "color": "", "": "", "x": "",
	} {
		got := Suggest(word, known)
		if want != "" {
			want = ": did you mean " + want + "?"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
}
