package rerun

import (
	"context"
	"fmt"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

var _ dispatch.Newcomers = (*Manager)(nil)

// Coming implements dispatch.Newcomers: the job of a Trigger that wants the
// past is kept before the Trigger is routed, and learns after it where live
// events begin. What a crash leaves in between, settleStarts deals with.
func (m *Manager) Coming(_ context.Context, broker channel.UID, _ channel.BrokerLog, triggers []*config.Trigger) error {
	for _, t := range triggers {
		if t.Start.IsZero() {
			continue
		}
		m.mu.Lock()
		_, known := m.startOf(broker, t.UID)
		if known {
			m.mu.Unlock()
			continue
		}
		r := record{
			Job:       v1.Job{Kind: v1.JobStart, Broker: t.BrokerName(), Trigger: t.FullName(), Who: "penstock.dev/start"},
			BrokerUID: broker, TriggerUID: t.UID,
		}
		now := m.o.Now().UTC()
		switch {
		case !t.Start.At.IsZero():
			from := t.Start.At
			r.From = &from
		case t.Start.Back > 0:
			from := now.Add(-t.Start.Back)
			r.From = &from
		}
		j := m.enter(r)
		m.mu.Unlock()
		if err := m.keepNew(j); err != nil {
			return fmt.Errorf("start of trigger %s: %w", t.FullName(), err)
		}
	}
	return nil
}

// startOf finds the start job of a Trigger. The caller holds the mutex.
func (m *Manager) startOf(broker, trigger channel.UID) (*job, bool) {
	for _, j := range m.order {
		if j.rec.Kind == v1.JobStart && j.rec.BrokerUID == broker && j.rec.TriggerUID == trigger {
			return j, true
		}
	}
	return nil, false
}

// Came implements dispatch.Newcomers: from says where live events begin.
func (m *Manager) Came(broker channel.UID, triggers []*config.Trigger, from map[channel.ShardID]channel.Position) {
	for _, t := range triggers {
		m.mu.Lock()
		j, ok := m.startOf(broker, t.UID)
		if !ok || j.ready() || !active(j.rec.State) {
			m.mu.Unlock()
			continue
		}
		m.bound(j, from)
		m.mu.Unlock()
	}
}

// bound settles what a start goes through, and sets it going. The caller holds
// the mutex.
func (m *Manager) bound(j *job, from map[channel.ShardID]channel.Position) {
	r := &j.rec
	r.Spans = make(map[channel.ShardID]span, len(from))
	for shard, until := range from {
		r.Spans[shard] = span{Next: 1, Until: until, Sought: r.From == nil}
		r.Total += uint64(until - min(1, until))
	}
	kept := r.clone()
	if err := m.store.save(&kept); err != nil {
		// Without it a crash has the job look for the border in the log.
		m.log.Warn("progress of a job cannot be kept yet", "job", r.ID, "err", err)
	}
	m.launch(j, "start")
}

// settleStarts sees to the starts that a crash left between Coming and Came:
// their Triggers are routed already, or will be, which Came tells.
func (m *Manager) settleStarts(ctx context.Context) {
	for {
		open := 0
		m.mu.Lock()
		for _, j := range m.order {
			if active(j.rec.State) && !j.ready() && !m.settleStart(j) {
				open++
			}
		}
		m.mu.Unlock()
		if open == 0 || !pause(ctx, lookAgain) {
			return
		}
	}
}

// settleStart looks in the log for where live events begin. The caller holds
// the mutex.
func (m *Manager) settleStart(j *job) bool {
	r := &j.rec
	log, opened := m.o.Log(r.BrokerUID)
	if !opened {
		return false
	}
	for _, change := range log.Routes() {
		for _, route := range change.Set {
			if route.Trigger == r.TriggerUID {
				// The change may have been folded into a later one since. What lies
				// between goes to the Trigger twice.
				m.bound(j, change.From)
				return true
			}
		}
	}
	return false
}
