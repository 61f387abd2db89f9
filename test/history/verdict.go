package history

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is what Check found.
type Verdict struct {
	Invariants []Finding `json:"invariants"` // all that are judged, in order
	Figures    Figures   `json:"figures"`
}

// Finding is how one invariant fared.
type Finding struct {
	Name       string      `json:"name"` // I1
	Says       string      `json:"says"`
	Checked    int         `json:"checked"` // how many cases there were to judge
	Violations int         `json:"violations"`
	First      []Violation `json:"first,omitempty"` // the first ten, by line
}

// Violation is one breach of an invariant.
type Violation struct {
	Line    int    `json:"line"` // of all files together, from 1
	ID      string `json:"id,omitempty"`
	Trigger string `json:"trigger,omitempty"`
	Text    string `json:"text"`
}

// Figures are counts of a whole history. Pairs are events with Triggers that
// must have them.
type Figures struct {
	Sends         int `json:"sends"` // events, repeated posts counted once
	Acked         int `json:"acked"`
	Refused       int `json:"refused"`
	Indeterminate int `json:"indeterminate"`

	Pairs     int `json:"pairs"`
	Receipts  int `json:"receipts"`
	Delivered int `json:"delivered"` // pairs with a 2xx, those that need not be delivered included
	Dead      int `json:"dead"`
	Lost      int `json:"lost"` // acknowledged pairs without an end
	Corrupt   int `json:"corrupt"`

	// Duplicates are 2xx beyond the first of a pair. Ratio is their share of
	// Delivered; MostPerCrash is the most that one end of a process cost, and
	// AtRisk what was in flight or settled within the lag at that one.
	// OldestRepeat is how long before the end the oldest of them was answered.
	Duplicates   int           `json:"duplicates"`
	DupRatio     float64       `json:"dup_ratio"`
	MostPerCrash int           `json:"dup_most_per_crash"`
	AtRisk       int           `json:"dup_at_risk"`
	OldestRepeat time.Duration `json:"dup_oldest_ns"`

	AttemptsMax        int `json:"attempts_max"` // of one pair, as the checker counts
	AcksAfterSyncError int `json:"acks_after_sync_error"`

	Crashes  int           `json:"crashes"`
	Stops    int           `json:"stops"`
	Recovery Spread        `json:"recovery"`   // from the start of a process to its first 202
	Drained  time.Duration `json:"drained_ns"` // from the last fault and send to the last delivery
}

// Spread is a distribution in three numbers.
type Spread struct {
	N      int           `json:"n"`
	Median time.Duration `json:"median_ns"`
	Max    time.Duration `json:"max_ns"`
}

func spread(of []time.Duration) Spread {
	if len(of) == 0 {
		return Spread{}
	}
	slices.Sort(of)
	return Spread{N: len(of), Median: of[len(of)/2], Max: of[len(of)-1]}
}

// invariants are those that are judged and what each says.
var invariants = [...]struct{ name, says string }{
	{"I1", "no acknowledged event is lost"},
	{"I2", "nothing is invented"},
	{"I3", "events arrive as they were sent"},
	{"I4", "refused means refused"},
	{"I5", "only what the filter wants is delivered"},
	{"I6", "no duplicates but what a crash may cost"},
	{"I7", "retries come as agreed and end as agreed"},
	{"I8", "events of one key come in order to ordered triggers"},
	{"I9", "the backlog is gone in time once all is well"},
	{"I10", "no acknowledgement after a failed sync"},
	{"I11", "damage is reported"},
	{"I12", "one owner at a time"},
	{"I13", "bounds are kept"},
	{"I14", "the broker's counters are true"},
	{"I15", "a restored backup has all of its time, and nothing twice"},
}

// maxFirst bounds the violations that are told one by one.
const maxFirst = 10

// findings collects what an invariant's judges say.
type findings [len(invariants)]Finding

func newFindings() *findings {
	var all findings
	for i, of := range invariants {
		all[i] = Finding{Name: of.name, Says: of.says}
	}
	return &all
}

