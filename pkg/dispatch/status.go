package dispatch

import (
	"context"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// LaneStatus is what a person wants to know of one trigger's delivery.
type LaneStatus struct {
	Broker, Trigger string // namespace/name each
	UID             channel.UID

	Backlog  uint64 // matched and not in a final state
	InFlight int    // attempts under way
	Waiting  int    // events between two attempts
	Behind   bool   // reads its events again from the log

	// Window is how many attempts of the subscriber may be under way at once
	// now, by what the lane has learnt of it; of a steady lane its concurrency.
	// Paced lanes have a subscriber that scales from zero.
	Window int
	Paced  bool

	Pause   Pause
	Ordered bool
	Rate    float64 // attempts a second at most; 0: no limit
	Circuit Circuit

	// BlockedKeys counts the keys of an ordered lane that wait for their first
	// event, Blocked are the longest blocked of them.
	BlockedKeys int
	Blocked     []Blocked

	// Waits is one line that says why the lane begins nothing now, or less than
	// it has, and until when; "" where nothing is in its way.
	Waits string

	// ColdSince is when a subscriber that scales from zero began to refuse, and
	// SparedUntil how long its refusals do not count as attempts. Both are zero
	// where it takes events, and for a lane that is not paced.
	ColdSince, SparedUntil time.Time

	// Since this process started. Spared are attempts that were not counted.
	Delivered, Failed, Spared, Dead, Cancelled uint64

	Letters uint64 // dead letters kept

	// OldestPending is when the oldest pending event was accepted, zero where
	// there is none or it cannot be read.
	OldestPending time.Time
}

// Lanes lists all lanes by broker; within a broker in no order. It reads one
// event of each lane that has a backlog, to know its age.
func (d *Dispatcher) Lanes(ctx context.Context) []LaneStatus {
	var all []LaneStatus
	for _, b := range d.sorted() {
		for _, l := range b.list() {
			all = append(all, l.status(ctx))
		}
	}
	return all
}

// Log finds the open log of a broker.
func (d *Dispatcher) Log(uid channel.UID) (channel.BrokerLog, bool) {
	b, ok := (*d.brokers.Load())[uid]
	if !ok {
		return nil, false
	}
	return b.log, true
}

// Appender finds the channel that takes a broker's events, once its trigger
// set is in force.
func (d *Dispatcher) Appender(uid channel.UID) (channel.Appender, bool) {
	b, ok := (*d.brokers.Load())[uid]
	if !ok || !b.started.Load() {
		return nil, false
	}
	return b.appender, true
}

// status counts a lane. The oldest event's time is looked up once and
// remembered until another is the oldest.
func (l *lane) status(ctx context.Context) LaneStatus {
	s := LaneStatus{
		Broker: l.broker.name, Trigger: l.name, UID: l.uid,
		Delivered: l.metrics.Total(telemetry.Delivered), Failed: l.metrics.Total(telemetry.Failed),
		Spared: l.metrics.Total(telemetry.Spared), Dead: l.metrics.Total(telemetry.Dead), Cancelled: l.metrics.Total(telemetry.Cancelled),
		Letters: l.broker.log.DeadCount(l.uid),
	}
	l.mu.Lock()
	l.control(&s)
	s.InFlight, s.Waiting, s.Window = l.inflight, len(l.waiting), l.conf.concurrency
	if p := l.pace; p != nil {
		s.Window, s.Paced = p.size(time.Now()), !p.eager
		if !p.coldSince.IsZero() {
			s.ColdSince, s.SparedUntil = p.coldSince, p.coldSince.Add(ColdStart)
		}
	}
	first := make([]channel.Position, len(l.shards))
	for i := range l.shards {
		shard := &l.shards[i]
		s.Backlog += shard.pending.Len()
		s.Behind = s.Behind || shard.behind
		first[i] = shard.pending.First()
	}
	l.mu.Unlock()
	for i, pos := range first {
		if pos == 0 {
			continue
		}
		if at := l.ages.of(ctx, l.broker, i, pos); !at.IsZero() && (s.OldestPending.IsZero() || at.Before(s.OldestPending)) {
			s.OldestPending = at
		}
	}
	return s
}

// of is when the event at a position was accepted.
func (a *ages) of(ctx context.Context, b *broker, shard int, pos channel.Position) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil {
		a.known = make(map[int]aged)
	}
	if known := a.known[shard]; known.pos == pos {
		return known.at
	}
	records, _ := b.log.Get(ctx, b.shards[shard], []channel.Position{pos}, nil)
	if len(records) == 0 {
		return time.Time{}
	}
	a.known[shard] = aged{pos: pos, at: records[0].Time}
	return records[0].Time
}
