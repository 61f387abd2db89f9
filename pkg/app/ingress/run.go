// Package ingress is the front door of a cluster: a program without state that
// takes events by HTTP and stores them in dispatchers. It wires the handler of
// package ingress to the hop, and both to the Kubernetes API, which says which
// Brokers there are and where the dispatchers.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/app/cluster"
	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/auth"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/kube"
	"github.com/penstock-events/penstock/pkg/controller/pods"
	front "github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/loaded"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Run takes events until ctx ends and then stops in order.
func Run(ctx context.Context, o Options, clients cluster.Clients, errOut io.Writer) (err error) {
	logger, err := process.NewLogger(errOut, o.LogFormat, o.LogLevel)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	if len(o.Listen) == 0 {
		return &process.UsageError{Err: errors.New("--listen: name at least one address")}
	}
	if err := checkAPIURL(o.APIUrl); err != nil {
		return &process.UsageError{Err: err}
	}
	doors := make([]net.Listener, len(o.Listen))
	var probes, metricsPort net.Listener
	ports := []process.Port{
		{To: &probes, Address: o.APIListen, Flag: "--api-listen"},
		{To: &metricsPort, Address: o.MetricsListen, Flag: "--metrics-listen"},
	}
	for i, address := range o.Listen {
		ports = append(ports, process.Port{To: &doors[i], Address: address, Flag: "--listen"})
	}
	closeAll, err := process.Listen(ctx, ports...)
	if err != nil {
		return err
	}
	defer closeAll()

	registry := process.NewRegistry()
	metrics := telemetry.New(registry)
	brokers := newBrokers()
	hop := remote.New(remote.Options{
		Tokens: auth.NewTokenFile(o.Token), Logger: logger,
		Keying: func(broker channel.UID) channel.Keying { return brokers.table.Load().Keying(broker) },
	})
	metrics.WatchHop(func() telemetry.HopState { return hopState(hop.Stats()) })

	life := process.NewLifecycle()
	defer func() { err = errors.Join(err, life.Stop()) }()
	life.Start("metrics", process.ServeHTTP(metricsPort, process.Metrics(registry), nil))
	var serving atomic.Bool
	board := clients.LoadedBy(o.Identity, cluster.IngressAudience)
	life.Start("probes", process.ServeHTTP(probes, cluster.Internal(board, process.Probes(func() []string {
		if !serving.Load() {
			return []string{"events are not taken: the process is starting or stopping"}
		}
		return nil
	})), board.Close))
	life.Start("hop", hop.Run)
	fleet := kube.NewFleet(kube.FleetOptions{
		Client: clients.Kube, Namespace: o.Namespace, Service: o.Dispatchers, Port: "append", StatefulSet: o.Dispatchers, Logger: logger,
	})
	life.Start("dispatchers", func(ctx context.Context) error {
		return fleet.Run(ctx, func(m kube.Members) { hop.SetOwners(owners(m)) })
	})

	// Events are taken when all Brokers are known: none that is ready is
	// answered with 404.
	source := kube.New(kube.Options{
		Client: clients.Knative, Logger: logger, BrokersOnly: true,
		Compile: config.Options{DefaultChannel: config.ChannelDisk, Channels: []string{config.ChannelDisk, config.ChannelMemory}},
	})
	life.Start("pods", func(ctx context.Context) error {
		return pods.Run(ctx, pods.Options{Client: clients.Kube, Namespace: o.Namespace, Service: o.Service, Port: 1}, func(all []loaded.Pod) {
			brokers.share(len(all))
		})
	})
	inForce := make(chan struct{})
	life.Start("configuration", func(ctx context.Context) error {
		first := true
		return source.Run(ctx, func(s *config.Snapshot) {
			brokers.show(s)
			board.Publish(versions(s))
			if first {
				first = false
				close(inForce)
			}
		})
	})
	if reached, err := life.Await(ctx, inForce); !reached {
		return err
	}

	maxSenders, _ := process.Descriptors()
	appender := func(channel.UID) (channel.Appender, bool) { return hop, true }
	target := func(namespace, name string) (front.Target, bool) {
		return brokers.table.Load().Target(namespace, name, appender)
	}
	handler := front.New(front.Options{Metrics: metrics, Logger: logger, Routes: target, EventLink: o.APIUrl})
	for i, ln := range doors {
		server := front.NewServer(handler, front.ServerOptions{
			Metrics: metrics, Logger: logger, LameDuck: o.LameDuck, DrainTimeout: o.DrainTimeout, MaxConns: max(1, maxSenders/len(doors)),
		})
		life.Start("ingress "+o.Listen[i], func(ctx context.Context) error { return server.Run(ctx, ln) })
	}
	serving.Store(true)
	process.Settle()
	logger.Info("serving", "addresses", o.Listen)

	err = life.Wait(ctx)
	serving.Store(false)
	if err == nil {
		logger.Info("stopping: taking events until nobody is sent here", "for", o.LameDuck)
	}
	return err
}

// checkAPIURL looks at what goes into a header of every answer.
func checkAPIURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.String() != text {
		return fmt.Errorf("--api-url %q: want a URL such as https://penstock.example, without a query", text)
	}
	return nil
}

// owners are the dispatchers that events may go to.
func owners(m kube.Members) remote.Owners {
	to := remote.Owners{Declared: m.Declared}
	for _, pod := range m.Pods {
		if pod.Serving && !pod.Terminating {
			to.Serving = append(to.Serving, remote.Owner{Ordinal: pod.Ordinal, Address: pod.Address})
		}
	}
	return to
}

// versions are the declarations in force, by identity.
func versions(s *config.Snapshot) map[channel.UID]string {
	all := make(map[channel.UID]string, len(s.Brokers()))
	for _, b := range s.Brokers() {
		all[b.UID] = b.Version
	}
	return all
}

// hopState adds up what was sent to each dispatcher.
func hopState(owners []remote.OwnerStats) telemetry.HopState {
	var s telemetry.HopState
	for _, o := range owners {
		s.Requests += o.Requests
		s.Stored += o.Stored
		s.Refused += o.Refused
		s.Unknown += o.Unknown
		s.Queued += o.Queued
		if o.Up {
			s.Up++
		}
	}
	return s
}
