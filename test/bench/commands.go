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
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/test/bench/floor"
	"github.com/penstock-events/penstock/test/bench/knative"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
)

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
	targets := flags.String("targets", "", "URLs to forward to, with commas between; each event goes to all")
	kind := flags.String("kind", "nethttp", "nethttp, fasthttp or durable")
	dir := flags.String("dir", "", "folder that durable writes to")
	if err := parse(flags, args); err != nil {
		return err
	}
	serve, ok := map[string]floor.Serve{"nethttp": floor.NetHTTP, "fasthttp": floor.FastHTTP, "durable": floor.Durable}[*kind]
	if !ok {
		return fmt.Errorf("%w: kind %q: want nethttp, fasthttp or durable", errUsage, *kind)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	return serve(ctx, l, floor.Options{
		Targets: strings.Split(*targets, ","), Dir: *dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
}

// knativeCommand runs Knative's data plane as three children, or one part of it.
func knativeCommand(ctx context.Context, name string, args []string) error {
	var o knative.Options
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.StringVar(&o.Ingress, "ingress", "127.0.0.1:8080", "address for events")
	flags.StringVar(&o.Channel, "channel", "127.0.0.1:8081", "address of the channel's dispatcher")
	flags.StringVar(&o.Filter, "filter", "127.0.0.1:8082", "address of the filter")
	flags.IntVar(&o.Triggers, "triggers", 1, "Triggers, of which the middle one matches")
	flags.StringVar(&o.Target, "target", "", "URL of the subscriber that matches")
	flags.StringVar(&o.Other, "other", "", "URL of the others")
	if err := parse(flags, args); err != nil {
		return err
	}
	if role, ok := strings.CutPrefix(name, "knative-"); ok {
		return knative.Run(ctx, role, o)
	}
	roles := make([]string, len(knative.Roles))
	for i, role := range knative.Roles {
		roles[i] = "knative-" + role
	}
	return children(ctx, roles, args)
}

// children runs commands of this program with the same arguments, until it is
// told to stop or one of them ends: one without the others is of no use.
func children(ctx context.Context, commands, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(commands))
	started := 0
	for _, command := range commands {
		cmd := exec.CommandContext(ctx, self, append([]string{command}, args...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = stopTimeout
		if err = cmd.Start(); err != nil {
			cancel()
			break
		}
		started++
		go func() { ended <- cmd.Wait() }()
	}
	errs := []error{err}
	for range started {
		if err := <-ended; err != nil && ctx.Err() == nil {
			errs = append(errs, err)
		}
		cancel()
	}
	return errors.Join(errs...)
}
