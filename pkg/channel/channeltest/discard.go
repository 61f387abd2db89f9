package channeltest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

func discardStories() []story {
	return []story{
		{"DiscardedLettersAreGoneAndTheOthersStay", discardedAreGone},
		{"NumbersAreNeverUsedAgain", numbersAreNew},
		{"CursorStaysGoodWhateverIsDiscarded", cursorStaysGood},
		{"LettersAreReadByNumber", readByNumber},
		{"LetterIsFoundByItsEvent", foundByEvent},
		{"DeadLettersAreGroupedByTriggerAndReason", groupedByReason},
		{"RareReasonsAreSummedUp", rareReasons},
		{"EventOfADiscardedLetterGoesOnToItsSink", discardedGoesOnToSink},
		{"DiscardedLettersMakeRoom", discardedMakeRoom},
		{"LetterIsDiscardedOnceWhoeverAsks", discardedOnce},
	}
}

func (w *world) discard(b channel.BrokerLog, want int, numbers ...uint64) {
	w.t.Helper()
	given := slices.Clone(numbers)
	n, err := b.DiscardDead(w.t.Context(), numbers)
	if err != nil || n != want {
		w.t.Errorf("discard %d: %d were, error %v, want %d", numbers, n, err, want)
	}
	if !slices.Equal(given, numbers) {
		w.t.Errorf("the caller's numbers %d became %d", given, numbers)
	}
}

// deaths has n events die, every third for two triggers, and lists the letters.
func (w *world) deaths(b channel.BrokerLog, n int) []channel.DeadLetter {
	w.t.Helper()
	for i := range n {
		e := anEvent(fmt.Sprint("death-", i), 200)
		letter := deadLetter(w.append(b.Info().UID, e)[0], "t1", e)
		letter.Died = whenever(i)
		if w.die(b, letter); i%3 == 0 {
			letter.Trigger = "t2"
			w.die(b, letter)
		}
	}
	return w.dead(b, "", 100)
}

// of are the letters of one trigger.
func of(trigger channel.UID, letters []channel.DeadLetter) []channel.DeadLetter {
	return slices.DeleteFunc(slices.Clone(letters), func(d channel.DeadLetter) bool { return d.Trigger != trigger })
}

func numbersOf(letters []channel.DeadLetter) (numbers []uint64) {
	for _, d := range letters {
		numbers = append(numbers, d.Number)
	}
	return numbers
}

// wantFoundAndGrouped looks for each letter by its event, and counts them.
func (w *world) wantFoundAndGrouped(b channel.BrokerLog, letters []channel.DeadLetter) {
	w.t.Helper()
	type death struct {
		trigger channel.UID
		id      channel.ID
	}
	last := map[death]channel.DeadLetter{}
	var tally channel.DeadTally
	for _, d := range letters {
		last[death{d.Trigger, d.ID}] = d
		at := channel.DiedAt(channel.DiedSecond(d.Died))
		tally.Add(channel.DeadGroup{Trigger: d.Trigger, TriggerName: d.TriggerName, Reason: d.Reason, Count: 1, First: at, Last: at})
	}
	for key, want := range last {
		got, found, err := b.FindDead(w.t.Context(), key.trigger, key.id)
		if err != nil || !found || got.ID != want.ID || got.Trigger != want.Trigger || got.Reason != want.Reason || !bytes.Equal(got.Event.Raw(), want.Event.Raw()) {
			w.t.Errorf("letter of %s for %s: found %v, error %v:\n %+v\nwant\n %+v", key.id, key.trigger, found, err, got, want)
		}
	}
	groups, err := b.DeadGroups(w.t.Context(), "")
	if want := tally.Groups(); err != nil || !slices.EqualFunc(groups, want, sameGroup) {
		w.t.Errorf("groups are, error %v,\n %+v\nwant\n %+v", err, groups, want)
	}
}

func sameGroup(a, b channel.DeadGroup) bool {
	return a.Trigger == b.Trigger && a.TriggerName == b.TriggerName && a.Reason == b.Reason && a.Count == b.Count &&
		a.First.Equal(b.First) && a.Last.Equal(b.Last)
}

