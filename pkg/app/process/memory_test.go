package process

import (
	"context"
	"math"
	"runtime/debug"
	"testing"
	"time"
)

func TestTheLimitLeavesTheCollectorRoomWhateverIsAlive(t *testing.T) {
	for live := int64(1 << 20); live < 1<<40; live *= 2 {
		limit := memoryLimit(live, 10<<20)
		if room := limit - live - 10<<20; room < leastHeadroom || room < live/2 {
			t.Errorf("%d MiB alive: %d MiB of room", live>>20, room>>20)
		}
		if live >= 64<<20 && limit > live*2 {
			t.Errorf("%d MiB alive: a limit of %d MiB is none", live>>20, limit>>20)
		}
	}
}

// The limit is there while the process runs, and is gone after it; who has set
// another keeps it.
func TestWhoSetsALimitKeepsIt(t *testing.T) {
	run := func() (during int64) {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- Frugal(ctx) }()
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && debug.SetMemoryLimit(-1) == math.MaxInt64; {
			time.Sleep(time.Millisecond)
		}
		during = debug.SetMemoryLimit(-1)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		return during
	}
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	if during := run(); during < memoryAtRest || during == math.MaxInt64 {
		t.Errorf("limit %d while it runs", during)
	}
	if after := debug.SetMemoryLimit(-1); after != math.MaxInt64 {
		t.Errorf("limit %d after it", after)
	}
	t.Setenv("GOMEMLIMIT", "off")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Frugal(ctx); err != nil || debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("limit %d where GOMEMLIMIT is set, error %v", debug.SetMemoryLimit(-1), err)
	}
}
