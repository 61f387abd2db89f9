package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
)

// plan is how each system is measured.
type plan struct {
	warm   int // events before the clock starts
	events int
	rate   float64 // 0 is a closed loop
}

const (
	eventSize   = 1024
	connections = 64

	// trialLimit bounds one trial, whatever hangs.
	trialLimit = 2 * time.Minute

	// sendLimit bounds the sending, on a machine that others use too.
	sendLimit = 20 * time.Second
)

// sample is one trial of one system.
type sample struct {
	cpu        float64 // microseconds of processor time per event accepted
	perSecond  float64 // events accepted and delivered
	accept     quantiles
	endToEnd   quantiles
	peak       int64 // bytes resident
	accepted   uint64
	refused    uint64
	duplicates uint64
}

type quantiles struct{ p50, p99 time.Duration }

// voidError says why a measurement proves nothing.
type voidError struct{ reason string }

func (e *voidError) Error() string { return "void: " + e.reason }

// busyError says that the machine was too busy to compare anything. Nothing
// is wrong with the broker, and nothing is shown either.
type busyError struct{ reason string }

func (e *busyError) Error() string { return e.reason }

// trial starts a system in a folder of its own, warms it up, sends, waits
// until everything has come out, and checks every id.
func (b *bench) trial(ctx context.Context, sys system, p plan) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, trialLimit)
	defer cancel()
	dir, err := os.MkdirTemp(b.dir, "trial-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	t, err := sys.start(ctx, b, dir)
	if err != nil {
		return s, err
	}
	defer t.stop()
	send := load.Options{
		Address: t.address, Path: ingressPath, Connections: connections, Size: eventSize,
		FirstType: sys.firstType, Types: sys.types, Duration: sendLimit,
	}
	if p.warm > 0 {
		send.Events = p.warm
		if _, err := b.pass(ctx, sys.name, t, send); err != nil {
			return s, fmt.Errorf("warm-up: %w", err)
		}
	}
	send.Events, send.FirstID, send.Rate = p.events, uint64(p.warm), p.rate
	return b.pass(ctx, sys.name, t, send)
}

// pass sends once through a system that runs, from an empty sink to the last
// delivery.
func (b *bench) pass(ctx context.Context, name string, t *target, o load.Options) (s sample, err error) {
	if err := b.sink.reset(ctx); err != nil {
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
	if err := b.sink.drain(ctx, pathOne, sent.Accepted); err != nil {
		return s, err
	}
	took := time.Since(begin)
	time.Sleep(settle)
	after, err := t.cpu()
	if err != nil {
		return s, err
	}
	_, peak := t.memory()
	stats, err := b.sink.stats(ctx)
	if err != nil {
		return s, err
	}
	seen, err := b.sink.ids(ctx, pathOne)
	if err != nil {
		return s, err
	}
	if err := t.alive(); err != nil {
		return s, err
	}
	missing := accepted.Missing(seen)
	switch {
	case missing > 0:
		return s, &voidError{fmt.Sprintf("%s: %d of %d accepted events never came out: %s", name, missing, sent.Accepted, t.tail())}
	case sent.Accepted == 0:
		return s, &voidError{fmt.Sprintf("%s: nothing was accepted: %v %s", name, sent.Status, sent.Error)}
	case sent.Errors > 0:
		return s, &voidError{fmt.Sprintf("%s: %d requests had no answer: %s", name, sent.Errors, sent.Error)}
	case stats.Bad > 0:
		return s, &voidError{fmt.Sprintf("%s: %d deliveries were not understood", name, stats.Bad)}
	case stats.Paths[pathNone].Events > 0:
		return s, &voidError{fmt.Sprintf("%s: %d deliveries to triggers that do not match", name, stats.Paths[pathNone].Events)}
	}
	one := stats.Paths[pathOne]
	return sample{
		cpu:        float64((after - before).Microseconds()) / float64(sent.Accepted),
		perSecond:  float64(sent.Accepted) / took.Seconds(),
		accept:     quantiles{sent.P50, sent.P99},
		endToEnd:   quantiles{one.P50, one.P99},
		peak:       peak,
		accepted:   sent.Accepted,
		refused:    sent.Refused,
		duplicates: one.Duplicates,
	}, nil
}