func discardedAreGone(w *world) {
	b := w.broker("a")
	all := w.deaths(b, 12)
	w.wantFoundAndGrouped(b, all)
	w.discard(b, 0)
	w.discard(b, 0, 0, all[len(all)-1].Number+1, 1<<63)
	w.wantDead(b, "", 5, all)
	// Of two triggers' letters of one event one may go alone.
	gone := []channel.DeadLetter{all[1], all[4], all[5], all[len(all)-1]}
	numbers := numbersOf(gone)
	slices.Reverse(numbers)
	w.discard(b, 4, append(numbers, numbers[0], 1<<40)...)
	left := slices.DeleteFunc(slices.Clone(all), func(d channel.DeadLetter) bool { return slices.Contains(numbers, d.Number) })
	check := func() {
		w.t.Helper()
		for _, limit := range []int{1, 3, 100} {
			w.wantDead(b, "", limit, left)
			w.wantDead(b, "t1", limit, of("t1", left))
			w.wantDead(b, "t2", limit, of("t2", left))
		}
		w.wantFoundAndGrouped(b, left)
	}
	check()
	w.discard(b, 0, numbers...)
	for _, d := range gone {
		if _, found, err := b.FindDead(w.t.Context(), d.Trigger, d.ID); found || err != nil {
			w.t.Errorf("letter %d, which was discarded: found %v, error %v", d.Number, found, err)
		}
	}
	check()
	w.discard(b, len(left), numbersOf(all)...)
	left = nil
	check()
	if other := w.broker("b"); other.DeadCount("") != 0 {
		w.t.Error("another broker has dead letters")
	}
}

func numbersAreNew(w *world) {
	b := w.broker("a")
	last := uint64(0)
	for range 3 {
		all := w.deaths(b, 4)
		if all[0].Number <= last {
			w.t.Errorf("after number %d comes %d", last, all[0].Number)
		}
		last = all[len(all)-1].Number
		e := anEvent("own", 10)
		letter := deadLetter(w.append("a", e)[0], "t1", e)
		letter.Number = all[0].Number // nobody but the log gives numbers
		w.die(b, letter)
		got, found, err := b.FindDead(w.t.Context(), "t1", letter.ID)
		if err != nil || !found || got.Number <= last {
			w.t.Errorf("after number %d comes %d (found %v, error %v)", last, got.Number, found, err)
		}
		last = got.Number
		w.discard(b, len(all)+1, append(numbersOf(all), last)...)
	}
}

func cursorStaysGood(w *world) {
	b := w.broker("a")
	all := w.deaths(b, 9)
	page, next, err := b.Dead(w.t.Context(), "", "", 5)
	if err != nil || len(page) != 5 || next == "" {
		w.t.Fatalf("first page: %d letters, cursor %q, error %v", len(page), next, err)
	}
	w.discard(b, 6, numbersOf(all[1:7])...) // with those on both sides of the cursor
	rest, _, err := b.Dead(w.t.Context(), "", next, 100)
	if err != nil || !slices.Equal(numbersOf(rest), numbersOf(all[7:])) {
		w.t.Errorf("second page: letters %d, error %v, want %d", numbersOf(rest), err, numbersOf(all[7:]))
	}
}

func readByNumber(w *world) {
	b := w.broker("a")
	all := w.deaths(b, 6)
	got, err := b.DeadByNumber(w.t.Context(), []uint64{all[5].Number, 0, all[2].Number, all[5].Number, 1 << 50})
	if err != nil || len(got) != 2 || got[0].Number != all[2].Number || got[1].Number != all[5].Number ||
		got[1].ID != all[5].ID || got[1].Trigger != all[5].Trigger || !bytes.Equal(got[1].Event.Raw(), all[5].Event.Raw()) {
		w.t.Errorf("two of the numbers name letters: %+v, error %v", got, err)
	}
	w.discard(b, 1, all[2].Number)
	if got, err := b.DeadByNumber(w.t.Context(), numbersOf(all[2:4])); err != nil || len(got) != 1 || got[0].Number != all[3].Number {
		w.t.Errorf("one of two is discarded: %+v, error %v", got, err)
	}
	if got, err := b.DeadByNumber(w.t.Context(), nil); err != nil || len(got) != 0 {
		w.t.Errorf("no numbers: %d letters, error %v", len(got), err)
	}
}

