package process

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// memoryAtRest is what Go may use before its memory is held down at all.
	memoryAtRest = 64 << 20

	// leastHeadroom is what the heap may always grow by between two collections.
	// Above it, it may grow by what a collection has to look through, or by
	// a sixteenth of all that is alive: stored events are not looked through, and
	// collecting more often than that would cost more processor time than the
	// memory is worth.
	leastHeadroom = 12 << 20
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
	collected := make(chan struct{}, 1)
	afterEachCollection(ctx, collected)
	samples := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/scan/heap:bytes"},
	}
	for {
		metrics.Read(samples)
		value := func(i int) int64 { return int64(samples[i].Value.Uint64()) }
		debug.SetMemoryLimit(memoryLimit(value(0), value(6), value(1)-value(2)-value(3)-value(4)-value(5)))
		select {
		case <-collected:
		case <-ctx.Done():
			return nil
		}
	}
}

// afterEachCollection sends when a collection has ended: then it is known what
// is alive, and an idle process is not woken for it.
func afterEachCollection(ctx context.Context, to chan<- struct{}) {
	runtime.AddCleanup(new([16]byte), func(struct{}) {
		if ctx.Err() == nil {
			select {
			case to <- struct{}{}:
			default:
			}
			afterEachCollection(ctx, to)
		}
	}, struct{}{})
}

// memoryLimit is the soft limit for a heap of which so much is alive and so much
// is to be looked through, and what Go needs beside the heap.
func memoryLimit(live, scanned, beside int64) int64 {
	return max(memoryAtRest, live+beside+max(leastHeadroom, scanned, live/16))
}
