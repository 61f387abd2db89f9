package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
)

// plan is how a system is measured.
type plan struct {
	warm        int // events before the clock starts
	events      int
	connections int
	rate        float64 // events a second; 0 is a closed loop
}

const (
	eventSize   = 1024
	connections = 64

	// trialLimit bounds one trial, whatever hangs.
	trialLimit = 2 * time.Minute

	// sendLimit bounds the sending, on a machine that others use too.
	sendLimit = 30 * time.Second

	// startTries is how often a start is tried whose port somebody else has taken meanwhile.
	startTries = 3
)

// sample is what one trial has found. What a trial does not measure is 0.
type sample struct {
	cpu         float64 // microseconds of processor time per event accepted
	perDelivery float64 // the same per event and path it came out at
	perSecond   float64 // events accepted and delivered
	mallocs     float64 // objects allocated on the heap per event accepted; unknown where negative
	accept      quantiles
	endToEnd    quantiles // at the first path
	peak        int64     // bytes resident
	accepted    uint64
	refused     uint64
	duplicates  uint64

	perPending float64 // bytes resident for each event that waits
	idle       idle
}

type quantiles struct{ p50, p99 time.Duration }

// unknown is a figure that a system does not tell.
const unknown = -1

// voidError says why a measurement proves nothing.
type voidError struct{ reason string }

func (e *voidError) Error() string { return "void: " + e.reason }

// busyError says that the machine was too busy to compare anything. Nothing
// is wrong with the broker, and nothing is shown either.
type busyError struct{ reason string }

func (e *busyError) Error() string { return e.reason }

// outlets are where every event must come out at the sink, and which of these
// take their time.
type outlets struct {
	paths []string
	slow  map[string]time.Duration
}

func only(path string) outlets { return outlets{paths: []string{path}} }

// trial starts a system in a folder of its own, warms it up, sends, waits
// until everything has come out, and checks every id.
func (b *bench) trial(ctx context.Context, sys system, p plan) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	t, end, err := b.begin(ctx, sys)
	if err != nil {
		return s, err
	}
	defer end()
	send := load.Options{
		Address: t.address, Path: ingressPath, Connections: p.connections, Size: eventSize,
		FirstType: sys.firstType, Types: sys.types, Duration: sendLimit,
	}
	if p.warm > 0 {
		send.Events = p.warm
		if _, err := b.pass(ctx, sys.name, t, sys.out(), send); err != nil {
			return s, fmt.Errorf("warm-up: %w", err)
		}
	}
	send.Events, send.FirstID, send.Rate = p.events, uint64(p.warm), p.rate
	return b.pass(ctx, sys.name, t, sys.out(), send)
}

// begin starts a system in a folder of its own; end stops it and removes the folder.
func (b *bench) begin(ctx context.Context, sys system) (t *target, end func(), err error) {
	for try := 1; ; try++ {
		dir, err := os.MkdirTemp(b.dir, "trial-")
		if err != nil {
			return nil, nil, err
		}
		if t, err = sys.start(ctx, b, dir); err == nil {
			return t, func() { t.stop(); os.RemoveAll(dir) }, nil
		}
		os.RemoveAll(dir)
		// A free port is free until somebody takes it.
		taken := strings.Contains(err.Error(), "address already in use") || strings.Contains(err.Error(), "uses this address")
		if try == startTries || !taken {
			return nil, nil, err
		}
	}
}

// pass sends once through a system that runs, from an empty sink to the last
// delivery.
func (b *bench) pass(ctx context.Context, name string, t *target, out outlets, o load.Options) (s sample, err error) {
	if err := b.sink.reset(ctx); err != nil {
		return s, err
	}
	for path, delay := range out.slow {
		if err := b.sink.slow(ctx, path, delay); err != nil {
			return s, err
		}
	}
	mallocs, err := t.mallocs(ctx)
	if err != nil {
		return s, err
	}
	before, err := t.cpu()
	if err != nil {
		return s, err
	}
	begin := time.Now()
	sent, accepted, err := b.load(ctx, o)
	if err != nil {
		return s, err
	}
	if err := b.sink.drain(ctx, out.paths, sent.Accepted); err != nil {
		return s, err
	}
	took := time.Since(begin)
	time.Sleep(settle)
	after, err := t.cpu()
	if err != nil {
		return s, err
	}
	_, peak := t.memory()
	mallocsAfter, err := t.mallocs(ctx)
	if err != nil {
		return s, err
	}
	stats, err := b.sink.stats(ctx)
	if err != nil {
		return s, err
	}
	if err := t.alive(); err != nil {
		return s, err
	}
	switch {
	case sent.Accepted == 0:
		return s, &voidError{fmt.Sprintf("%s: nothing was accepted: %v %s", name, sent.Status, sent.Error)}
	case sent.Errors > 0:
		return s, &voidError{fmt.Sprintf("%s: %d requests had no answer: %s", name, sent.Errors, sent.Error)}
	case stats.Bad > 0:
		return s, &voidError{fmt.Sprintf("%s: %d deliveries were not understood", name, stats.Bad)}
	case stats.Paths[pathNone].Events > 0:
		return s, &voidError{fmt.Sprintf("%s: %d deliveries to triggers that do not match", name, stats.Paths[pathNone].Events)}
	}
	for _, path := range out.paths {
		seen, err := b.sink.ids(ctx, path)
		if err != nil {
			return s, err
		}
		if missing := accepted.Missing(seen); missing > 0 {
			return s, &voidError{fmt.Sprintf("%s: %d of %d accepted events never came out at %s: %s", name, missing, sent.Accepted, path, t.tail())}
		}
		s.duplicates += stats.Paths[path].Duplicates
	}
	events := float64(sent.Accepted)
	s.cpu = float64((after - before).Microseconds()) / events
	if n := len(out.paths); n > 0 {
		s.perDelivery = s.cpu / float64(n)
		first := stats.Paths[out.paths[0]]
		s.endToEnd = quantiles{first.P50, first.P99}
	}
	s.perSecond = events / took.Seconds()
	s.mallocs = unknown
	if mallocs != unknown {
		s.mallocs = (mallocsAfter - mallocs) / events
	}
	s.accept = quantiles{sent.P50, sent.P99}
	s.peak, s.accepted, s.refused = peak, sent.Accepted, sent.Refused
	return s, nil
}
