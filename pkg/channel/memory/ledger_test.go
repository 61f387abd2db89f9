package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// TestTheBooksBalance runs random scripts against small bounds and checks
// after each step that what is charged is what is there, and within them.
func TestTheBooksBalance(t *testing.T) {
	refusals := 0
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 5))
		now := time.Unix(1_700_000_000, 0)
		l := New(Options{MaxBytes: 300 << 10, Now: func() time.Time { return now }})
		l.running.Store(true) // nobody runs it: time is ours
		var brokers []*broker
		for i, info := range []channel.BrokerInfo{
			{UID: "bounded", Shards: 2, MaxBytes: 80 << 10},
			{UID: "retaining", Shards: 3, Retention: time.Minute, RetentionBytes: 150 << 10},
			{UID: "plain", Shards: 1},
		} {
			b, err := l.Broker(t.Context(), info)
			if err != nil {
				t.Fatal(i, err)
			}
			brokers = append(brokers, b.(*broker))
		}
		for step := range 600 {
			b := brokers[rng.IntN(len(brokers))]
			s := b.shards[rng.IntN(len(b.shards))]
			switch n := rng.IntN(10); {
			case n < 5:
				var batch []event.Event
				for range 1 + rng.IntN(4) {
					batch = append(batch, sized(t, rng.IntN(1<<rng.IntN(16))))
				}
				if _, err := l.Append(t.Context(), b.info.UID, batch); err != nil {
					if !errors.Is(err, channel.ErrFull) && !errors.Is(err, channel.ErrTooLarge) {
						t.Fatal(err)
					}
					refusals++
				}
			case n < 8:
				to := min(s.next, s.scanned+channel.Position(rng.IntN(30)))
				added := roaring64.New()
				for p := s.scanned; p < to; p++ {
					if rng.IntN(4) == 0 {
						added.Add(uint64(p))
					}
				}
				settled := roaring64.New()
				if lane := s.lanes["t"]; lane != nil {
					for it := lane.Positions.Bitmap().Iterator(); it.HasNext(); {
						if p := it.Next(); rng.IntN(2) == 0 {
							settled.Add(p)
						}
					}
				}
				save(t, b, channel.ShardProgress{Shard: s.id, Scanned: to, Lanes: []channel.LaneProgress{{Trigger: "t", Added: added, Settled: settled}}})
			case n < 9:
				now = now.Add(time.Duration(rng.IntN(20)) * time.Second)
				l.expire()
			default:
				e := sized(t, 100)
				err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: channel.ID{Shard: s.id, Position: s.earliest()}, Trigger: "t", Event: e}})
				if err != nil && !errors.Is(err, channel.ErrFull) {
					t.Fatal(err)
				}
			}
			if err := balance(l, brokers); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
		}
	}
	if refusals < 20 {
		t.Errorf("only %d appends were ever refused: nothing was full", refusals)
	}
}

// balance checks the books of all brokers.
func balance(l *Log, brokers []*broker) error {
	all := int64(0)
	for _, b := range brokers {
		used, retainedBytes := b.dead.bytes, int64(0)
		for _, s := range b.shards {
			holds := 0
			for n, g := range s.segments {
				holds += g.bytes()
				kept, live, settled := 0, 0, 0
				for i, e := range g.index {
					if e.size == 0 {
						continue
					}
					kept, live = kept+1, live+int(e.size)
					if e.state == retained {
						settled++
						retainedBytes += int64(e.size + indexBytes)
						if g.base+channel.Position(i) < s.oldest {
							return fmt.Errorf("broker %s: a retained event below the oldest", b.name())
						}
					}
				}
				if kept != g.kept || live != g.live || settled != g.settled || kept == 0 || g.touched {
					return fmt.Errorf("broker %s: segment at %d says %d kept, %d bytes, %d settled; there are %d, %d, %d", b.name(), g.base, g.kept, g.live, g.settled, kept, live, settled)
				}
				if g.sealed && g.sparse() {
					return fmt.Errorf("broker %s: the segment at %d keeps %d bytes for %d", b.name(), g.base, len(g.slab), g.live)
				}
				if n < len(s.segments)-1 && !g.sealed {
					return fmt.Errorf("broker %s: the segment at %d is not sealed and not the last", b.name(), g.base)
				}
			}
			if holds != s.holds {
				return fmt.Errorf("broker %s: shard %d holds %d bytes and says %d", b.name(), s.id, holds, s.holds)
			}
			used += int64(holds)
		}
		if used != b.used || retainedBytes != b.retained {
			return fmt.Errorf("broker %s: uses %d bytes, %d retained, and says %d, %d", b.name(), used, retainedBytes, b.used, b.retained)
		}
		if b.used > b.bound() || b.retained > b.info.RetentionBytes {
			return fmt.Errorf("broker %s: uses %d of %d bytes, %d of %d retained", b.name(), b.used, b.bound(), b.retained, b.info.RetentionBytes)
		}
		all += used
	}
	if got := l.used.Load(); got != all || got > l.maxBytes {
		return fmt.Errorf("all brokers use %d bytes, the log says %d of %d", all, got, l.maxBytes)
	}
	return nil
}

func TestRemovedBrokerGivesItsBytesBack(t *testing.T) {
	l := New(Options{})
	l.running.Store(true)
	b, err := l.Broker(t.Context(), channel.BrokerInfo{UID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := l.Append(t.Context(), "a", []event.Event{sized(t, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: channel.ID{Position: 1}, Event: sized(t, 10)}}); err != nil {
		t.Fatal(err)
	}
	if err := l.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if used := l.used.Load(); used != 0 {
		t.Errorf("%d bytes are charged and nothing is there", used)
	}
}

func save(t *testing.T, b channel.BrokerLog, change channel.ShardProgress) {
	t.Helper()
	if err := b.SaveProgress(context.Background(), []channel.ShardProgress{change}); err != nil {
		t.Fatal(err)
	}
}

func sized(t *testing.T, size int) event.Event {
	t.Helper()
	var b event.Builder
	e, err := b.Set(event.AttrID, "1").Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t").
		SetData(make([]byte, size)).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}
