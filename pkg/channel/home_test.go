package channel

import (
	"fmt"
	"slices"
	"testing"

	"github.com/penstock-events/penstock/pkg/event"
)

func TestHomeOfAKeyIsTheSameInEveryVersion(t *testing.T) {
	// These answers are on people's disks. They may be added to, never changed.
	four := []ShardID{0, 1, 2, 3}
	for key, want := range map[string]ShardID{
		"a":           1,
		"b":           2,
		"order-17":    0,
		"customer/42": 3,
		"Zürich":      2,
	} {
		if got := Home(key, four); got != want {
			t.Errorf("Home(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestHomeDoesNotDependOnTheOrderOfShards(t *testing.T) {
	there, back := []ShardID{0, 1, 2, 3, 9}, []ShardID{9, 3, 2, 1, 0}
	for i := range 1000 {
		key := fmt.Sprint("key-", i)
		if a, b := Home(key, there), Home(key, back); a != b {
			t.Fatalf("Home(%q) is %d one way and %d the other", key, a, b)
		}
	}
}

func TestAnotherShardTakesOnlyItsOwnKeys(t *testing.T) {
	const keys = 20000
	var shards []ShardID
	for n := ShardID(0); n < 8; n++ {
		before := slices.Clone(shards)
		shards = append(shards, n)
		won := 0
		for i := range keys {
			key := fmt.Sprint("key-", i)
			home := Home(key, shards)
			switch {
			case home == n:
				won++
			case home != Home(key, before):
				t.Fatalf("shard %d came and key %q went to shard %d", n, key, home)
			}
		}
		fair := keys / len(shards)
		if won < fair*9/10 || won > fair*11/10 {
			t.Errorf("of %d shards, shard %d has %d keys of %d: want about %d", len(shards), n, won, keys, fair)
		}
	}
}

func TestEventsWithoutKeyTakeTurns(t *testing.T) {
	shards := []ShardID{2, 5, 7}
	e := placed(t, "")
	for turn, want := range []ShardID{2, 5, 7, 2, 5} {
		if got := Place(e, shards, 0, uint64(turn)); got != want {
			t.Errorf("turn %d goes to shard %d, want %d", turn, got, want)
		}
	}
}

func TestEventsWithAKeyGoHomeWhoseverTurnItIs(t *testing.T) {
	shards := []ShardID{0, 1, 2, 3}
	e := placed(t, "order-17")
	for turn := range uint64(8) {
		if got, want := Place(e, shards, 0, turn), Home("order-17", shards); got != want {
			t.Errorf("turn %d: shard %d, want home %d", turn, got, want)
		}
	}
}

func TestPlaceDoesNotAllocate(t *testing.T) {
	shards := []ShardID{0, 1, 2, 3}
	e := placed(t, "order-17")
	if n := testing.AllocsPerRun(100, func() { Place(e, shards, KeySubject|KeyIdentity, 3) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// placed is an event with a partition key, or without one where key is "".
func placed(t *testing.T, key string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, "1").Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
	if key != "" {
		b.Set(event.ExtPartition, key)
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestKeysInEveryVersion(t *testing.T) {
	// As above: what homes events is on people's disks.
	four := []ShardID{0, 1, 2, 3}
	for _, c := range []struct {
		key, subject, source, id string
		keying                   Keying
		want                     ShardID
	}{
		{"order-17", "a", "/s", "1", KeySubject | KeyIdentity, 0},
		{"", "a", "/s", "1", KeySubject | KeyIdentity, 1}, // as a partitionkey of that name
		{"", "b", "/s", "1", KeySubject, 2},
		{"", "", "/s", "1", KeySubject | KeyIdentity, 1},
		{"", "a", "/s", "2", KeyIdentity, 0},
	} {
		var b event.Builder
		b.Set(event.AttrID, c.id).Set(event.AttrSource, c.source).Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t")
		for name, value := range map[string]string{event.ExtPartition: c.key, event.AttrSubject: c.subject} {
			if value != "" {
				b.Set(name, value)
			}
		}
		e, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		for turn := range uint64(4) {
			if got := Place(e, four, c.keying, turn); got != c.want {
				t.Errorf("%+v, turn %d: shard %d", c, turn, got)
			}
		}
		if _, ok := KeyHash(e, 0); ok != (c.key != "") {
			t.Errorf("%+v: without a keying it has a key", c)
		}
	}
}
