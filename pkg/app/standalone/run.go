// Package standalone is `penstock serve`: the whole broker in one process. It
// wires the parts, starts them in order, stops them in reverse, and holds
// nothing else.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/app/engine"
	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// settleAfter is how long after it serves the process gives back what only its
// start has needed: those who wait for it come first.
const settleAfter = time.Second

// Run serves until ctx ends and then stops in order: no new events, what is
// in flight is finished within the drain timeout, the log is closed. What it
// listens on goes to out when everything is ready, the log to errOut.
func Run(ctx context.Context, o Options, out, errOut io.Writer) (err error) {
	// Wrong values first: they are told before anything is opened or made.
	logger, err := process.NewLogger(errOut, o.LogFormat, o.LogLevel)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	resolve, err := config.ParseResolve(o.Resolve)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	if o.DrainTimeout < 0 {
		return &process.UsageError{Err: fmt.Errorf("--drain-timeout %v: must not be negative", o.DrainTimeout)}
	}
	listeners, closeAll, err := listen(ctx, o)
	if err != nil {
		return err
	}
	defer closeAll()

	maxSenders, maxIdle := process.Descriptors()
	e, err := engine.Open(engine.Options{
		Data: o.Data, Memory: o.Memory, ScrubRate: o.ScrubRate, DrainTimeout: o.DrainTimeout, SystemBroker: o.SystemBroker,
		JournalRetention: o.JournalRetention, JournalBytes: o.JournalBytes, Logger: logger,
		Guard:   deliver.Guard{AllowLoopback: true}, // a laptop's subscribers are on loopback and private addresses
		MaxIdle: maxIdle, Files: o.Files, Resolve: o.Resolve,
	})
	if err != nil {
		return err
	}
	defer e.Close()
	life := process.NewLifecycle()
	defer func() { err = errors.Join(err, life.Stop()) }()
	life.Start("memory", process.Frugal)
	e.StartChannels(life)

	files := file.New(newSource(o, e, resolve, listeners.ingress.Addr(), logger))
	first, err := files.Load()
	if err != nil {
		return err
	}
	if err := known(first, e.Stored(), o.Data); err != nil {
		return err
	}

	e.StartMetrics(life, listeners.metrics)
	server := e.API(api.Options{IngressURL: reachable(listeners.ingress.Addr()), Hosts: o.APIHosts})
	life.Start("API", process.ServeHTTP(listeners.api, server, server.Close))
	e.StartDispatcher(life)
	e.StartJobs(life)
	if err := e.Put(ctx, first); err != nil {
		logger.Error("configuration is not in force wholly", telemetry.KeyError, err)
	}
	life.Start("configuration", func(ctx context.Context) error { return e.Follow(ctx, files, nil) })

	handler := ingress.New(ingress.Options{Routes: e.Target, Metrics: e.Metrics, Logger: logger, EventLink: eventLink(listeners.api.Addr())})
	door := ingress.NewServer(handler, ingress.ServerOptions{
		Metrics: e.Metrics, Logger: logger, DrainTimeout: o.DrainTimeout, MaxConns: maxSenders,
	})
	life.Start("ingress", func(ctx context.Context) error {
		defer e.SetServing(false)
		return door.Run(ctx, listeners.ingress)
	})
	e.SetServing(true)
	banner(out, o, listeners)
	settle := time.AfterFunc(settleAfter, process.Settle)
	defer settle.Stop()

	err = life.Wait(ctx)
	e.SetServing(false)
	if err == nil {
		logger.Info("stopping: finishing what is in flight", "limit", o.DrainTimeout)
	}
	return err
}

// newSource says where Brokers and Triggers come from.
func newSource(o Options, e *engine.Engine, resolve config.Resolver, ingressAddr net.Addr, logger *slog.Logger) file.Options {
	dir := o.Data
	if o.Memory {
		dir = ""
	}
	return file.Options{
		Paths: o.Files, Dir: dir, Logger: logger,
		Compile: config.Options{
			Resolve: resolve, IngressURL: reachable(ingressAddr), DefaultChannel: e.Kind(), Channels: e.Kinds(),
		},
	}
}

// known refuses to start over events whose Brokers nobody knows any more: the
// identities have been lost, and a start would give their names to new Brokers
// and leave the old ones' events lying where nobody sees them.
func known(s *config.Snapshot, all []channel.BrokerInfo, data string) error {
	uids := make(map[channel.UID]bool)
	for _, b := range append(slices.Clone(s.Brokers()), s.HeldBrokers()...) {
		uids[b.UID] = true
	}
	for _, r := range s.Removed() {
		uids[r.UID] = true
	}
	for _, stored := range all {
		if !uids[stored.UID] {
			return fmt.Errorf("data folder %s holds events of broker %s under an identity that %s does not know: put the identities.json back that belongs to it, or choose another folder with --data",
				data, stored.Name, filepath.Join(data, "identities.json"))
		}
	}
	return nil
}
