package engine

import (
	"context"
	"errors"
	"log/slog"
	"sort"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// applyAgain is how long after a configuration could not be put in force
// wholly it is tried again.
const applyAgain = 5 * time.Second

// applier puts configurations in force: first in the dispatcher and what knows
// duplicates, then in the views, so that ingress never takes an event for a Broker whose triggers are
// not loaded.
type applier struct {
	inForce func(context.Context, *config.Snapshot) error
	views   *views
	log     *slog.Logger
	again   chan struct{}
}

func (a *applier) put(ctx context.Context, s *config.Snapshot) error {
	err := a.inForce(ctx, s)
	a.views.show(s)
	if err != nil {
		select {
		case a.again <- struct{}{}:
		default:
		}
	}
	return err
}

// Source tells of configurations: Run calls put with each until ctx ends, one
// after the other.
type Source interface {
	Run(ctx context.Context, put func(*config.Snapshot)) error
}

// run follows the source until ctx ends. What could not be put in force is
// tried again until it is, or until something newer comes.
func (a *applier) run(ctx context.Context, source Source, done func(s *config.Snapshot, failed map[channel.UID]bool)) error {
	snapshots := make(chan *config.Snapshot)
	ended := make(chan error, 1)
	go func() {
		ended <- source.Run(ctx, func(s *config.Snapshot) {
			select {
			case snapshots <- s:
			case <-ctx.Done():
			}
		})
	}()
	retry := time.NewTimer(applyAgain)
	retry.Stop() // a put before this that went wrong has left a word in again
	defer retry.Stop()
	for {
		var s *config.Snapshot
		select {
		case err := <-ended:
			return err
		case <-a.again:
			retry.Reset(applyAgain)
			continue
		case <-retry.C:
			s = a.views.Snapshot()
		case s = <-snapshots:
		}
		err := a.put(ctx, s)
		if ctx.Err() != nil {
			continue // cut short: it says nothing
		}
		if err != nil {
			a.log.Error("configuration is not in force wholly", telemetry.KeyError, err)
		}
		if done != nil {
			done(s, failed(err))
		}
	}
}

// failed are the Brokers that an error of Apply names.
func failed(err error) map[channel.UID]bool {
	all := make(map[channel.UID]bool)
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			if b, ok := errors.AsType[*dispatch.BrokerError](one); ok {
				all[b.UID] = true
			}
		}
	}
	return all
}

// readiness answers /readyz: the process accepts events and has storage.
type readiness struct {
	logs    map[string]channel.Log
	serving atomic.Bool
}

func (r *readiness) set(serving bool) { r.serving.Store(serving) }

func (r *readiness) reasons() []string {
	var reasons []string
	if !r.serving.Load() {
		reasons = append(reasons, "events are not taken: the process is starting or stopping")
	}
	for kind, log := range r.logs {
		if err := log.Ready(); err != nil {
			reasons = append(reasons, kind+" channel: "+err.Error())
		}
	}
	sort.Strings(reasons)
	return reasons
}

// latched answers /healthz: a log that has stopped after an error of the disk
// starts again with the process and not before.
func (r *readiness) latched() []string {
	var reasons []string
	for kind, log := range r.logs {
		if l, ok := log.(interface{ Latched() error }); ok && l.Latched() != nil {
			reasons = append(reasons, kind+" channel: "+l.Latched().Error())
		}
	}
	sort.Strings(reasons)
	return reasons
}
