// Command bench measures what an event costs: processor time per event of
// Penstock beside nginx, beside the smallest brokers that Go's HTTP libraries allow
// and beside Knative's own, all in the same run. It promises that every figure it
// prints comes from a run in which every accepted event was seen at each of its
// subscribers; otherwise it says why the run is void and exits 1, or 3 where the
// machine was merely too busy to compare anything. A bound that is missed is
// exit 1 too. It needs Linux (/proc) and the Go toolchain, and starts and ends all
// its processes itself.
//
//	go run ./test/bench            15 minutes; rewrites docs/performance.md and docs/performance.svg
//	go run ./test/bench -quick     2 minutes; prints only
//	go run ./test/bench -rows NAME,...  some rows only; prints only
//	go run ./test/bench backlog    memory with 1,000,000 pending events
//	go run ./test/bench cluster    beside Knative's own Broker class, on a cluster whose node is this machine
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case errors.As(err, new(*busyError)):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(exitBusy)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// exitBusy tells a run that shows nothing from one that shows a fault.
const exitBusy = 3

// errUsage marks what the person at the keyboard can put right.
var errUsage = errors.New("wrong use")

func command(ctx context.Context, args []string, out io.Writer) error {
	name := "run"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		name, args = args[0], args[1:]
	}
	switch name {
	case "run":
		return runCommand(ctx, args, out)
	case "backlog":
		return backlogCommand(ctx, args, out)
	case "rerun":
		return rerunCommand(ctx, args, out)
	case "load":
		return loadCommand(ctx, args, out)
	case "sink":
		return sinkCommand(ctx, args)
	case "floor":
		return floorCommand(ctx, args)
	case "cluster":
		return clusterCommand(ctx, args, out)
	case "knative", "knative-ingress", "knative-channel", "knative-filter":
		return knativeCommand(ctx, name, args)
	case "split":
		return splitCommand(ctx, args)
	case "split-ingress":
		return splitIngressCommand(ctx, args)
	case "split-dispatcher":
		return splitDispatcherCommand(ctx, args)
	}
	return fmt.Errorf("%w: unknown command %q: want run, backlog, rerun, cluster, load, sink, floor or knative", errUsage, name)
}

// parse reads flags; there are no other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: unknown argument %q", errUsage, flags.Arg(0))
	}
	return nil
}
