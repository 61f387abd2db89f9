package process

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestTheLimitLeavesTheCollectorRoomWhateverIsAlive(t *testing.T) {
	for live := int64(1 << 20); live < 1<<40; live *= 2 {
		for _, scanned := range []int64{0, live / 2, live} {
			limit := memoryLimit(live, scanned, 10<<20)
			if room := limit - live - 10<<20; room < leastHeadroom || room < scanned || room < live/16 {
				t.Errorf("%d MiB alive, %d looked through: %d MiB of room", live>>20, scanned>>20, room>>20)
			}
			if live >= 64<<20 && limit > 2*live+10<<20 {
				t.Errorf("%d MiB alive: a limit of %d MiB is none", live>>20, limit>>20)
			}
		}
	}
}

// What is alive is known after a collection, and then the limit follows.
func TestTheLimitGoesUpWithWhatIsAlive(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Frugal(ctx) }()
	held := make([]byte, 256<<20)
	for end := time.Now().Add(30 * time.Second); debug.SetMemoryLimit(-1) < 256<<20 || debug.SetMemoryLimit(-1) == math.MaxInt64; {
		runtime.GC()
		if time.Now().After(end) {
			t.Fatalf("limit %d with 256 MiB alive", debug.SetMemoryLimit(-1))
		}
	}
	runtime.KeepAlive(held)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
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
