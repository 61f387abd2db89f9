package remote_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestKeyGoesHomeAndNowhereElse(t *testing.T) {
	logs := make([]storing, 3)
	var addresses []string
	for i := range logs {
		logs[i].shard = channel.ShardID(16 * i)
		address, _, _ := serve(t, remote.ServerOptions{Appender: of(&logs[i])})
		addresses = append(addresses, address)
	}
	c := client(t, remote.Options{}, addresses...)
	for i := range 60 {
		key := fmt.Sprint("order-", i)
		ids, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, key, key, 1)})
		if err != nil {
			t.Fatal(err)
		}
		if want := channel.ShardID(16 * remote.Home(key, 3)); len(ids) != 1 || ids[0].Shard != want {
			t.Errorf("%s is at %v, its home has shard %d", key, ids, want)
		}
	}
	// One is away: its keys are refused, and do not move.
	c.SetOwners(owners(addresses[0], "", addresses[2]))
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "away", keyOf(1, 3), 1)})
	wantOutcome(t, err, false)
	for i := range 30 {
		if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, fmt.Sprint("any-", i), "", 1)}); err != nil {
			t.Errorf("event without a key while one of three is away: %v", err)
		}
	}
	for i := range logs {
		if slices.Contains(logs[i].ids(), "away") {
			t.Errorf("an event whose home is away is with dispatcher %d", i)
		}
	}
	// And it comes back under another address.
	var back storing
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(&back)})
	c.SetOwners(owners(addresses[0], address, addresses[2]))
	if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "home", keyOf(1, 3), 1)}); err != nil || !slices.Contains(back.ids(), "home") {
		t.Errorf("its home is back: %v", err)
	}
}

func TestHomesAreThoseOfEveryVersion(t *testing.T) {
	// Part of what is stored: another answer tears the order of a key.
	var got []int
	for i := range 16 {
		got = append(got, remote.Home(fmt.Sprint("order-", i), 3))
	}
	if want := []int{2, 0, 2, 1, 0, 0, 0, 0, 2, 0, 1, 2, 2, 2, 0, 2}; !slices.Equal(got, want) {
		t.Errorf("homes %v, want %v", got, want)
	}
}

func TestKeysOfAnOwnerUseAllItsShards(t *testing.T) {
	// Owners and shards bid by the same hash. With the same numbers, the keys
	// of one owner would all be in one of its shards.
	shards := []channel.ShardID{0, 1, 2, 3}
	count := map[[2]int]int{}
	for i := range 4000 {
		key := fmt.Sprint("order-", i)
		count[[2]int{remote.Home(key, 4), int(channel.Home(key, shards))}]++
	}
	for place, n := range count {
		if n < 180 || n > 320 {
			t.Errorf("owner %d has %d keys of 4000 in its shard %d, want about 250", place[0], n, place[1])
		}
	}
	if len(count) != 16 {
		t.Errorf("%d shards of 16 have keys", len(count))
	}
}

func TestBatchWithSeveralHomesIsStoredWhereEachBelongs(t *testing.T) {
	logs := make([]storing, 3)
	var addresses []string
	for i := range logs {
		logs[i].shard = channel.ShardID(16 * i)
		address, _, _ := serve(t, remote.ServerOptions{Appender: of(&logs[i])})
		addresses = append(addresses, address)
	}
	c := client(t, remote.Options{}, addresses...)
	var batch []event.Event
	for i := range 30 {
		key := keyOf(i%3, 3)
		if i%5 == 0 {
			key = ""
		}
		batch = append(batch, anEvent(t, fmt.Sprint(i), key, 1))
	}
	ids, err := c.Append(t.Context(), "a", batch)
	if err != nil || len(ids) != len(batch) {
		t.Fatalf("%d ids, error %v", len(ids), err)
	}
	seen := map[channel.ID]bool{}
	for i, id := range ids {
		if i%5 != 0 && id.Shard != channel.ShardID(16*(i%3)) {
			t.Errorf("event %d is at %s", i, id)
		}
		// The id is that of this very event.
		if log := &logs[id.Shard/16]; log.ids()[id.Position-1] != fmt.Sprint(i) {
			t.Errorf("event %d is said to be at %s, where %s is", i, id, log.ids()[id.Position-1])
		}
		seen[id.ID] = true
	}
	if len(seen) != len(batch) {
		t.Errorf("%d ids for %d events", len(seen), len(batch))
	}
	for i := range logs {
		if n := len(logs[i].calls); n != 1 {
			t.Errorf("dispatcher %d had its part in %d appends, want one", i, n)
		}
	}
}

