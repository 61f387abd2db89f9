// Package engine is what a process has that owns events: the logs, the
// dispatcher over them, and how both are seen by ingress, the API and the
// metrics. `penstock serve` is an engine that reads files and has a front door;
// a dispatcher of a cluster is one that reads the Kubernetes API and takes
// events from ingress pods.
//
// An Engine is wired by one goroutine; what it shows may be used by any number.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/backup"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/journal"
	"github.com/penstock-events/penstock/pkg/rerun"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Options configure an Engine.
type Options struct {
	Data         string        // the data folder; not used with Memory
	Memory       bool          // no channel on disk
	ScrubRate    string        // bytes a second as people write them, "0" for none
	DrainTimeout time.Duration // of deliveries in flight at a stop
	Logger       *slog.Logger

	Guard   deliver.Guard // where subscribers may be
	MaxIdle int           // idle connections to them; 0 is deliver's default

	// Number is put around each log, nil for nothing: it gives the shards the
	// numbers under which this process owns them.
	Number func(channel.Log) channel.Log

	// Keys are those of KN_VERIFY_CORRELATION_ID in filters; nil has no such function.
	Keys filter.Keys

	// Replied is dispatch.Options.Replied.
	Replied func(broker, trigger channel.UID, replies []event.Event)

	// The journal: how long entries are kept, and how many bytes of them as people
	// write them, "0" for no journal; both within bounds that the journal has itself.
	JournalRetention time.Duration
	JournalBytes     string

	// SystemBroker is the Broker (namespace/name) that failures are told to as
	// events, if it is there; "" tells nobody.
	SystemBroker string

	// What a backup says of where its configuration came from.
	Files, Resolve []string
}

// Engine is made by Open.
type Engine struct {
	Metrics    *telemetry.Metrics
	Dispatcher *dispatch.Dispatcher

	o        Options
	kind     string // of the channel of Brokers that ask for none
	logs     map[string]channel.Log
	doors    map[string]*dedup.Appender           // before logs, where events come in
	doorOf   map[channel.Appender]*dedup.Appender // the same by log
	disk     *disk.Log                            // nil with Memory
	client   *deliver.Client
	views    *views
	ready    *readiness
	jobs     *rerun.Manager
	registry *prometheus.Registry
	apply    *applier
	reporter *reporter
	journal  *journal.Journal

	paused     map[channel.UID]time.Time
	savePaused func(map[channel.UID]time.Time) error // nil with Memory: events do not outlive the process either
}

// Open opens the logs. After an error nothing is open; otherwise the caller
// starts the parts and, at the end, calls Close.
func Open(o Options) (*Engine, error) {
	rate, err := scrubRate(o.ScrubRate)
	if err != nil {
		return nil, &process.UsageError{Err: err}
	}
	entries, wanted, err := journalOptions(o)
	if err != nil {
		return nil, &process.UsageError{Err: err}
	}
	e := &Engine{o: o, registry: process.NewRegistry()}
	e.Metrics = telemetry.New(e.registry)
	e.views = newViews()
	if e.reporter, err = newReporter(o.SystemBroker, e.views, e.Appender, o.Logger); err != nil {
		return nil, err
	}
	if err := e.open(rate); err != nil {
		return nil, err
	}
	e.client = deliver.New(deliver.Options{Guard: o.Guard, MaxIdle: o.MaxIdle})
	if err := errors.Join(e.openDoors(), e.openPauses(), e.openJournal(entries, wanted)); err != nil {
		return nil, errors.Join(err, e.abandon())
	}
	newcomers := &newcomers{}
	e.Dispatcher = dispatch.New(dispatch.Options{
		Sender: e.client, Metrics: e.Metrics, Logger: o.Logger, Logs: e.logs, DrainTimeout: o.DrainTimeout, Keys: o.Keys, Replied: o.Replied,
		Incident: e.reporter.tell, Journal: e.journal,
		Paused: e.paused, SavePaused: e.savePaused,
		Newcomers: newcomers, Delay: process.NewDelay().Read,
	})
	e.views.dispatch = e.Dispatcher
	jobs := rerun.Options{Snapshot: e.views.Snapshot, Log: e.Dispatcher.Log, Deliverer: e.Dispatcher, Keys: o.Keys, Logger: o.Logger}
	if !o.Memory {
		jobs.Dir = o.Data
	}
	if e.jobs, err = rerun.New(jobs); err != nil {
		return nil, errors.Join(fmt.Errorf("read the jobs in %s: %w", o.Data, err), e.abandon())
	}
	newcomers.Manager = e.jobs
	e.ready = &readiness{logs: e.logs}
	e.Metrics.Watch(gauges{e.views, e.known})
	e.apply = &applier{inForce: e.inForce, views: e.views, log: o.Logger, again: make(chan struct{}, 1)}
	return e, nil
}

