package simulation_test

import (
	"fmt"
	"strings"
	"sync"

	"github.com/penstock-events/penstock/test/history"
)

// sums adds up what many runs came to. It may be used by many runs at once.
type sums struct {
	mu      sync.Mutex
	runs    int
	figures history.Figures
	names   []string
	checked map[string]int
}

func (s *sums) add(v *history.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	if s.checked == nil {
		s.checked = make(map[string]int)
	}
	for _, f := range v.Invariants {
		if s.checked[f.Name] += f.Checked; len(s.names) < len(v.Invariants) {
			s.names = append(s.names, f.Name)
		}
	}
	to, from := &s.figures, &v.Figures
	for _, pair := range [][2]*int{
		{&to.Sends, &from.Sends}, {&to.Acked, &from.Acked}, {&to.Refused, &from.Refused}, {&to.Indeterminate, &from.Indeterminate},
		{&to.Pairs, &from.Pairs}, {&to.Receipts, &from.Receipts}, {&to.Delivered, &from.Delivered}, {&to.Dead, &from.Dead},
		{&to.Lost, &from.Lost}, {&to.Corrupt, &from.Corrupt}, {&to.Duplicates, &from.Duplicates},
		{&to.AcksAfterSyncError, &from.AcksAfterSyncError}, {&to.Crashes, &from.Crashes}, {&to.Stops, &from.Stops},
	} {
		*pair[0] += *pair[1]
	}
	to.AttemptsMax = max(to.AttemptsMax, from.AttemptsMax)
	to.Drained = max(to.Drained, from.Drained)
}

// String is the sums in a few lines.
func (s *sums) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	f := &s.figures
	fmt.Fprintf(&b, "%d runs: sent %d (accepted %d, refused %d, unknown %d); %d attempts, delivered %d, dead %d, lost %d, corrupt %d, twice %d\n",
		s.runs, f.Sends, f.Acked, f.Refused, f.Indeterminate, f.Receipts, f.Delivered, f.Dead, f.Lost, f.Corrupt, f.Duplicates)
	fmt.Fprintf(&b, "%d crashes, %d stops, acknowledged after a failed sync %d; at most %d attempts for one, drained at most %v after the end\nchecked:",
		f.Crashes, f.Stops, f.AcksAfterSyncError, f.AttemptsMax, f.Drained)
	for _, name := range s.names {
		fmt.Fprintf(&b, " %s %d", name, s.checked[name])
	}
	return b.String()
}
