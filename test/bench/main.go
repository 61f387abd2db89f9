// Command bench measures what an event costs: processor time per event of
// Penstock beside nginx and the smallest brokers that Go's HTTP libraries allow,
// all in the same run. It promises that every figure it prints comes from a run
// in which every accepted event was seen at its subscriber; otherwise it says
// why the run is void and exits 1, or 3 where the machine was merely too busy
// to compare anything. It needs Linux (/proc) and the Go toolchain,
// and starts and ends all its processes itself.
//
//	go run ./test/bench            10 minutes; rewrites docs/performance.md
//	go run ./test/bench -quick     2 minutes; prints only
//	go run ./test/bench backlog    memory with 1,000,000 pending events
//	go run ./test/bench cluster    beside Knative's own Broker class, on a cluster whose node is this machine
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/test/bench/floor"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
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
	case "split":
		return splitCommand(ctx, args)
	case "split-ingress":
		return splitIngressCommand(ctx, args)
	case "split-dispatcher":
		return splitDispatcherCommand(ctx, args)
	}
	return fmt.Errorf("%w: unknown command %q: want run, backlog, rerun, load, sink or floor", errUsage, name)
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

func loadCommand(ctx context.Context, args []string, out io.Writer) error {
	var o load.Options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.StringVar(&o.Address, "address", "127.0.0.1:8080", "host:port of the broker")
	flags.StringVar(&o.Path, "path", ingressPath, "path of the broker")
	flags.IntVar(&o.Connections, "c", connections, "connections at once")
	flags.IntVar(&o.Events, "n", 0, "events to send")
	flags.DurationVar(&o.Duration, "duration", 0, "how long to send")
	flags.Float64Var(&o.Rate, "rate", 0, "events a second; 0 sends as fast as it is answered")
	flags.IntVar(&o.Size, "size", eventSize, "bytes of each event's body")
	flags.Uint64Var(&o.FirstID, "first-id", 0, "id of the first event")
	flags.IntVar(&o.FirstType, "first-type", 0, "number of the first event type")
	flags.IntVar(&o.Types, "types", 1, "number of event types, in turn")
	ids := flags.String("ids", "", "file to write the accepted ids to")
	if err := parse(flags, args); err != nil {
		return err
	}
	accepted := new(tally.Bitset)
	r, err := load.Run(ctx, o, accepted)
	if err != nil {
		return err
	}
	if *ids != "" {
		if err := writeIDs(*ids, accepted); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(r)
}

func writeIDs(name string, ids *tally.Bitset) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = ids.WriteTo(f)
	return err
}

func sinkCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("sink", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8090", "address for events")
	control := flags.String("control", "127.0.0.1:8091", "address for /stats, /ids and /reset")
	if err := parse(flags, args); err != nil {
		return err
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	var s sink.Sink
	server := &http.Server{Addr: *control, Handler: s.Control(), ReadHeaderTimeout: 5 * time.Second}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			cancel(err)
		}
	}()
	if err := s.Serve(ctx, l); err != nil {
		return err
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func floorCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("floor", flag.ContinueOnError)
	listen := flags.String("listen", "127.0.0.1:8080", "address for events")
	target := flags.String("target", "", "URL to forward to")
	library := flags.String("library", "nethttp", "nethttp or fasthttp")
	if err := parse(flags, args); err != nil {
		return err
	}
	serve, ok := map[string]func(context.Context, net.Listener, string, *slog.Logger) error{
		"nethttp": floor.NetHTTP, "fasthttp": floor.FastHTTP,
	}[*library]
	if !ok {
		return fmt.Errorf("%w: library %q: want nethttp or fasthttp", errUsage, *library)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return serve(ctx, l, *target, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}