func TestBatchAcrossOwnersIsStoredRefusedOrUnknown(t *testing.T) {
	full := &channel.Refused{Err: channel.ErrFull, RetryAfter: 2 * time.Second}
	lost := fmt.Errorf("%w: disk", channel.ErrUnknown)
	for _, tt := range []struct {
		name        string
		first, next error
		want        error // nil for stored
	}{
		{"all stored", nil, nil, nil},
		{"all refused", full, full, channel.ErrFull},
		{"one refused", nil, full, channel.ErrUnknown},
		{"one unknown", nil, lost, channel.ErrUnknown},
		{"one refused, one unknown", full, lost, channel.ErrUnknown},
		{"all unknown", lost, lost, channel.ErrUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var addresses []string
			for _, err := range []error{tt.first, tt.next} {
				var log storing
				address, _, _ := serve(t, remote.ServerOptions{Appender: of(appenderFunc(func(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
					if err != nil {
						return nil, err
					}
					return log.Append(ctx, uid, events)
				}))})
				addresses = append(addresses, address)
			}
			c := client(t, remote.Options{}, addresses...)
			ids, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", keyOf(0, 2), 1), anEvent(t, "2", keyOf(1, 2), 1)})
			var refused *channel.Refused
			switch {
			case tt.want == nil:
				if err != nil || len(ids) != 2 {
					t.Errorf("%v, error %v", ids, err)
				}
			case !errors.Is(err, tt.want) || errors.As(err, &refused) == errors.Is(tt.want, channel.ErrUnknown):
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

func TestBatchIsRefusedWholeWhereOneHomeIsAway(t *testing.T) {
	var log storing
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(&log)})
	c := client(t, remote.Options{}, address, "")
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", keyOf(0, 2), 1), anEvent(t, "2", keyOf(1, 2), 1)})
	wantOutcome(t, err, false)
	if len(log.ids()) > 0 {
		t.Error("a part is stored")
	}
}

func TestWithoutOwnersEverythingIsRefused(t *testing.T) {
	var log storing
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(&log)})
	c := client(t, remote.Options{})
	for _, o := range []remote.Owners{{}, {Declared: 3}, {Declared: -1}} {
		c.SetOwners(o)
		if err := c.Ready(); !errors.Is(err, channel.ErrUnavailable) {
			t.Errorf("%+v: ready says %v", o, err)
		}
		for _, key := range []string{"", "key"} {
			_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", key, 1)})
			wantOutcome(t, err, false)
		}
	}
	// One serves that nobody has declared: a key has no home, the rest has.
	c.SetOwners(remote.Owners{Serving: []remote.Owner{{Ordinal: 0, Address: address}}})
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "key", 1)})
	wantOutcome(t, err, false)
	if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "2", "", 1)}); err != nil || c.Ready() != nil {
		t.Errorf("append: %v; ready: %v", err, c.Ready())
	}
}

func TestOwnersMayChangeUnderLoad(t *testing.T) {
	logs := make([]storing, 4)
	var addresses []string
	for i := range logs {
		address, _, _ := serve(t, remote.ServerOptions{Appender: of(&logs[i])})
		addresses = append(addresses, address)
	}
	c := client(t, remote.Options{}, addresses...)
	ctx, cancel := context.WithCancel(t.Context())
	var changes, appends sync.WaitGroup
	changes.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			some := slices.Clone(addresses)
			some[i%4], some[(i/4)%4] = "", ""
			c.SetOwners(owners(some...))
			c.Stats()
			_ = c.Ready()
		}
	})
	var mu sync.Mutex
	stored := 0
	for n := range 16 {
		appends.Go(func() {
			for i := range 300 {
				key := ""
				if i%3 == 0 {
					key = fmt.Sprint("key-", i%7)
				}
				_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, fmt.Sprintf("%d-%d", n, i), key, 10)})
				if err == nil {
					mu.Lock()
					stored++
					mu.Unlock()
				} else {
					wantOutcome(t, err, false)
				}
			}
		})
	}
	appends.Wait()
	cancel()
	changes.Wait()
	seen := map[string]int{}
	for i := range logs {
		for _, id := range logs[i].ids() {
			if seen[id]++; seen[id] > 1 {
				t.Errorf("%s is stored twice", id)
			}
		}
	}
	if len(seen) != stored || stored == 0 {
		t.Errorf("%d answered as stored, %d are", stored, len(seen))
	}
}
