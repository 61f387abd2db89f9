package disk

import (
	"context"
	"fmt"

	"github.com/penstock-events/penstock/pkg/channel"
)

// lazyBytes bounds the progress that waits to be written while the disk is
// slow or full.
const lazyBytes = 64 << 20

// lazy is a progress record on its way to the log.
type lazy struct {
	broker  *broker
	payload []byte
}

// SaveProgress implements channel.Keeper. The changes count at once; they are
// durable with the next batch or within 100 ms. After an error nothing of them
// counts, and the caller must save them again before later ones.
func (b *broker) SaveProgress(_ context.Context, changes []channel.ShardProgress) error {
	if err := b.log.unavailable(); err != nil {
		return err
	}
	payload, err := encodeProgress(changes)
	if err != nil {
		return fmt.Errorf("save progress of broker %s: %w", b.uid, err)
	}
	for i := range changes {
		if _, err := b.shard(changes[i].Shard); err != nil {
			return fmt.Errorf("save progress: %w", err)
		}
	}
	l := b.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.gone.Load() {
		return &channel.Refused{Err: fmt.Errorf("%w: %s", channel.ErrNoBroker, b.uid)}
	}
	if frameSize(len(payload))+footerSize(1, 0) > l.segmentSize-segmentHeader {
		return &channel.Refused{Err: fmt.Errorf("%w: %d bytes of progress", channel.ErrTooLarge, len(payload))}
	}
	if len(l.lazies) > 0 && l.lazyBytes+int64(len(payload)) > lazyBytes {
		return l.refused(fmt.Errorf("%w: %d bytes of progress wait to be written", channel.ErrFull, l.lazyBytes))
	}
	b.apply(changes)
	l.lazies = append(l.lazies, lazy{b, payload})
	l.lazyBytes += int64(len(payload))
	if !l.lazyTold {
		l.lazyTold = true
		select {
		case l.lazyKick <- struct{}{}:
		default:
		}
	}
	return nil
}

// apply adds changes to the state. Under Log.mu.
func (b *broker) apply(changes []channel.ShardProgress) {
	for _, c := range changes {
		if uint64(c.Shard) >= uint64(len(b.progress)) {
			continue
		}
		p := &b.progress[c.Shard]
		for _, lane := range c.Lanes {
			if lane.Added != nil && !lane.Added.IsEmpty() && lane.Added.Minimum() < uint64(p.scanned) {
				p.backfills++
			}
		}
		p.scanned = max(p.scanned, c.Scanned)
		for _, lane := range c.Lanes {
			pending := p.lane(lane.Trigger)
			pending.Apply(lane)
			if pending.Positions.IsEmpty() && len(pending.Retries) == 0 {
				delete(p.lanes, lane.Trigger) // nothing to remember
			}
		}
	}
	b.routes.Forget(b.unscanned)
}

// lane is one trigger's state, made if there is none.
func (p *progress) lane(trigger channel.UID) *channel.Pending {
	pending := p.lanes[trigger]
	if pending == nil {
		pending = new(channel.Pending)
		p.lanes[trigger] = pending
	}
	return pending
}

// unscanned is the first position of a shard that has not been matched. Under Log.mu.
func (b *broker) unscanned(shard channel.ShardID) channel.Position {
	if uint64(shard) >= uint64(len(b.progress)) {
		return 0
	}
	return max(1, b.progress[shard].scanned)
}

// Progress implements channel.Keeper.
func (b *broker) Progress(shard channel.ShardID) channel.ShardProgress {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	whole := channel.ShardProgress{Shard: shard}
	if uint64(shard) < uint64(len(b.progress)) {
		whole.Scanned = b.progress[shard].scanned
		for trigger, pending := range b.progress[shard].lanes {
			whole.Lanes = append(whole.Lanes, pending.Whole(trigger))
		}
	}
	return whole
}

// Resume implements channel.Keeper.
func (b *broker) Resume(shard channel.ShardID) (scanned channel.Position, lanes []channel.Resumed) {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	if uint64(shard) >= uint64(len(b.progress)) {
		return 0, nil
	}
	for trigger, pending := range b.progress[shard].lanes {
		lanes = append(lanes, pending.Resume(trigger))
	}
	return b.progress[shard].scanned, lanes
}

func encodeProgress(changes []channel.ShardProgress) ([]byte, error) {
	var e encoder
	e.uint(uint64(len(changes)))
	for i := range changes {
		if err := putProgress(&e, &changes[i]); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func decodeProgress(payload []byte) ([]channel.ShardProgress, error) {
	d := decoder{rest: payload}
	changes := make([]channel.ShardProgress, d.count())
	for i := range changes {
		changes[i] = getProgress(&d)
	}
	return changes, d.err
}

func putProgress(e *encoder, p *channel.ShardProgress) error {
	e.uint(uint64(p.Shard))
	e.uint(uint64(p.Scanned))
	e.uint(uint64(len(p.Lanes)))
	for _, lane := range p.Lanes {
		e.string(string(lane.Trigger))
		if err := e.bitmap(lane.Added); err != nil {
			return err
		}
		if err := e.bitmap(lane.Settled); err != nil {
			return err
		}
		e.uint(uint64(len(lane.Retries)))
		for _, r := range lane.Retries {
			putRetry(e, &r)
		}
	}
	return nil
}

func putRetry(e *encoder, r *channel.Retry) {
	e.uint(uint64(r.Position))
	e.uint(uint64(r.Attempts))
	e.time(r.NotBefore)
	e.bool(r.Dead)
}

func getProgress(d *decoder) channel.ShardProgress {
	p := channel.ShardProgress{Shard: channel.ShardID(d.uint()), Scanned: channel.Position(d.uint())}
	for range d.count() {
		p.Lanes = append(p.Lanes, getLane(d))
	}
	return p
}

func getLane(d *decoder) channel.LaneProgress {
	return channel.LaneProgress{Trigger: channel.UID(d.string()), Added: d.bitmap(), Settled: d.bitmap(), Retries: getRetries(d)}
}

func getRetries(d *decoder) (all []channel.Retry) {
	for range d.count() {
		all = append(all, channel.Retry{
			Position: channel.Position(d.uint()), Attempts: int(d.uint()), NotBefore: d.time(), Dead: d.bool(),
		})
	}
	return all
}
