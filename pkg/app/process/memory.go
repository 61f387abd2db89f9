package process

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// memoryAtRest is what Go may use before its memory is held down at all.
	memoryAtRest = 64 << 20

	// leastHeadroom is what the heap may always grow by between two collections,
	// and above it half of what is alive: collecting more often than that would
	// cost more processor time than the memory is worth.
	leastHeadroom = 12 << 20

	memoryLooks = time.Second
)

// Frugal bounds what the heap grows by between two collections, until ctx ends.
// Left to itself Go lets it double: with a large backlog that would be the
// larger part of the process. It is a soft limit that goes up with what is alive,
// so it never has the collector run in circles. Where GOGC or GOMEMLIMIT is set
// somebody has decided otherwise, and it does nothing.
func Frugal(ctx context.Context) error {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		<-ctx.Done()
		return nil
	}
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	look := time.NewTicker(memoryLooks)
	defer look.Stop()
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	for {
		metrics.Read(samples)
		value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
		debug.SetMemoryLimit(memoryLimit(value(0), value(1)-value(2)-value(3)-value(4)-value(5)))
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// memoryLimit is the soft limit for a heap of which so much is alive, and what
// Go needs beside the heap.
func memoryLimit(live, beside int64) int64 {
	return max(memoryAtRest, live+beside+max(leastHeadroom, live/2))
}
