package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// touched puts a lane on the list of the next flush and sees that there is one.
func (b *broker) touched(l *lane) {
	b.mu.Lock()
	b.touches = append(b.touches, l)
	b.mu.Unlock()
	b.beat()
}

// beat sees that a flush follows.
func (b *broker) beat() {
	select {
	case b.pulse <- struct{}{}:
	default:
	}
}

// rested sees that idle workers are looked for before long.
func (b *broker) rested() {
	select {
	case b.parked <- struct{}{}:
	default:
	}
}

// flushLoop saves progress within flushEvery of a change, and sends workers
// home that nobody needs. It sleeps when there is neither.
func (b *broker) flushLoop() {
	idle := time.NewTimer(idleWorker)
	idle.Stop()
	defer idle.Stop()
	parked := b.parked // nil while the timer runs: what is said meanwhile waits
	failing := false   // said once, not at each beat
	for {
		select {
		case <-b.ctx.Done():
			return
		case <-b.pulse:
			if !wait(b.ctx, flushEvery) {
				return
			}
			b.d.look(time.Now())
			err := b.flush(b.ctx)
			if err != nil && !failing && b.ctx.Err() == nil {
				b.d.log.Error("progress cannot be saved", "broker", b.name, "err", err)
			}
			failing = err != nil
		case <-parked:
			parked = nil
			idle.Reset(idleWorker)
		case <-idle.C:
			parked = b.parked
			left := false
			for _, l := range b.list() {
				left = l.releaseIdle() || left
			}
			if left {
				b.rested()
			}
			b.share()
		}
	}
}

// leastShared is how many positions must be at rest for share to be worth it.
const leastShared = 1 << 16

// share has lanes and log keep what is pending on both in one piece of memory.
// Of what has not changed since it was saved both have the same.
func (b *broker) share() {
	var rest uint64
	for _, l := range b.list() {
		rest += l.atRest()
	}
	if rest < leastShared || rest == b.shared {
		return
	}
	b.shared = rest
	for i, shard := range b.shards {
		_, lanes := b.log.Resume(shard)
		for j := range lanes {
			if l := b.known(lanes[j].Trigger); l != nil {
				l.mu.Lock()
				l.in(i).pending.Share(&lanes[j].Positions)
				l.mu.Unlock()
			}
		}
	}
}

// atRest counts the positions that share is about.
func (l *lane) atRest() (n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.shards {
		n += l.shards[i].pending.AtRest()
	}
	return n
}

// known finds a trigger's lane; nil for none.
func (b *broker) known(uid channel.UID) *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lanes[uid]
}

// flush hands the changes since the last one to the log. Changes that the log
// does not take are kept and handed over first the next time: the log must
// hear of them in order, and a later change says that what lies below it and
// is not pending is settled. Where the log has no room the next time is soon.
func (b *broker) flush(ctx context.Context) error {
	b.flushes.Lock()
	defer b.flushes.Unlock()
	if len(b.unsaved) == 0 {
		b.unsaved = b.collect()
	}
	if len(b.unsaved) == 0 {
		return nil
	}
	err := b.save(ctx, b.unsaved)
	switch {
	case err == nil:
		b.unsaved = nil
	case errors.Is(err, channel.ErrFull):
		b.beat()
	}
	return err
}

// save hands changes to the log, in parts where they are too large for it. A
// part that was saved before a later one failed may be saved again.
func (b *broker) save(ctx context.Context, changes []channel.ShardProgress) error {
	err := b.log.SaveProgress(ctx, changes)
	if !errors.Is(err, channel.ErrTooLarge) {
		return err
	}
	first, second, ok := halve(changes)
	if !ok {
		return err
	}
	if err := b.save(ctx, first); err != nil {
		return err
	}
	return b.save(ctx, second)
}

// halve splits changes so that the first half can be saved without the
// second: it settles nothing that the second makes pending.
func halve(changes []channel.ShardProgress) (first, second []channel.ShardProgress, ok bool) {
	if n := len(changes); n != 1 {
		return changes[:n/2], changes[n/2:], n > 1
	}
	whole := changes[0]
	head, rest := channel.ShardProgress{Shard: whole.Shard}, whole
	if n := len(whole.Lanes); n > 1 {
		head.Lanes, rest.Lanes = whole.Lanes[:n/2], whole.Lanes[n/2:]
	} else if n == 1 && len(whole.Lanes[0].Retries) > 1 {
		lane := whole.Lanes[0]
		half := len(lane.Retries) / 2
		head.Lanes = []channel.LaneProgress{{Trigger: lane.Trigger, Added: lane.Added, Retries: lane.Retries[:half]}}
		rest.Lanes = []channel.LaneProgress{{Trigger: lane.Trigger, Settled: lane.Settled, Retries: lane.Retries[half:]}}
	} else {
		return nil, nil, false
	}
	return []channel.ShardProgress{head}, []channel.ShardProgress{rest}, true
}

// collect takes the changes of all lanes. The caller holds flushes.
func (b *broker) collect() []channel.ShardProgress {
	// Scanned first: all that was offered below it is then in the lanes' changes.
	changes := make([]channel.ShardProgress, len(b.shards))
	for i, shard := range b.shards {
		changes[i] = channel.ShardProgress{Shard: shard, Scanned: channel.Position(b.scanned[i].Load())}
	}
	b.mu.Lock()
	touched := b.touches
	b.touches = nil
	b.mu.Unlock()
	for _, l := range touched {
		l.collect(changes)
	}
	news := changes[:0]
	for _, change := range changes {
		shard := slices.Index(b.shards, change.Shard)
		if change.Scanned != b.saved[shard] || len(change.Lanes) > 0 {
			b.saved[shard] = change.Scanned
			news = append(news, change)
		}
	}
	return news
}
