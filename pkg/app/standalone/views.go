package standalone

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// errLoading is the answer for a broker whose triggers are not in force yet.
var errLoading = errors.New("the broker is loading its triggers")

// scrapeWait bounds what a scrape reads from the log to know the age of the
// oldest pending events.
const scrapeWait = 2 * time.Second

// views show the running process to ingress, the API and the metrics.
type views struct {
	shown    atomic.Pointer[view]
	dispatch *dispatch.Dispatcher
}

// view is one configuration and the rate limits that go with it.
type view struct {
	snapshot *config.Snapshot
	limits   ingress.Limits
}

func newViews(d *dispatch.Dispatcher) *views {
	v := &views{dispatch: d}
	v.shown.Store(&view{snapshot: &config.Snapshot{}})
	return v
}

// show makes s what everybody sees. One goroutine at a time calls it.
func (v *views) show(s *config.Snapshot) {
	rates := make(map[channel.UID]float64)
	for _, b := range s.Brokers() {
		if b.Rate > 0 {
			rates[b.UID] = b.Rate
		}
	}
	v.shown.Store(&view{s, v.shown.Load().limits.Next(rates)})
}

// target is ingress.Routes.
func (v *views) target(namespace, name string) (ingress.Target, bool) {
	shown := v.shown.Load()
	b, ok := shown.snapshot.Broker(namespace, name)
	if !ok {
		return ingress.Target{}, false
	}
	t := ingress.Target{UID: b.UID, Name: b.FullName(), Limit: shown.limits[b.UID]}
	if b.Channel == config.ChannelMemory {
		t.Durability = config.ChannelMemory
	}
	if !b.Ready {
		t.Ready = errors.New(b.Message)
		return t, true
	}
	if t.Appender, ok = v.dispatch.Appender(b.UID); !ok {
		t.Ready = errLoading
	}
	return t, true
}

// Snapshot, Log and Lanes make views an api.Source.
func (v *views) Snapshot() *config.Snapshot { return v.shown.Load().snapshot }

func (v *views) Log(broker channel.UID) (channel.BrokerLog, bool) { return v.dispatch.Log(broker) }

func (v *views) Lanes(ctx context.Context) []api.Lane {
	var lanes []api.Lane
	for _, l := range v.dispatch.Lanes(ctx) {
		lanes = append(lanes, api.Lane{
			Trigger: l.UID, Backlog: l.Backlog, Oldest: l.OldestPending, InFlight: l.InFlight, Waiting: l.Waiting,
			Delivered: l.Delivered, Failed: l.Failed, Spared: l.Spared, Cancelled: l.Cancelled,
			Window: l.Window, ColdSince: l.ColdSince, SparedUntil: l.SparedUntil,
		})
	}
	return lanes
}

// gauges are the views as a telemetry.Source.
type gauges struct{ *views }

func (g gauges) Lanes(yield func(telemetry.LaneState) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	for _, l := range g.dispatch.Lanes(ctx) {
		s := telemetry.LaneState{
			Broker: l.Broker, Trigger: l.Trigger, Backlog: l.Backlog, InFlight: l.InFlight,
			Waiting: l.Waiting, DeadLetters: l.Letters,
		}
		if l.Paced {
			s.Window = l.Window
		}
		if !l.OldestPending.IsZero() {
			s.OldestPending = max(0, time.Since(l.OldestPending))
		}
		if !yield(s) {
			return
		}
	}
}

func (g gauges) Channels(yield func(telemetry.ChannelState) bool) {
	for _, b := range g.Snapshot().Brokers() {
		log, ok := g.dispatch.Log(b.UID)
		if !ok {
			continue
		}
		s := log.Stats()
		if !yield(telemetry.ChannelState{Broker: b.FullName(), Bytes: s.Bytes, DeadBytes: s.DeadBytes, MaxBytes: s.MaxBytes}) {
			return
		}
	}
}
