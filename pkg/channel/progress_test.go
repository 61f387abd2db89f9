package channel

import (
	"slices"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
)

func TestChangesAddUpToWhatIsPending(t *testing.T) {
	later := time.Unix(1_900_000_000, 0)
	var p Pending
	p.Apply(LaneProgress{Added: roaring64.BitmapOf(1, 2, 3)})
	p.Apply(LaneProgress{Retries: []Retry{{Position: 2, Attempts: 1}, {Position: 3, Attempts: 1}, {Position: 9, Attempts: 1}}})
	p.Apply(LaneProgress{Added: roaring64.BitmapOf(4, 5), Settled: roaring64.BitmapOf(1, 3, 5), Retries: []Retry{{Position: 2, Attempts: 2, NotBefore: later}}})
	whole := p.Whole("t")
	if got := whole.Added.ToArray(); whole.Trigger != "t" || !slices.Equal(got, []uint64{2, 4}) {
		t.Errorf("trigger %s has pending %v, want t with 2 and 4", whole.Trigger, got)
	}
	if want := []Retry{{Position: 2, Attempts: 2, NotBefore: later}}; !slices.Equal(whole.Retries, want) {
		t.Errorf("retries %+v, want %+v", whole.Retries, want)
	}
	whole.Added.Clear()
	if p.Positions.Len() != 2 {
		t.Error("who has the whole can change the state")
	}
}

func TestDeadPositionIsPendingUntilSettled(t *testing.T) {
	var p Pending
	p.MarkDead(7, 11)
	p.Apply(LaneProgress{Added: roaring64.BitmapOf(7), Retries: []Retry{{Position: 7, Attempts: 3}}}) // saved late
	if whole := p.Whole("t"); !whole.Added.Contains(7) || !slices.Equal(whole.Retries, []Retry{{Position: 7, Attempts: 11, Dead: true}}) {
		t.Errorf("%+v", whole)
	}
	p.Apply(LaneProgress{Settled: roaring64.BitmapOf(7)})
	if whole := p.Whole("t"); !whole.Added.IsEmpty() || len(whole.Retries) != 0 {
		t.Errorf("settled, and still %+v", whole)
	}
}

func TestRoutesAreForgottenOnlyBehindEveryScan(t *testing.T) {
	var table RouteTable
	if table.Epoch() != 0 || len(table.Changes()) != 0 {
		t.Error("a new table is not empty")
	}
	set := func(uids ...UID) (routes []Route) {
		for _, uid := range uids {
			routes = append(routes, Route{Trigger: uid})
		}
		return routes
	}
	table.Add(Routes{Epoch: 1, From: map[ShardID]Position{0: 1, 1: 1}, Set: set("a", "b")})
	table.Add(Routes{Epoch: 2, From: map[ShardID]Position{0: 5, 1: 3}, Set: set("c"), Unset: []UID{"a"}})
	table.Add(Routes{Epoch: 3, From: map[ShardID]Position{0: 9, 1: 3}, Set: set("b")})
	table.Add(Routes{Epoch: 4, From: map[ShardID]Position{0: 9, 1: 7}, Set: set("d"), Whole: true})

	forget := func(first, second Position) []Routes {
		table.Forget(func(s ShardID) Position { return []Position{first, second}[s] })
		return table.Changes()
	}
	for _, step := range []struct {
		first, second Position
		epochs        []uint64
		whole         []UID
	}{
		{4, 9, []uint64{1, 2, 3, 4}, []UID{"a", "b"}},
		{5, 2, []uint64{1, 2, 3, 4}, []UID{"a", "b"}},
		{5, 3, []uint64{2, 3, 4}, []UID{"b", "c"}},
		{9, 6, []uint64{3, 4}, []UID{"c", "b"}},
		{9, 7, []uint64{4}, []UID{"d"}},
		{99, 99, []uint64{4}, []UID{"d"}},
	} {
		changes := forget(step.first, step.second)
		var epochs []uint64
		for _, c := range changes {
			epochs = append(epochs, c.Epoch)
		}
		var whole []UID
		for _, r := range changes[0].Set {
			whole = append(whole, r.Trigger)
		}
		if !slices.Equal(epochs, step.epochs) || !slices.Equal(whole, step.whole) || !changes[0].Whole {
			t.Errorf("scanned to %d and %d: changes %v, first with %v, want %v with %v", step.first, step.second, epochs, whole, step.epochs, step.whole)
		}
	}
	if table.Epoch() != 4 {
		t.Errorf("epoch %d after 4", table.Epoch())
	}
}