func (all *findings) of(name string) *Finding {
	for i := range all {
		if all[i].Name == name {
			return &all[i]
		}
	}
	panic("history: no invariant " + name)
}

func (all *findings) checked(name string, n int) { all.of(name).Checked += n }

func (all *findings) breach(name string, line int, id string, t *trigger, format string, args ...any) {
	v := Violation{Line: line, ID: id, Text: fmt.Sprintf(format, args...)}
	if t != nil {
		v.Trigger = t.name
	}
	f := all.of(name)
	f.Violations++
	f.First = append(f.First, v)
	// Few are kept, and the judges do not go by line.
	if len(f.First) > 100*maxFirst {
		f.shorten()
	}
}

func (f *Finding) shorten() {
	slices.SortStableFunc(f.First, func(a, b Violation) int { return cmp.Compare(a.Line, b.Line) })
	f.First = f.First[:min(len(f.First), maxFirst)]
}

// Checked is how many cases of an invariant were looked at.
func (v *Verdict) Checked(invariant string) int {
	for _, f := range v.Invariants {
		if f.Name == invariant {
			return f.Checked
		}
	}
	return 0
}

// Err is nil if no invariant was violated, and otherwise says which, with the
// first cases of each.
func (v *Verdict) Err() error {
	var errs []error
	for _, f := range v.Invariants {
		if f.Violations > 0 {
			errs = append(errs, errors.New(f.String()))
		}
	}
	return errors.Join(errs...)
}

// Violated names the invariants that were.
func (v *Verdict) Violated() []string {
	var names []string
	for _, f := range v.Invariants {
		if f.Violations > 0 {
			names = append(names, f.Name)
		}
	}
	return names
}

// String is the finding for people: one line, and one for each violation told.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-4s %-58s %9d checked", f.Name, f.Says, f.Checked)
	if f.Violations == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, ", %d VIOLATED", f.Violations)
	for _, one := range f.First {
		fmt.Fprintf(&b, "\n       line %d: ", one.Line)
		if one.ID != "" {
			fmt.Fprintf(&b, "event %s: ", one.ID)
		}
		if one.Trigger != "" {
			fmt.Fprintf(&b, "trigger %s: ", one.Trigger)
		}
		b.WriteString(one.Text)
	}
	if more := f.Violations - len(f.First); more > 0 {
		fmt.Fprintf(&b, "\n       and %d more", more)
	}
	return b.String()
}

// String is the whole report for people.
func (v *Verdict) String() string {
	var b strings.Builder
	for _, f := range v.Invariants {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	f := &v.Figures
	fmt.Fprintf(&b, "sent %d: accepted %d, refused %d, unknown %d\n", f.Sends, f.Acked, f.Refused, f.Indeterminate)
	fmt.Fprintf(&b, "owed %d: delivered %d (in %d attempts that arrived, at most %d for one), dead %d, lost %d, corrupt %d\n",
		f.Pairs, f.Delivered, f.Receipts, f.AttemptsMax, f.Dead, f.Lost, f.Corrupt)
	fmt.Fprintf(&b, "twice %d (%.4f %%)", f.Duplicates, 100*f.DupRatio)
	if f.Crashes+f.Stops > 0 {
		fmt.Fprintf(&b, "; %d crashes, %d stops; the worst cost %d of %d that it may cost, the oldest %v old",
			f.Crashes, f.Stops, f.MostPerCrash, f.AtRisk, f.OldestRepeat.Round(time.Microsecond))
	}
	if f.Recovery.N > 0 {
		fmt.Fprintf(&b, "\nfrom start to first 202: median %v, worst %v of %d", f.Recovery.Median.Round(time.Millisecond),
			f.Recovery.Max.Round(time.Millisecond), f.Recovery.N)
	}
	fmt.Fprintf(&b, "\ndrained in %v; acknowledged after a failed sync: %d\n", f.Drained.Round(time.Millisecond), f.AcksAfterSyncError)
	return b.String()
}
