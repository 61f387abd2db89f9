package owned_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/channel/owned"
	"github.com/penstock-events/penstock/pkg/event"
)

// third is the first shard of the dispatcher with ordinal 2.
const third = 32

func TestOwnedMemoryKeepsTheContract(t *testing.T) {
	channeltest.Run(t, func(*testing.T) channel.Log {
		return owned.New(memory.New(memory.Options{}), owned.First(2))
	}, channeltest.FullIs(channel.ErrFull), channeltest.NumbersFrom(third))
}

func TestFirstOwnerKeepsTheContract(t *testing.T) {
	channeltest.Run(t, func(*testing.T) channel.Log {
		return owned.New(memory.New(memory.Options{}), owned.First(0))
	}, channeltest.FullIs(channel.ErrFull))
}

var small = disk.Options{SegmentSize: 256 << 10, TailBytes: 64 << 10}

func open(t *testing.T, dir string) channel.Log {
	t.Helper()
	log, err := disk.Open(dir, small)
	if err != nil {
		t.Fatal(err)
	}
	return owned.New(log, third)
}

func TestOwnedDiskKeepsTheContract(t *testing.T) {
	if testing.Short() {
		t.Skip("syncs for seconds, and says little that memory does not")
	}
	channeltest.Run(t, func(t *testing.T) channel.Log { return open(t, t.TempDir()) }, channeltest.NumbersFrom(third))
}

func TestOwnedDiskSurvivesCrashes(t *testing.T) {
	if testing.Short() {
		t.Skip("syncs for seconds")
	}
	channeltest.RunDurable(t, func(t *testing.T) func(*testing.T, bool) channel.Log {
		dir := t.TempDir()
		return func(t *testing.T, crash bool) channel.Log {
			if crash {
				dir = copied(t, dir)
			}
			return open(t, dir)
		}
	}, channeltest.NumbersFrom(third))
}

