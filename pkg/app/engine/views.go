package engine

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/ingress"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// scrapeWait bounds what a scrape reads from the log to know the age of the
// oldest pending events.
const scrapeWait = 2 * time.Second

// views show the running process to ingress, the API and the metrics.
type views struct {
	shown    atomic.Pointer[ingress.Table]
	dispatch *dispatch.Dispatcher // set before anybody looks
}

func newViews() *views {
	v := &views{}
	first := ingress.Table{}.Next(&config.Snapshot{}, 1)
	v.shown.Store(&first)
	return v
}

// show makes s what everybody sees. One goroutine at a time calls it.
func (v *views) show(s *config.Snapshot) {
	next := v.shown.Load().Next(s, 1)
	v.shown.Store(&next)
}

// Target is ingress.Routes over the channels of this process.
func (e *Engine) Target(namespace, name string) (ingress.Target, bool) {
	return e.views.shown.Load().Target(namespace, name, e.appender)
}

// Appender finds the channel of a Broker for events that come from another
// process. The error says why there is none, as channel.Appender would.
func (e *Engine) Appender(broker channel.UID) (channel.Appender, error) {
	if a, ok := e.appender(broker); ok {
		return a, nil
	}
	return nil, &channel.Refused{Err: fmt.Errorf("%w: the broker is loading its triggers", channel.ErrUnavailable), RetryAfter: time.Second}
}

// Snapshot, Log and Lanes make views an api.Source.
func (v *views) Snapshot() *config.Snapshot { return v.shown.Load().Snapshot() }

func (v *views) Log(broker channel.UID) (channel.BrokerLog, bool) { return v.dispatch.Log(broker) }

func (v *views) Lanes(ctx context.Context) []api.Lane {
	var lanes []api.Lane
	for _, l := range v.dispatch.Lanes(ctx) {
		blocked := viewBlocked(l.Blocked)
		lanes = append(lanes, api.Lane{
			Trigger: l.UID, Backlog: l.Backlog, Oldest: l.OldestPending, InFlight: l.InFlight, Waiting: l.Waiting,
			Delivered: l.Delivered, Failed: l.Failed, Spared: l.Spared, Cancelled: l.Cancelled,
			Window: l.Window, ColdSince: l.ColdSince, SparedUntil: l.SparedUntil,
			Waits: l.Waits, PausedByAnnotation: l.Pause.Annotated, PausedBy: l.Pause.Asked, PausedUntil: l.Pause.Until,
			Rate: l.Rate, Ordered: l.Ordered, BlockedKeys: l.BlockedKeys, Blocked: blocked, Circuit: viewCircuit(l.Circuit),
		})
	}
	return lanes
}

// gauges are the views as a telemetry.Source.
type gauges struct {
	*views
	known func() map[channel.UID]dedup.Stats
}

func (g gauges) Lanes(yield func(telemetry.LaneState) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeWait)
	defer cancel()
	for _, l := range g.dispatch.Lanes(ctx) {
		s := telemetry.LaneState{
			Broker: l.Broker, Trigger: l.Trigger, Backlog: l.Backlog, InFlight: l.InFlight,
			Waiting: l.Waiting, DeadLetters: l.Letters, Window: l.Window,
			Paused: l.Pause.On(), CircuitOpen: l.Circuit.State != dispatch.CircuitClosed,
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
	known := g.known()
	for _, b := range g.Snapshot().Brokers() {
		log, ok := g.dispatch.Log(b.UID)
		if !ok {
			continue
		}
		s := log.Stats()
		state := telemetry.ChannelState{Broker: b.FullName(), Bytes: s.Bytes, DeadBytes: s.DeadBytes, MaxBytes: s.MaxBytes}
		if k, ok := known[b.UID]; ok {
			state.Known = &telemetry.KnownEvents{Entries: k.Entries, Bytes: k.Bytes, Window: k.Window}
		}
		if !yield(state) {
			return
		}
	}
}

// trafficOf counts a Broker's events for the API.
func trafficOf(m *telemetry.Metrics) func(broker string) (received, accepted uint64) {
	return func(broker string) (uint64, uint64) {
		b := m.Broker(broker)
		return b.Total(), b.Accepted()
	}
}
