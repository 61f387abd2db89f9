package memory

import (
	"context"
	"maps"

	"github.com/penstock-events/penstock/pkg/channel"
)

// SetRoutes implements channel.Router.
func (b *broker) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	if err := b.log.wait(ctx); err != nil {
		return channel.Routes{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return channel.Routes{}, b.ended
	}
	// The lock that appends hold is held over all shards: what they have
	// stored lies before the change, what they will store lies behind it.
	change.Epoch = b.routes.Epoch() + 1
	change.From = make(map[channel.ShardID]channel.Position, len(b.shards))
	for _, s := range b.shards {
		change.From[s.id] = s.next
	}
	stored := change
	stored.From = maps.Clone(change.From)
	b.routes.Add(stored)
	b.foldRoutes()
	return change, nil
}

// Routes implements channel.Router.
func (b *broker) Routes() []channel.Routes {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.routes.Changes()
}

func (b *broker) foldRoutes() {
	b.routes.Forget(func(id channel.ShardID) channel.Position { return b.shards[id].unscanned() })
}

// SaveProgress implements channel.Keeper. All changes are taken, or none.
func (b *broker) SaveProgress(_ context.Context, changes []channel.ShardProgress) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return b.ended
	}
	for _, change := range changes {
		if _, err := b.shard(change.Shard); err != nil {
			return err
		}
	}
	scanned := false
	for _, change := range changes {
		s := b.shards[change.Shard]
		for _, lane := range change.Lanes {
			b.change(s, lane)
		}
		scanned = b.scan(s, change.Scanned) || scanned
	}
	for b.retained > max(b.info.RetentionBytes, 0) {
		b.forgetOldest()
	}
	b.tidy()
	if scanned {
		b.foldRoutes()
	}
	return nil
}

// change applies a change to one lane, and counts for each event how many
// lanes have it pending.
func (b *broker) change(s *shard, change channel.LaneProgress) {
	lane := s.lanes[change.Trigger]
	if lane == nil {
		lane = &channel.Pending{}
		s.lanes[change.Trigger] = lane
	}
	lane.ApplyEach(change, func(p channel.Position) { b.hold(s, p) }, func(p channel.Position) { b.letGo(s, p) })
	if lane.Positions.IsEmpty() {
		delete(s.lanes, change.Trigger)
	}
}

// hold counts one more lane that has an event pending.
func (b *broker) hold(s *shard, p channel.Position) {
	if g, i := s.find(p); g != nil {
		g.index[i].lanes++
		b.reopen(g, i)
	}
}

// letGo counts one less. The last settles the event, if no scan has yet to
// find out who else wants it.
func (b *broker) letGo(s *shard, p channel.Position) {
	g, i := s.find(p)
	if g == nil {
		return
	}
	if g.index[i].lanes--; g.index[i].lanes == 0 && p < s.scanned {
		b.settle(s, g, i)
	}
}

// scan moves a shard's scan up, and settles what it passes and nobody wants.
func (b *broker) scan(s *shard, to channel.Position) (moved bool) {
	to = min(to, s.next)
	if to <= s.scanned {
		return false
	}
	from := s.scanned
	s.scanned = to
	for n := s.from(from); n < len(s.segments); n++ {
		g := s.segments[n]
		i := 0
		if from > g.base {
			i = int(from - g.base)
		}
		for ; i < len(g.index) && g.base+channel.Position(i) < to; i++ {
			if e := &g.index[i]; e.size > 0 && e.lanes == 0 {
				b.settle(s, g, i)
			}
		}
		if g.end() >= to {
			break
		}
	}
	return true
}

// Progress implements channel.Keeper.
func (b *broker) Progress(id channel.ShardID) channel.ShardProgress {
	b.mu.Lock()
	defer b.mu.Unlock()
	progress := channel.ShardProgress{Shard: id}
	if s, err := b.shard(id); err == nil {
		progress.Scanned = s.scanned
		for trigger, lane := range s.lanes {
			progress.Lanes = append(progress.Lanes, lane.Whole(trigger))
		}
	}
	return progress
}

// Resume implements channel.Keeper.
func (b *broker) Resume(id channel.ShardID) (scanned channel.Position, lanes []channel.Resumed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.shard(id)
	if err != nil {
		return 0, nil
	}
	for trigger, lane := range s.lanes {
		lanes = append(lanes, lane.Resume(trigger))
	}
	return s.scanned, lanes
}