func foundByEvent(w *world) {
	b := w.broker("a")
	id := w.append("a", anEvent("0", 10))[0]
	for _, trigger := range []channel.UID{"t1", ""} {
		if _, found, err := b.FindDead(w.t.Context(), trigger, id); found || err != nil {
			w.t.Errorf("nothing has died: found %v, error %v", found, err)
		}
	}
	all := w.deaths(b, 20)
	w.wantFoundAndGrouped(b, all)
	// It dies again after it was sent again, and then once more.
	again := all[0]
	for i := range 2 {
		again.Reason = fmt.Sprint("status 50", i)
		w.die(b, again)
	}
	all = w.dead(b, "", 100)
	w.wantFoundAndGrouped(b, all)
	for i := range 3 {
		got, found, err := b.FindDead(w.t.Context(), again.Trigger, again.ID)
		want := []string{"status 501", "status 500", "status 404"}[i]
		if err != nil || !found || got.Reason != want {
			w.t.Fatalf("the last that is left: found %v, %q, error %v, want %q", found, got.Reason, err, want)
		}
		w.discard(b, 1, got.Number)
	}
	for what, id := range map[string]channel.ID{
		"of the event that is discarded": again.ID,
		"of one that never was":          {Shard: again.ID.Shard, Position: 1 << 30},
		"of nobody's shard":              {Shard: 1 << 20, Position: 1},
	} {
		if _, found, err := b.FindDead(w.t.Context(), again.Trigger, id); found || err != nil {
			w.t.Errorf("%s: found %v, error %v", what, found, err)
		}
	}
}

func groupedByReason(w *world) {
	b := w.broker("a")
	if groups, err := b.DeadGroups(w.t.Context(), ""); err != nil || len(groups) != 0 {
		w.t.Errorf("nothing has died: %+v, error %v", groups, err)
	}
	for i := range 30 {
		e := anEvent(fmt.Sprint("grouped-", i), 10)
		d := deadLetter(w.append("a", e)[0], channel.UID(fmt.Sprint("t", i%2)), e)
		d.Died, d.Reason = whenever(i), []string{"status 404", "timeout after 30s", "status 503"}[i%3]
		w.die(b, d)
		if i == 10 { // some come after the first question
			w.wantFoundAndGrouped(b, w.dead(b, "", 100))
		}
	}
	all := w.dead(b, "", 100)
	w.wantFoundAndGrouped(b, all)
	groups, err := b.DeadGroups(w.t.Context(), "t1")
	if err != nil || len(groups) != 3 || groups[0].Count != 5 || groups[0].TriggerName != "default/t1" || groups[0].Last.Sub(groups[0].First) != whenever(24).Sub(whenever(0)) {
		w.t.Errorf("of one trigger: %+v, error %v", groups, err)
	}
	// The first and the last of a group go, and with them their times.
	w.discard(b, 4, all[0].Number, all[24].Number, all[1].Number, all[29].Number)
	w.wantFoundAndGrouped(b, slices.Concat(all[2:24], all[25:29]))
	if groups, err := b.DeadGroups(w.t.Context(), "t9"); err != nil || len(groups) != 0 {
		w.t.Errorf("of a trigger without any: %+v, error %v", groups, err)
	}
}

func rareReasons(w *world) {
	b := w.broker("a")
	e := anEvent("rare", 10)
	id := w.append("a", e)[0]
	var letters []channel.DeadLetter
	for i := range channel.MaxDeadGroups + 100 {
		d := deadLetter(id, "t1", e)
		if d.Reason = fmt.Sprintf("reason %d", i); i < 50 {
			letters = append(letters, d)
		}
		letters = append(letters, d)
	}
	for part := range slices.Chunk(letters, 100) {
		w.die(b, part...)
	}
	groups, err := b.DeadGroups(w.t.Context(), "t1")
	if err != nil || len(groups) != channel.MaxDeadGroups {
		w.t.Fatalf("%d groups, error %v, want %d", len(groups), err, channel.MaxDeadGroups)
	}
	if g := groups[0]; g.Reason != channel.OtherReasons || g.Trigger != "t1" || g.Count != 101 {
		w.t.Errorf("the largest group is %+v, want 101 of other reasons", g)
	}
	sum := uint64(0)
	for _, g := range groups {
		sum += g.Count
	}
	if sum != b.DeadCount("t1") || groups[1].Count != 2 {
		w.t.Errorf("%d letters in groups, the second of %d, want %d and 2", sum, groups[1].Count, b.DeadCount("t1"))
	}
}

func discardedGoesOnToSink(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1})
	e := anEvent("1", 100)
	id := w.append("a", e)[0]
	w.die(b, deadLetter(id, "t", e))
	shard := b.Shards()[0]
	w.save(b, channel.ShardProgress{Shard: shard, Scanned: id.Position + 1})
	w.discard(b, 1, w.dead(b, "t", 1)[0].Number)
	w.wantProgress(b, channel.ShardProgress{Shard: shard, Scanned: id.Position + 1, Lanes: []channel.LaneProgress{
		lane("t", positions(id.Position), nil, channel.Retry{Position: id.Position, Attempts: 11, Dead: true})}})
	w.wantStored(b, stored{id: e})
	w.save(b, channel.ShardProgress{Shard: shard, Lanes: []channel.LaneProgress{lane("t", nil, positions(id.Position))}})
	w.wantProgress(b, channel.ShardProgress{Shard: shard, Scanned: id.Position + 1})
	w.wantDead(b, "", 1, nil)
}