// open opens the channels that Brokers can ask for, and settles which kind
// they get that ask for none.
func (e *Engine) open(scrubRate int64) error {
	e.kind = config.ChannelMemory
	e.logs = map[string]channel.Log{config.ChannelMemory: memory.New(memory.Options{Logger: e.o.Logger})}
	if !e.o.Memory {
		if err := backup.Unfinished(e.o.Data); err != nil {
			return err
		}
		log, err := disk.Open(filepath.Join(e.o.Data, "log"), disk.Options{
			Logger: e.o.Logger, SyncObserver: e.Metrics.Synced, ScrubRate: scrubRate, ScrubObserver: e.Metrics,
		})
		if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
			err = fmt.Errorf("%w: name a folder that can be written with --data", err)
		}
		if err != nil {
			return err
		}
		e.kind, e.disk = config.ChannelDisk, log
		e.logs[e.kind] = log
	}
	if e.o.Number != nil {
		for kind, log := range e.logs {
			e.logs[kind] = e.o.Number(log)
		}
	}
	return nil
}

// openPauses reads which Triggers people have paused.
func (e *Engine) openPauses() error {
	if e.disk == nil {
		return nil
	}
	kept, paused, err := openPauses(e.o.Data)
	if err != nil {
		return err
	}
	e.paused, e.savePaused = paused, kept.save
	return nil
}

// newcomers breaks a circle: the dispatcher tells the jobs of new Triggers, and
// the jobs deliver through the dispatcher. It is filled before either runs.
type newcomers struct{ *rerun.Manager }

// abandon closes logs that were never started.
func (e *Engine) abandon() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, kind := range e.Kinds() {
		errs = append(errs, e.logs[kind].Run(ctx))
	}
	e.client.Close()
	return errors.Join(errs...)
}

// Close ends what outlives the parts.
func (e *Engine) Close() { e.client.Close() }

// Kind is the kind of channel that Brokers get which ask for none, Kinds are
// all there are.
func (e *Engine) Kind() string    { return e.kind }
func (e *Engine) Kinds() []string { return slices.Sorted(maps.Keys(e.logs)) }

// Stored lists the Brokers in the logs.
func (e *Engine) Stored() []channel.BrokerInfo {
	var all []channel.BrokerInfo
	for _, kind := range e.Kinds() {
		all = append(all, e.logs[kind].Brokers()...)
	}
	return all
}

// Known lists the Triggers that the log of a stored Broker knows: those it
// matches events against and those that have events pending.
func (e *Engine) Known(ctx context.Context, stored channel.BrokerInfo) ([]channel.UID, error) {
	known := make(map[channel.UID]bool)
	for _, kind := range e.Kinds() {
		if !slices.Contains(e.logs[kind].Brokers(), stored) {
			continue
		}
		log, err := e.logs[kind].Broker(ctx, stored) // as it is: this changes nothing
		if err != nil {
			return nil, err
		}
		for _, change := range log.Routes() {
			for _, route := range change.Set {
				known[route.Trigger] = true
			}
		}
		for _, shard := range log.Shards() {
			_, lanes := log.Resume(shard)
			for _, lane := range lanes {
				known[lane.Trigger] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(known)), nil
}

// StartChannels starts the journal, the logs, and what stands before them.
func (e *Engine) StartChannels(life *process.Lifecycle) {
	life.Start("journal", e.journal.Run)
	for _, kind := range e.Kinds() {
		life.Start(kind+" channel", e.logs[kind].Run)
		life.Start("known events of the "+kind+" channel", e.doors[kind].Run)
	}
}

// StartMetrics serves the metrics.
func (e *Engine) StartMetrics(life *process.Lifecycle, ln net.Listener) {
	life.Start("metrics", process.ServeHTTP(ln, process.Metrics(e.registry), nil))
}

// API makes the API of this process; the caller fills in who may reach it and
// where events are posted.
func (e *Engine) API(o api.Options) *api.Server {
	o.Source = e.views
	o.Control = control{e.Dispatcher}
	o.Ready = e.ready.reasons
	o.Latched = e.ready.latched
	o.Storage = examine(e.logs)
	o.Journal, o.Fate = e.stories(), fate{e.Dispatcher}
	o.Traffic = trafficOf(e.Metrics)
	o.Backup = e.backups()
	o.Jobs = e.jobs
	o.Logger = e.o.Logger
	return api.New(o)
}

// StartDispatcher starts the deliveries. Configurations may be Put from here on.
func (e *Engine) StartDispatcher(life *process.Lifecycle) {
	life.Start("incidents", e.reporter.run)
	life.Start("dispatcher", e.Dispatcher.Run)
}

// StartJobs starts the jobs, those that a stop or a crash interrupted first. It
// comes after the dispatcher, so that they end before it.
func (e *Engine) StartJobs(life *process.Lifecycle) { life.Start("jobs", e.jobs.Run) }

// Put puts a configuration in force. What could not be is tried again by Follow.
func (e *Engine) Put(ctx context.Context, s *config.Snapshot) error { return e.apply.put(ctx, s) }

// Follow puts in force what a source says until ctx ends. done, if not nil, is
// told of each configuration that has been, and of the Brokers of which it is
// not wholly.
func (e *Engine) Follow(ctx context.Context, source Source, done func(s *config.Snapshot, failed map[channel.UID]bool)) error {
	return e.apply.run(ctx, source, done)
}

// Snapshot is the configuration in force.
func (e *Engine) Snapshot() *config.Snapshot { return e.views.Snapshot() }

// SetServing says whether events can come in: /readyz.
func (e *Engine) SetServing(serving bool) { e.ready.set(serving) }
