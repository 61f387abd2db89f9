package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
)

const (
	// aimBacklog is the resident memory of the broker at any time.
	aimBacklog = 256 << 20

	backlogRate  = 500 // events a second while latency is measured
	backlogLimit = 15 * time.Minute
	fillLimit    = 10 * time.Minute

	// deadRetry outlasts the run: nothing becomes a dead letter, everything stays pending.
	deadRetry = 1 << 20
)

// backlogCommand shows what a subscriber that is gone costs: the broker's
// memory while its events wait, and the latency of a trigger beside it before and after.
func backlogCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("backlog", flag.ContinueOnError)
	events := flags.Int("events", 1_000_000, "events that are to wait")
	if err := parse(flags, args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, backlogLimit)
	defer cancel()
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	return b.backlog(ctx, *events, out)
}

func (b *bench) backlog(ctx context.Context, events int, out io.Writer) error {
	nobody, err := freePort()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(b.dir, "backlog-")
	if err != nil {
		return err
	}
	t, err := startPenstock([]trigger{
		{name: "healthy", path: pathOne},
		{name: "dead", url: "http://" + nobody + "/", retry: deadRetry},
	})(ctx, b, dir)
	if err != nil {
		return err
	}
	defer t.stop()
	idle, _ := t.memory()
	fmt.Fprintf(out, "%s.\nOne broker on disk, two triggers that want everything; the subscriber of one refuses connections.\n", thisMachine(dir))

	var next uint64
	send := func(what string, events int, rate float64) (sample, error) {
		s, err := b.pass(ctx, what, t, only(pathOne), load.Options{
			Address: t.address, Path: ingressPath, Connections: connections, Size: eventSize,
			Events: events, Rate: rate, FirstID: next, Duration: fillLimit,
		})
		next += uint64(events)
		return s, err
	}
	before, err := send("before the backlog", 10*backlogRate, backlogRate)
	if err != nil {
		return err
	}
	fill, err := send("backlog", events, 0)
	if err != nil {
		return err
	}
	full, _ := t.memory()
	pending, err := pendingEvents(ctx, t.metrics, "dead")
	if err != nil {
		return err
	}
	after, err := send("beside the backlog", 20*backlogRate, backlogRate)
	if err != nil {
		return err
	}
	_, peak := t.memory()

	verdict := "holds"
	if peak > aimBacklog {
		verdict = "missed"
	}
	fmt.Fprintf(out, "\npending on the dead trigger           %s events of %d bytes\n", thousands(int(pending)), eventSize)
	fmt.Fprintf(out, "resident memory, idle / full / peak   %d / %d / %d MiB (aim %d: %s)\n", idle>>20, full>>20, peak>>20, aimBacklog>>20, verdict)
	fmt.Fprintf(out, "healthy trigger                       every accepted event came, %d duplicates\n", before.duplicates+fill.duplicates+after.duplicates)
	fmt.Fprintf(out, "  before the backlog, %d/s           p50 %s ms, p99 %s ms\n", backlogRate, ms(before.endToEnd.p50), ms(before.endToEnd.p99))
	fmt.Fprintf(out, "  beside the backlog, %d/s           p50 %s ms, p99 %s ms\n", backlogRate, ms(after.endToEnd.p50), ms(after.endToEnd.p99))
	fmt.Fprintf(out, "filling                               %s events/s, %.1f µs of processor time per event, attempts at the dead subscriber included\n", thousands(int(fill.perSecond)), fill.cpu)
	if pending < uint64(events) {
		return &voidError{fmt.Sprintf("%d events pending, want %d: %d refused", pending, events, fill.refused)}
	}
	return nil
}
