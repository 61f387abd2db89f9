// Package standalone is `penstock serve`: the whole broker in one process. It
// wires the parts, starts them in order, stops them in reverse, and holds
// nothing else.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// applyAgain is how long after a configuration could not be put in force
// wholly it is tried again.
const applyAgain = 5 * time.Second

// Run serves until ctx ends and then stops in order: no new events, what is
// in flight is finished within the drain timeout, the log is closed. What it
// listens on goes to out when everything is ready, the log to errOut.
func Run(ctx context.Context, o Options, out, errOut io.Writer) (err error) {
	// Wrong values first: they are told before anything is opened or made.
	logger, err := newLogger(o, errOut)
	if err != nil {
		return &usageError{err}
	}
	resolve, err := config.ParseResolve(o.Resolve)
	if err != nil {
		return &usageError{err}
	}
	if o.DrainTimeout < 0 {
		return &usageError{fmt.Errorf("--drain-timeout %v: must not be negative", o.DrainTimeout)}
	}
	scrubRate, err := scrubRate(o.ScrubRate)
	if err != nil {
		return &usageError{err}
	}
	listeners, err := listen(ctx, o)
	if err != nil {
		return err
	}
	defer listeners.close()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := telemetry.New(registry)

	logs, kind, err := openLogs(o, scrubRate, logger, metrics)
	if err != nil {
		return err
	}
	life := newLifecycle()
	defer func() { err = errors.Join(err, life.stop()) }()
	for kind, log := range logs {
		life.start(kind+" channel", log.Run)
	}

	source := newSource(o, resolve, kind, listeners.ingress.Addr(), logs, logger)
	first, err := source.Load()
	if err != nil {
		return err
	}

	if err := known(first, logs, o.Data); err != nil {
		return err
	}

	// A laptop's subscribers are on loopback and private addresses.
	maxSenders, maxIdle := share(descriptorLimit())
	client := deliver.New(deliver.Options{Guard: deliver.Guard{AllowLoopback: true}, MaxIdle: maxIdle})
	defer client.Close()
	dispatcher := dispatch.New(dispatch.Options{
		Sender: client, Metrics: metrics, Logger: logger, Logs: logs, DrainTimeout: o.DrainTimeout,
	})
	views := newViews(dispatcher)
	ready := &readiness{logs: logs}
	metrics.Watch(gauges{views})

	life.start("metrics", serveHTTP(listeners.metrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil))
	server := api.New(api.Options{
		Source:     views,
		Ready:      ready.reasons,
		Latched:    ready.latched,
		Storage:    examine(logs),
		Traffic:    trafficOf(metrics),
		Backup:     backups(o, logs),
		IngressURL: reachable(listeners.ingress.Addr()),
		Hosts:      o.APIHosts,
		Logger:     logger,
	})
	life.start("API", serveHTTP(listeners.api, server, server.Close))

	life.start("dispatcher", dispatcher.Run)
	apply := &applier{dispatcher: dispatcher, views: views, log: logger, again: make(chan struct{}, 1)}
	if err := apply.put(ctx, first); err != nil {
		logger.Error("configuration is not in force wholly", telemetry.KeyError, err)
	}
	life.start("configuration", func(ctx context.Context) error { return apply.run(ctx, source) })

	handler := ingress.New(ingress.Options{Routes: views.target, Metrics: metrics, Logger: logger})
	door := ingress.NewServer(handler, ingress.ServerOptions{
		Metrics: metrics, Logger: logger, DrainTimeout: o.DrainTimeout, MaxConns: maxSenders,
	})
	life.start("ingress", func(ctx context.Context) error {
		defer ready.set(false)
		return door.Run(ctx, listeners.ingress)
	})
	ready.set(true)
	banner(out, o, listeners)

	err = life.wait(ctx)
	ready.set(false)
	if err == nil {
		logger.Info("stopping: finishing what is in flight", "limit", o.DrainTimeout)
	}
	return err
}

func newLogger(o Options, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.LogLevel)
	}
	h, err := telemetry.NewLogHandler(w, o.LogFormat, level)
	if err != nil {
		return nil, fmt.Errorf("--log-format: %w", err)
	}
	return slog.New(h), nil
}

// openLogs opens the channels that Brokers can ask for, and says which kind
// they get that ask for none.
func openLogs(o Options, scrubRate int64, logger *slog.Logger, metrics *telemetry.Metrics) (map[string]channel.Log, string, error) {
	logs := map[string]channel.Log{config.ChannelMemory: memory.New(memory.Options{Logger: logger})}
	if o.Memory {
		return logs, config.ChannelMemory, nil
	}
	if err := backup.Unfinished(o.Data); err != nil {
		return nil, "", err
	}
	log, err := disk.Open(filepath.Join(o.Data, "log"), disk.Options{
		Logger: logger, SyncObserver: metrics.Synced, ScrubRate: scrubRate, ScrubObserver: metrics,
	})
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = fmt.Errorf("%w: name a folder that can be written with --data", err)
	}
	if err != nil {
		return nil, "", err
	}
	logs[config.ChannelDisk] = log
	return logs, config.ChannelDisk, nil
}

func newSource(o Options, resolve config.Resolver, kind string, ingressAddr net.Addr, logs map[string]channel.Log, logger *slog.Logger) *file.Source {
	kinds := make([]string, 0, len(logs))
	for kind := range logs {
		kinds = append(kinds, kind)
	}
	dir := o.Data
	if o.Memory {
		dir = ""
	}
	return file.New(file.Options{
		Paths: o.Files, Dir: dir, Logger: logger,
		Compile: config.Options{
			Resolve: resolve, IngressURL: reachable(ingressAddr), DefaultChannel: kind, Channels: kinds,
		},
	})
}

// known refuses to start over events whose Brokers nobody knows any more: the
// identities have been lost, and a start would give their names to new Brokers
// and leave the old ones' events lying where nobody sees them.
func known(s *config.Snapshot, logs map[string]channel.Log, data string) error {
	uids := make(map[channel.UID]bool)
	for _, b := range append(slices.Clone(s.Brokers()), s.HeldBrokers()...) {
		uids[b.UID] = true
	}
	for _, r := range s.Removed() {
		uids[r.UID] = true
	}
	for _, log := range logs {
		for _, stored := range log.Brokers() {
			if !uids[stored.UID] {
				return fmt.Errorf("data folder %s holds events of broker %s under an identity that %s does not know: put the identities.json back that belongs to it, or choose another folder with --data",
					data, stored.Name, filepath.Join(data, "identities.json"))
			}
		}
	}
	return nil
}

// trafficOf counts a Broker's events for the API.
func trafficOf(m *telemetry.Metrics) func(broker string) (received, accepted uint64) {
	return func(broker string) (uint64, uint64) {
		b := m.Broker(broker)
		return b.Total(), b.Accepted()
	}
}

// serveHTTP runs a small server for people and probes.
func serveHTTP(ln net.Listener, h http.Handler, onShutdown func()) func(context.Context) error {
	return func(ctx context.Context) error {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10}
		if onShutdown != nil {
			s.RegisterOnShutdown(onShutdown)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ln) }()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.Shutdown(bounded) != nil {
			_ = s.Close()
		}
		<-ended
		return nil
	}
}
