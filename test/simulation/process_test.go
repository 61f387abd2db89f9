package simulation_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/memhttp"
)

// process is one life of the broker: what app/standalone wires, over the
// world's network, disk and clock.
type process struct {
	w      *world
	number int64
	host   *memhttp.Host
	fs     *memfs.FS
	up     bool // it takes events; guarded by the world's mutex

	log        channel.Log
	dispatcher *dispatch.Dispatcher
	snapshot   atomic.Pointer[config.Snapshot]
	changed    chan struct{} // the world has other objects

	starting sync.Mutex // held while parts are started
	parts    []part     // in the order they were started
	dead     bool
}

// part is one component that runs.
type part struct {
	cancel context.CancelFunc
	ended  chan error
}

// begin starts a life. It returns when the broker takes events, as far as its
// disk lets it.
func (p *process) begin() error {
	w := p.w
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("PENSTOCK_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	log, err := disk.Open(dataDir, disk.Options{
		FS: p.fs, SegmentSize: 64 << 10, MaxBytes: w.volume / 5 * 4, Now: w.now, Logger: logger,
	})
	if err != nil {
		return err
	}
	if p.log = log; w.mutant.log != nil {
		p.log = w.mutant.log(log)
	}
	p.start(p.log.Run)
	if !w.born(p, uint64(log.Epoch())) {
		return errKilled
	}

	metrics := telemetry.New(nil)
	client := deliver.New(deliver.Options{Dial: p.host.DialContext})
	p.start(func(ctx context.Context) error {
		<-ctx.Done()
		client.Close()
		return nil
	})
	var sender dispatch.Sender = client
	if w.mutant.sender != nil {
		sender = w.mutant.sender(sender)
	}
	p.dispatcher = dispatch.New(dispatch.Options{
		Sender: sender, Metrics: metrics, Logger: logger, DrainTimeout: w.drain, Now: w.now,
		Logs: map[string]channel.Log{config.ChannelDisk: p.log},
	})
	p.snapshot.Store(&config.Snapshot{})
	p.start(p.dispatcher.Run)
	first := p.apply(context.Background())
	p.start(func(ctx context.Context) error { return p.configure(ctx, first) })

	door, err := p.host.Listen("")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	handler := ingress.New(ingress.Options{Routes: p.route, Metrics: metrics, Logger: logger})
	server := ingress.NewServer(handler, ingress.ServerOptions{Metrics: metrics, Logger: logger, DrainTimeout: w.drain})
	p.start(func(ctx context.Context) error { return server.Run(ctx, door) })
	return nil
}

var errKilled = errors.New("killed while it started")

// start runs a part. In a life that is over it ends at once.
func (p *process) start(run func(context.Context) error) {
	p.starting.Lock()
	defer p.starting.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	if p.dead {
		cancel()
	}
	ended := make(chan error, 1)
	p.parts = append(p.parts, part{cancel, ended})
	p.w.ghosts.Go(func() { ended <- run(ctx) })
}

// stop ends the parts, the last first. Errors are no news: the disk may be
// gone, or have failed.
func (p *process) stop() {
	p.starting.Lock()
	p.dead = true
	parts := p.parts
	p.starting.Unlock()
	for i := len(parts) - 1; i >= 0; i-- {
		parts[i].cancel()
		<-parts[i].ended
	}
	p.host.Kill()
}

// configure puts the world's objects in force whenever they change, and tries
// again every 5 seconds what could not be.
func (p *process) configure(ctx context.Context, err error) error {
	for {
		wait := time.Hour
		if err != nil {
			wait = 5 * time.Second
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			again.Stop()
			return nil
		case <-again.C:
		case <-p.changed:
			again.Stop()
		}
		err = p.apply(ctx)
	}
}

func (p *process) apply(ctx context.Context) error {
	s, n := p.w.compile()
	err := p.dispatcher.Apply(ctx, s)
	p.snapshot.Store(s)
	if err == nil {
		p.w.inForce(p, n)
	}
	return err
}

// route is ingress.Routes.
func (p *process) route(namespace, name string) (ingress.Target, bool) {
	b, ok := p.snapshot.Load().Broker(namespace, name)
	if !ok {
		return ingress.Target{}, false
	}
	t := ingress.Target{UID: b.UID, Name: b.FullName()}
	if t.Appender, ok = p.dispatcher.Appender(b.UID); !ok {
		t.Ready = errors.New("the broker is loading its triggers")
	}
	return t, true
}

// scanned reports whether every event that is stored has been matched.
func (p *process) scanned() bool {
	for _, b := range p.snapshot.Load().Brokers() {
		log, ok := p.dispatcher.Log(b.UID)
		if !ok {
			return false
		}
		for _, shard := range log.Shards() {
			if _, next := log.Range(shard); next > 1 && log.Progress(shard).Scanned < next {
				return false
			}
		}
	}
	return true
}

// account writes down the dead letters and the counters.
func (p *process) account() {
	ctx := context.Background()
	for _, b := range p.snapshot.Load().Brokers() {
		log, ok := p.dispatcher.Log(b.UID)
		if !ok {
			p.w.t.Errorf("broker %s is not open", b.FullName())
			continue
		}
		for cursor := ""; ; {
			letters, next, err := log.Dead(ctx, "", cursor, 1000)
			if err != nil {
				p.w.t.Errorf("dead letters of %s: %v", b.FullName(), err)
				break
			}
			for _, l := range letters {
				p.w.rec.Dead(l.TriggerName, l.Event.ID(), history.Dead{Attempts: l.Attempts, Code: l.Code, Reason: l.Reason})
			}
			if cursor = next; cursor == "" {
				break
			}
		}
	}
	for _, l := range p.dispatcher.Lanes(ctx) {
		p.w.rec.Final(l.Trigger, history.Final{
			Delivered: int64(l.Delivered), Dead: int64(l.Letters), Cancelled: int64(l.Cancelled), Pending: int64(l.Backlog),
		})
	}
}
