package dispatch

import (
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Pending is one trigger that an event is pending for.
type Pending struct {
	Trigger   channel.UID
	Name      string    // namespace/name
	Attempts  int       // made so far, where it waits for another
	NotBefore time.Time // when the next is due, by the wall clock; zero where it does not wait
}

// Pending lists the triggers that an event is pending for, and whether every
// trigger that wants it is among them: not before it has been scanned.
func (d *Dispatcher) Pending(broker channel.UID, id channel.ID) (pending []Pending, scanned bool) {
	b, ok := (*d.brokers.Load())[broker]
	if !ok {
		return nil, false
	}
	for i, shard := range b.shards {
		if shard != id.Shard {
			continue
		}
		scanned = uint64(id.Position) < b.scanned[i].Load()
		for _, l := range b.list() {
			if p, ok := l.pendingAt(i, id.Position); ok {
				pending = append(pending, p)
			}
		}
	}
	return pending, scanned
}

// pendingAt looks one event up.
func (l *lane) pendingAt(shard int, pos channel.Position) (Pending, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.pends(shard, pos) {
		return Pending{}, false
	}
	p := Pending{Trigger: l.uid, Name: l.name}
	for i := range l.waiting {
		if w := &l.waiting[i]; w.shard == shard && w.pos == pos {
			p.Attempts, p.NotBefore = w.attempts, l.broker.d.opts.Now().Add(time.Until(w.due))
		}
	}
	return p, true
}

// Unmatched is the first position of a shard that has not been matched against
// the Broker's triggers; 0 where the Broker or the shard is not here.
func (d *Dispatcher) Unmatched(broker channel.UID, shard channel.ShardID) channel.Position {
	b, ok := (*d.brokers.Load())[broker]
	if !ok {
		return 0
	}
	for i, s := range b.shards {
		if s == shard {
			return channel.Position(b.scanned[i].Load())
		}
	}
	return 0
}
