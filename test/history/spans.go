package history

import (
	"slices"
	"sort"
	"time"
)

// spans are stretches of time in order, none touching another.
type spans [][2]time.Duration

// during are the stretches in which a fault of one of these kinds lasted. What
// was under way when it was healed may come later: slack.
func (f *facts) during(kinds ...Kind) spans {
	var all spans
	for _, w := range f.windows {
		if slices.Contains(kinds, w.kind) {
			to := w.to
			if to != forever {
				to += f.rules.Slack
			}
			all = append(all, [2]time.Duration{w.from, to})
		}
	}
	slices.SortFunc(all, func(a, b [2]time.Duration) int { return int(a[0] - b[0]) })
	merged := all[:0]
	for _, s := range all {
		if n := len(merged); n > 0 && s[0] <= merged[n-1][1] {
			merged[n-1][1] = max(merged[n-1][1], s[1])
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// touch reports whether any of the spans touches one.
func (s spans) touch(from, to time.Duration) bool {
	i := sort.Search(len(s), func(i int) bool { return s[i][1] >= from })
	return i < len(s) && s[i][0] <= to
}
