package disk_test

import (
	"math/rand/v2"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/proof"
)

// TestHistoriesAgreeWithTheModel plays random histories on disk, with closes,
// power cuts and reopenings in between, and on memory, and compares both with
// the same model.
func TestHistoriesAgreeWithTheModel(t *testing.T) {
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 3_000) {
		if n%4 == 3 {
			channeltest.PlayHistory(t, seed+uint64(n), 60, false, func(*testing.T, bool) channel.Log {
				return memory.New(memory.Options{})
			}, channeltest.FullIs(channel.ErrFull))
			continue
		}
		rng := proof.Rand(seed, n)
		channeltest.PlayHistory(t, seed+uint64(n), 60, true, onMemfs(rng, disk.MinSegmentSize))
	}
}

// onMemfs is what RunDurable asks for, with power cuts for crashes.
func onMemfs(rng *rand.Rand, segment int64) func(*testing.T, bool) channel.Log {
	fs := memfs.New(memfs.Options{})
	return func(t *testing.T, crash bool) channel.Log {
		if crash {
			fs = fs.Crash(rng)
		}
		l, err := disk.Open(lifeDir, disk.Options{FS: fs, SegmentSize: segment, TailBytes: 16 << 10})
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}

func TestDiskSurvivesPowerCuts(t *testing.T) {
	seed := proof.Seed(t)
	channeltest.RunDurable(t, func(*testing.T) func(*testing.T, bool) channel.Log { return onMemfs(proof.Rand(seed, 0), 256<<10) })
}
