package channel

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// MaxDeadGroups bounds how many groups DeadGroups returns. The smallest of
// more are summed up in one, whose reason is OtherReasons.
const MaxDeadGroups = 1000

// Reasons of groups that are no letter's own.
const (
	OtherReasons = "(other)"
	// Unreadable is the group of the letters that cannot be read now.
	Unreadable = "(unreadable)"
)

// DeadGroup is dead letters of one trigger with one reason.
type DeadGroup struct {
	Trigger     UID    // "" in the group OtherReasons of several triggers
	TriggerName string // namespace/name, for people
	Reason      string
	Count       uint64
	First, Last time.Time // died, to the second; zero where none says when
}

// DeadTally makes the groups of DeadGroups, for those who implement it. Its
// zero value is empty. One goroutine may use it.
type DeadTally struct {
	groups map[tallied]*DeadGroup
}

type tallied struct {
	trigger UID
	reason  string
}

// Add counts a group's letters.
func (t *DeadTally) Add(g DeadGroup) {
	if g.Count == 0 {
		return
	}
	if t.groups == nil {
		t.groups = make(map[tallied]*DeadGroup)
	}
	key := tallied{g.Trigger, g.Reason}
	if sum := t.groups[key]; sum != nil {
		sum.join(g)
		return
	}
	t.groups[key] = &g
}

// join takes in another group.
func (g *DeadGroup) join(o DeadGroup) {
	g.Count += o.Count
	if o.TriggerName != "" {
		g.TriggerName = o.TriggerName
	}
	if g.First.IsZero() || !o.First.IsZero() && o.First.Before(g.First) {
		g.First = o.First
	}
	if o.Last.After(g.Last) {
		g.Last = o.Last
	}
}

// Groups are the groups, the largest first, at most MaxDeadGroups.
func (t *DeadTally) Groups() []DeadGroup {
	all := make([]DeadGroup, 0, len(t.groups))
	for _, g := range t.groups {
		all = append(all, *g)
	}
	slices.SortFunc(all, compareGroups)
	if len(all) <= MaxDeadGroups {
		return all
	}
	rest := all[MaxDeadGroups-1:]
	other := rest[0]
	for _, g := range rest[1:] {
		if g.Trigger != other.Trigger {
			other.Trigger = ""
		}
		other.join(g)
	}
	if other.Reason = OtherReasons; other.Trigger == "" {
		other.TriggerName = ""
	}
	all = all[:MaxDeadGroups-1]
	same := func(g DeadGroup) bool { return g.Trigger == other.Trigger && g.Reason == OtherReasons }
	if i := slices.IndexFunc(all, same); i >= 0 { // its log had too many reasons to tell apart
		all[i].join(other)
	} else {
		all = append(all, other)
	}
	slices.SortFunc(all, compareGroups)
	return all
}

func compareGroups(a, b DeadGroup) int {
	return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Trigger, b.Trigger), cmp.Compare(a.Reason, b.Reason))
}

// DiedSecond is when a letter died as groups know it, in seconds since 1970;
// 0 where the letter does not say, or names no time between 1970 and 2106.
func DiedSecond(died time.Time) uint32 {
	if s := died.Unix(); s > 0 && s <= math.MaxUint32 {
		return uint32(s)
	}
	return 0
}

// DiedAt is the time of a DiedSecond.
func DiedAt(second uint32) time.Time {
	if second == 0 {
		return time.Time{}
	}
	return time.Unix(int64(second), 0)
}
