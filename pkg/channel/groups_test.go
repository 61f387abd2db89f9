package channel_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

func TestSmallestGroupsAreSummedUp(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, c := range []struct {
		what    string
		group   func(i int) channel.DeadGroup
		n       int
		trigger channel.UID
		count   uint64 // of the sum
	}{
		{"of one trigger", func(i int) channel.DeadGroup {
			return channel.DeadGroup{Trigger: "t", TriggerName: "n/t", Reason: fmt.Sprint(i)}
		}, channel.MaxDeadGroups + 9, "t", 10},
		{"of several", func(i int) channel.DeadGroup {
			return channel.DeadGroup{Trigger: channel.UID(fmt.Sprint("t", i)), TriggerName: fmt.Sprint("n/t", i), Reason: "same"}
		}, channel.MaxDeadGroups + 9, "", 10},
		{"of one trigger that has others summed up already", func(i int) channel.DeadGroup {
			g := channel.DeadGroup{Trigger: "t", TriggerName: "n/t", Reason: fmt.Sprint(i)}
			if i == 0 {
				g.Reason = channel.OtherReasons
			}
			return g
		}, channel.MaxDeadGroups + 9, "t", 5 + 10},
	} {
		var tally channel.DeadTally
		sum := uint64(0)
		for i := range c.n {
			g := c.group(i)
			if g.Count = 1; g.Reason == channel.OtherReasons {
				g.Count = 5
			}
			g.First, g.Last = at(i+1), at(i+2)
			tally.Add(g)
			sum += g.Count
		}
		groups := tally.Groups()
		got := uint64(0)
		for _, g := range groups {
			got += g.Count
		}
		if len(groups) > channel.MaxDeadGroups || got != sum {
			t.Errorf("%s: %d groups of %d letters, want %d letters", c.what, len(groups), got, sum)
		}
		if g := groups[0]; g.Reason != channel.OtherReasons || g.Trigger != c.trigger || g.Count != c.count || (g.TriggerName == "") != (c.trigger == "") {
			t.Errorf("%s: the sum is %+v, want %d", c.what, g, c.count)
		}
	}
}

func TestTimesOfAGroupAreThoseThatAreKnown(t *testing.T) {
	var tally channel.DeadTally
	for _, died := range []time.Time{{}, time.Unix(70, 9), time.Unix(50, 5), {}} {
		at := channel.DiedAt(channel.DiedSecond(died))
		tally.Add(channel.DeadGroup{Trigger: "t", Reason: "r", Count: 1, First: at, Last: at})
	}
	tally.Add(channel.DeadGroup{Trigger: "u", Reason: "r"}) // none
	groups := tally.Groups()
	if len(groups) != 1 || groups[0].Count != 4 || !groups[0].First.Equal(time.Unix(50, 0)) || !groups[0].Last.Equal(time.Unix(70, 0)) {
		t.Errorf("groups %+v", groups)
	}
	for _, died := range []time.Time{{}, time.Unix(-1, 0), time.Unix(1<<32, 0)} {
		if s := channel.DiedSecond(died); s != 0 || !channel.DiedAt(s).IsZero() {
			t.Errorf("%v is second %d", died, s)
		}
	}
}