func discardedMakeRoom(w *world) {
	b := w.brokerOf(channel.BrokerInfo{UID: "a", Shards: 1, MaxBytes: quota})
	e := anEvent("1", 8<<10)
	id := w.append("a", e)[0]
	full := func() bool {
		for range 2 * quota / (8 << 10) {
			err := b.AppendDead(w.t.Context(), []channel.DeadLetter{deadLetter(id, "t", e)})
			if errors.Is(err, w.suite.full) {
				return true
			}
			if err != nil {
				w.t.Fatalf("append a dead letter: %v", err)
			}
		}
		return false
	}
	if !full() {
		w.t.Fatalf("a broker bounded to %d bytes took %d of dead letters", quota, 2*quota)
	}
	letters := w.dead(b, "t", 1000)
	if s := b.Stats(); s.DeadBytes < int64(len(letters))*8<<10 {
		w.t.Errorf("%d dead letters of 8 KiB: %+v", len(letters), s)
	}
	w.discard(b, len(letters)-1, numbersOf(letters[1:])...)
	w.scanAll(b)
	for range 60 {
		if b.AppendDead(w.t.Context(), []channel.DeadLetter{deadLetter(id, "t", e)}) == nil {
			break
		}
		w.wait(time.Second)
	}
	w.wantDead(b, "t", 10, []channel.DeadLetter{deadLetter(id, "t", e), deadLetter(id, "t", e)})
	w.wantWithinQuota(b)
	w.appendSoon("a", anEvent("again", 100))
	if s := b.Stats(); s.DeadBytes > int64(len(letters))*4<<10 {
		w.t.Errorf("2 dead letters of 8 KiB are left of %d: %+v", len(letters), s)
	}
}

func discardedOnce(w *world) {
	b := w.broker("a")
	all := numbersOf(w.deaths(b, 60))
	var wg sync.WaitGroup
	var gone atomic.Int64
	for range 4 {
		wg.Go(func() {
			for part := range slices.Chunk(all, 7) {
				n, err := b.DiscardDead(w.t.Context(), part)
				if err != nil {
					w.t.Errorf("discard: %v", err)
				}
				gone.Add(int64(n))
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			w.dead(b, "", 10)
			if _, err := b.DeadGroups(w.t.Context(), ""); err != nil {
				w.t.Errorf("groups: %v", err)
			}
		}
	})
	e := anEvent("meanwhile", 10)
	id := w.append("a", e)[0]
	for range 20 {
		w.die(b, deadLetter(id, "t3", e))
	}
	wg.Wait()
	if int(gone.Load()) != len(all) {
		w.t.Errorf("%d letters were discarded %d times", len(all), gone.Load())
	}
	w.wantDead(b, "", 7, slices.Repeat([]channel.DeadLetter{deadLetter(id, "t3", e)}, 20))
}

// discardSurvives: a letter that is discarded never comes back, and one that
// is not never goes.
func discardSurvives(l *life) {
	b := l.broker("a")
	all := l.deaths(b, 12)
	want := map[uint64]channel.DeadLetter{}
	for _, d := range all {
		want[d.Number] = d
	}
	last := all[len(all)-1].Number
	discard := func(letters ...channel.DeadLetter) {
		l.discard(b, len(letters), numbersOf(letters)...)
		for _, d := range letters {
			delete(want, d.Number)
		}
	}
	check := func() {
		l.t.Helper()
		var left []channel.DeadLetter
		for _, n := range slices.Sorted(maps.Keys(want)) {
			left = append(left, want[n])
		}
		l.wantDead(b, "", 5, left)
		l.wantFoundAndGrouped(b, left)
		if got := numbersOf(l.dead(b, "", 100)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
			l.t.Errorf("letters have the numbers %d, want %d", got, slices.Sorted(maps.Keys(want)))
		}
	}
	discard(all[0], all[3], all[len(all)-1])
	l.restart()
	b = l.broker("a")
	check()
	discard(all[1])
	check()
	l.restart()
	b = l.broker("a")
	check()
	for _, d := range l.deaths(b, 1) {
		if want[d.Number].Number == 0 {
			if want[d.Number] = d; d.Number <= last {
				l.t.Errorf("after number %d comes %d", last, d.Number)
			}
		}
	}
	check()
}
