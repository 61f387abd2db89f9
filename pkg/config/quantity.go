package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/sosodev/duration"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// maxDuration bounds what people may write: a century.
const maxDuration = 100 * 365 * 24 * time.Hour

// parseISO reads an ISO-8601 duration, the form of all durations in a
// DeliverySpec. A year is 365 days, a month a twelfth of it.
func parseISO(s string) (time.Duration, error) {
	const want = "want an ISO-8601 duration such as PT0.5S, PT30S or PT5M"
	d, err := duration.Parse(s)
	if err != nil || !strings.ContainsAny(s, "0123456789") || strings.HasSuffix(s, "T") {
		return 0, errors.New(want)
	}
	if d.Negative {
		return 0, errors.New("must not be negative")
	}
	hours := d.Years*365*24 + d.Months*30.5*24 + d.Weeks*7*24 + d.Days*24 + d.Hours + d.Minutes/60 + d.Seconds/3600
	if hours > maxDuration.Hours() {
		return 0, errors.New("must not be longer than 100 years")
	}
	return d.ToTimeDuration(), nil
}

// ParseDuration reads a duration as annotations have it: 30s, 24h, 7d, PT24H.
func ParseDuration(s string) (time.Duration, error) { return parseDuration(s) }

// parseDuration reads an annotation's duration: as Go has it, with d for
// days added, or ISO-8601.
func parseDuration(s string) (time.Duration, error) {
	if strings.HasPrefix(s, "P") || strings.HasPrefix(s, "-P") {
		return parseISO(s)
	}
	var d time.Duration
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil || n > uint64(maxDuration/(24*time.Hour)) {
			return 0, errors.New("want a duration such as 30s, 24h, 7d or PT24H")
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(s); err != nil {
			return 0, errors.New("want a duration such as 30s, 24h, 7d or PT24H")
		}
	}
	switch {
	case d < 0:
		return 0, errors.New("must not be negative")
	case d > maxDuration:
		return 0, errors.New("must not be longer than 100 years")
	}
	return d, nil
}

// units are the suffixes of a Kubernetes quantity that make sense for bytes.
// Two-letter suffixes stand first: the first match counts.
var units = [...]struct {
	suffix string
	factor float64
}{
	{"Ki", 1 << 10}, {"Mi", 1 << 20}, {"Gi", 1 << 30}, {"Ti", 1 << 40}, {"Pi", 1 << 50}, {"Ei", 1 << 60},
	{"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15}, {"E", 1e18}, {"", 1},
}

// ParseBytes reads a Kubernetes quantity of bytes: 1073741824, 512Mi, 1.5Gi, 10G.
func ParseBytes(s string) (int64, error) {
	for _, u := range units {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		if strings.Trim(number, "0123456789.") != "" {
			break
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			break
		}
		if n *= u.factor; n >= math.MaxInt64 {
			return 0, errors.New("must be less than 8Ei")
		}
		return int64(n), nil
	}
	return 0, errors.New("want a number of bytes such as 512Mi, 1Gi or 1073741824")
}

// maxRate bounds what people may write as a number of events.
const maxRate = 1e9

// ParseRate reads events per time, as the annotation rate and
// `penstock send --rate` have it: 100, 100/s, 5/m, 2/h. It returns events a
// second, always more than 0.
func ParseRate(s string) (float64, error) {
	number, unit, given := strings.Cut(s, "/")
	per, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	if !given {
		per, known = 1, true
	}
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known || !(n >= 0 && n <= maxRate) {
		return 0, errors.New("want a number of events and a unit, as in 100/s, 5/m or 2/h")
	}
	if n/per == 0 {
		return 0, errors.New("must be more than nothing")
	}
	return n / per, nil
}

// retention is how long and how much of the settled events is kept.
type retention struct {
	age   time.Duration
	bytes int64
}

// parseRetention reads the annotation retention: a duration, a size, or both
// in any order with a comma between them. What is not given stays as in base;
// 0 alone keeps nothing.
func parseRetention(s string, base retention) (retention, error) {
	if strings.TrimSpace(s) == "0" {
		return retention{}, nil
	}
	var gaveAge, gaveBytes bool
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		if age, err := parseDuration(part); err == nil && part != "0" && !gaveAge {
			base.age, gaveAge = age, true
		} else if bytes, err := ParseBytes(part); err == nil && !gaveBytes {
			base.bytes, gaveBytes = bytes, true
		} else {
			return retention{}, errors.New("want a duration, a size, or both, as in 24h or 1Gi or 24h,1Gi")
		}
	}
	return base, nil
}

// parseBool reads true or false and nothing else: what YAML would take for one
// (yes, on, 1) is a string here, and a guess would pause somebody's delivery.
func parseBool(s string) (*bool, error) {
	if s != "true" && s != "false" {
		return nil, errors.New("want true or false")
	}
	yes := s == "true"
	return &yes, nil
}

// parseSchedule reads the annotation retry-schedule: the waits between
// attempts, in order, with commas between them.
func parseSchedule(s string) (deliver.Schedule, error) {
	var waits []time.Duration
	for part := range strings.SplitSeq(s, ",") {
		wait, err := parseDuration(strings.TrimSpace(part))
		switch {
		case err != nil:
			return deliver.Schedule{}, fmt.Errorf("%s: %w", quote(strings.TrimSpace(part)), err)
		case wait == 0:
			return deliver.Schedule{}, fmt.Errorf("%s: must be more than nothing: a retry is never a hot loop", quote(strings.TrimSpace(part)))
		case len(waits) == deliver.MaxSchedule:
			return deliver.Schedule{}, fmt.Errorf("want at most %d waits", deliver.MaxSchedule)
		}
		waits = append(waits, wait)
	}
	return deliver.NewSchedule(waits...), nil
}