// copied is a store as a crash of its owner would leave it. Checkpoints come
// first, for each speaks of segments as they were before it.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	sort.SliceStable(entries, func(i, j int) bool {
		return strings.HasSuffix(entries[i].Name(), ".ckpt") && !strings.HasSuffix(entries[j].Name(), ".ckpt")
	})
	for _, e := range entries {
		if e.Name() == "LOCK" || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed since the listing
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func anEvent(t *testing.T) event.Event {
	t.Helper()
	var b event.Builder
	e, err := b.Set(event.AttrID, "1").Set(event.AttrSource, "/s").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "t").Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestOptionalFacesAreThoseOfTheLogBehind(t *testing.T) {
	plain := memory.New(memory.Options{})
	full, err := disk.Open(t.TempDir(), small)
	if err != nil {
		t.Fatal(err)
	}
	end, cancel := context.WithCancel(t.Context())
	cancel()
	defer func() { _ = full.Run(end) }()
	for _, tt := range []struct {
		name              string
		inner             channel.Log
		examines, latches bool
	}{
		{"memory", plain, false, false},
		{"disk", full, true, true},
		{"examines", struct {
			channel.Log
			channel.Examiner
		}{plain, full}, true, false},
		{"latches", struct {
			channel.Log
			latched
		}{plain, latched{}}, false, true},
	} {
		log := owned.New(tt.inner, third)
		examiner, examines := log.(channel.Examiner)
		latch, latches := log.(interface{ Latched() error })
		if examines != tt.examines || latches != tt.latches {
			t.Errorf("%s: examines %v, latches %v", tt.name, examines, latches)
		}
		if examines && len(examiner.Examine()) == 0 {
			t.Errorf("%s: nothing is examined", tt.name)
		}
		if latches && (latch.Latched() != nil) != (tt.name == "latches") {
			t.Errorf("%s: latched says %v", tt.name, latch.Latched())
		}
		if owned.Unwrap(log) != tt.inner {
			t.Errorf("%s: unwrapped it is another log", tt.name)
		}
	}
	if owned.Unwrap(plain) != channel.Log(plain) {
		t.Error("a log that is not owned is unwrapped to another")
	}
}

type latched struct{}

func (latched) Latched() error { return errors.New("disk error") }

func TestNobodyTakesAnothersNumbers(t *testing.T) {
	inner := memory.New(memory.Options{})
	log := owned.New(inner, third)
	if _, err := log.Broker(t.Context(), channel.BrokerInfo{UID: "a", Shards: 17}); err == nil {
		t.Error("17 shards, and the last is the next dispatcher's")
	}
	b, err := log.Broker(t.Context(), channel.BrokerInfo{UID: "b", Shards: 16})
	if err != nil {
		t.Fatal(err)
	}
	if s := b.Shards(); s[0] != third || s[15] != third+15 {
		t.Errorf("shards %v", s)
	}
	// Made before by somebody who knew nothing of owners.
	if _, err := inner.Broker(t.Context(), channel.BrokerInfo{UID: "c", Shards: 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := log.Broker(t.Context(), channel.BrokerInfo{UID: "c"}); err == nil {
		t.Error("it has 20 shards")
	}
	again, err := log.Broker(t.Context(), channel.BrokerInfo{UID: "b"})
	if err != nil || again != b {
		t.Errorf("opened again it is another broker; error %v", err)
	}
	if err := log.Remove(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if again, err = log.Broker(t.Context(), channel.BrokerInfo{UID: "b"}); err != nil || again == b {
		t.Errorf("removed and made again it is the same broker; error %v", err)
	}
}

// odd is a broker with gaps, that keeps what it is given.
type odd struct {
	channel.BrokerLog
	gaps    []channel.Gap
	err     error
	routes  []channel.Routes
	changes []channel.ShardProgress
	letters []channel.DeadLetter
}

func (o *odd) Shards() []channel.ShardID { return []channel.ShardID{0, 1} }
func (o *odd) Gaps() []channel.Gap       { return o.gaps }
func (o *odd) Routes() []channel.Routes  { return o.routes }
func (o *odd) Info() channel.BrokerInfo  { return channel.BrokerInfo{UID: "a"} }
func (o *odd) Get(_ context.Context, shard channel.ShardID, _ []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	if shard > 1 {
		return buf, errors.New("no such shard")
	}
	return buf, o.err
}
func (o *odd) SaveProgress(_ context.Context, changes []channel.ShardProgress) error {
	o.changes = append(o.changes, changes...)
	return nil
}
func (o *odd) DeadByNumber(context.Context, []uint64) ([]channel.DeadLetter, error) {
	return o.letters, nil
}
func (o *odd) FindDead(_ context.Context, _ channel.UID, id channel.ID) (channel.DeadLetter, bool, error) {
	for _, l := range o.letters {
		if l.ID == id {
			return l, true, nil
		}
	}
	return channel.DeadLetter{}, false, nil
}
func (o *odd) AppendDead(_ context.Context, letters []channel.DeadLetter) error {
	o.letters = letters
	return nil
}

// oddLog has one odd broker.
type oddLog struct {
	channel.Log
	b *odd
}

func (l oddLog) Broker(context.Context, channel.BrokerInfo) (channel.BrokerLog, error) {
	return l.b, nil
}

func TestGapsHaveTheNumbersSeenFromOutside(t *testing.T) {
	inner := &odd{gaps: []channel.Gap{{Shard: 1, From: 5}, {Dead: true, From: 7}}}
	b, err := owned.New(oddLog{b: inner}, third).Broker(t.Context(), channel.BrokerInfo{UID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Gaps(); got[0].Shard != third+1 || got[1].Shard != 0 || inner.gaps[0].Shard != 1 {
		t.Errorf("gaps %+v; the log's own are %+v", got, inner.gaps)
	}
	one, two := &channel.GapError{Shard: 0, From: 1, To: 2, Cause: errors.New("sum")}, &channel.GapError{Shard: 1, From: 3, To: 4, Lost: true, Cause: errors.New("sum")}
	get := func(err error) error {
		inner.err = err
		_, err = b.Get(t.Context(), third, []channel.Position{1}, nil)
		return err
	}
	var gap *channel.GapError
	if err := get(one); !errors.As(err, &gap) || gap.Shard != third || gap.From != 1 || one.Shard != 0 {
		t.Errorf("one gap: %v; the log's own: %v", err, one)
	}
	joined, ok := get(errors.Join(one, two, channel.ErrClosed)).(interface{ Unwrap() []error })
	if !ok {
		t.Fatal("several gaps are one error")
	}
	all := joined.Unwrap()
	if len(all) != 3 || all[0].(*channel.GapError).Shard != third || all[1].(*channel.GapError).Shard != third+1 || !all[1].(*channel.GapError).Lost || all[2] != channel.ErrClosed {
		t.Errorf("several gaps: %v", all)
	}
	if err := get(channel.ErrClosed); err != channel.ErrClosed {
		t.Errorf("no gap: %v", err)
	}
}

func TestWhatIsPassedInAndWhatTheLogKeepsStayAsTheyAre(t *testing.T) {
	from := map[channel.ShardID]channel.Position{0: 3, 1: 4}
	inner := &odd{routes: []channel.Routes{{Epoch: 1, From: from, Whole: true}, {Epoch: 2}}}
	b, err := owned.New(oddLog{b: inner}, third).Broker(t.Context(), channel.BrokerInfo{UID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	got := b.Routes()
	if !maps.Equal(got[0].From, map[channel.ShardID]channel.Position{third: 3, third + 1: 4}) || !maps.Equal(from, map[channel.ShardID]channel.Position{0: 3, 1: 4}) || inner.routes[0].From[0] != 3 {
		t.Errorf("routes %v; the log's own are %v", got, inner.routes)
	}
	changes := []channel.ShardProgress{{Shard: third + 1, Scanned: 9, Lanes: []channel.LaneProgress{{Trigger: "t", Added: roaring64.BitmapOf(4)}}}}
	if err := b.SaveProgress(t.Context(), changes); err != nil || changes[0].Shard != third+1 || inner.changes[0].Shard != 1 || inner.changes[0].Scanned != 9 {
		t.Errorf("progress %+v became %+v; error %v", changes, inner.changes, err)
	}
	letters := []channel.DeadLetter{{ID: channel.ID{Shard: third, Position: 5}, Event: anEvent(t)}}
	if err := b.AppendDead(t.Context(), letters); err != nil || letters[0].ID.Shard != third || inner.letters[0].ID.String() != "0-5" {
		t.Errorf("dead letters %+v became %+v; error %v", letters, inner.letters, err)
	}
	if got, err := b.DeadByNumber(t.Context(), []uint64{1}); err != nil || got[0].ID.Shard != third || inner.letters[0].ID.Shard != 0 {
		t.Errorf("letters by number %+v; the log's own are %+v; error %v", got, inner.letters, err)
	}
	if got, found, err := b.FindDead(t.Context(), "t", letters[0].ID); err != nil || !found || got.ID != letters[0].ID {
		t.Errorf("found %v as %s, error %v", found, got.ID, err)
	}
	if _, found, err := b.FindDead(t.Context(), "t", channel.ID{Shard: 0, Position: 5}); err != nil || found {
		t.Errorf("by the number inside: found %v, error %v", found, err)
	}
	// The numbers inside are nobody's outside.
	for _, shard := range []channel.ShardID{0, 1, third - 1, third + 2} {
		if err := b.SaveProgress(t.Context(), []channel.ShardProgress{{Shard: shard}}); err == nil {
			t.Errorf("progress of shard %d is saved", shard)
		}
		err := b.AppendDead(t.Context(), []channel.DeadLetter{{ID: channel.ID{Shard: shard, Position: 1}}})
		if refused := (*channel.Refused)(nil); !errors.As(err, &refused) {
			t.Errorf("dead letter of shard %d: %v", shard, err)
		}
		if p := b.Progress(shard); p.Shard != shard || p.Scanned != 0 {
			t.Errorf("progress of shard %d is %+v", shard, p)
		}
	}
	if !slices.Equal(b.Shards(), []channel.ShardID{third, third + 1}) {
		t.Errorf("shards %v", b.Shards())
	}
	b.Shards()[0] = 0
	if b.Shards()[0] != third {
		t.Error("who asks for the shards can change them")
	}
}
