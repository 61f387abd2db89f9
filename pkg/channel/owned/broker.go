package owned

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/penstock-events/penstock/pkg/channel"
)

// broker is a BrokerLog with other shard numbers. What it does not override
// (Info, DeadCount, DiscardDead, DeadGroups, Stats) speaks of no shard.
type broker struct {
	channel.BrokerLog
	first  channel.ShardID
	shards []channel.ShardID // as seen from outside
}

// Shards implements channel.BrokerLog.
func (b *broker) Shards() []channel.ShardID { return slices.Clone(b.shards) }

// inside is the log's own number of a shard.
func (b *broker) inside(shard channel.ShardID) (channel.ShardID, error) {
	if _, ok := slices.BinarySearch(b.shards, shard); !ok {
		return 0, fmt.Errorf("broker %s has no shard %d, it has %d to %d", b.Info().Name, shard, b.shards[0], b.shards[len(b.shards)-1])
	}
	return shard - b.first, nil
}

// Gaps implements channel.BrokerLog. A gap of dead letters has no shard.
func (b *broker) Gaps() []channel.Gap {
	gaps := slices.Clone(b.BrokerLog.Gaps())
	for i := range gaps {
		if !gaps[i].Dead {
			gaps[i].Shard += b.first
		}
	}
	return gaps
}

// Read implements channel.Reader.
func (b *broker) Read(ctx context.Context, shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	inside, err := b.inside(shard)
	if err != nil {
		return buf, from, err
	}
	records, next, err := b.BrokerLog.Read(ctx, inside, from, buf)
	return records, next, b.outside(err)
}

// Recent implements channel.Reader.
func (b *broker) Recent(shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, bool) {
	inside, err := b.inside(shard)
	if err != nil {
		return buf, from, false // Read says it
	}
	return b.BrokerLog.Recent(inside, from, buf)
}

// Follow implements channel.Reader.
func (b *broker) Follow(f func(shard channel.ShardID, n int)) {
	b.BrokerLog.Follow(func(inside channel.ShardID, n int) { f(inside+b.first, n) })
}

// Get implements channel.Reader.
func (b *broker) Get(ctx context.Context, shard channel.ShardID, positions []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	inside, err := b.inside(shard)
	if err != nil {
		return buf, err
	}
	records, err := b.BrokerLog.Get(ctx, inside, positions, buf)
	return records, b.outside(err)
}

// Range implements channel.Reader.
func (b *broker) Range(shard channel.ShardID) (earliest, next channel.Position) {
	inside, err := b.inside(shard)
	if err != nil {
		return 0, 0
	}
	return b.BrokerLog.Range(inside)
}

// outside gives the gaps in an error the numbers seen from outside. A log
// answers with one gap or with several joined.
func (b *broker) outside(err error) error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		all := slices.Clone(joined.Unwrap())
		for i := range all {
			all[i] = b.outside(all[i])
		}
		return errors.Join(all...)
	}
	var gap *channel.GapError
	if !errors.As(err, &gap) {
		return err
	}
	moved := *gap
	moved.Shard += b.first
	return &moved
}

// SetRoutes implements channel.Router.
func (b *broker) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	done, err := b.BrokerLog.SetRoutes(ctx, change)
	done.From = b.moved(done.From)
	return done, err
}

// Routes implements channel.Router.
func (b *broker) Routes() []channel.Routes {
	changes := slices.Clone(b.BrokerLog.Routes())
	for i := range changes {
		changes[i].From = b.moved(changes[i].From)
	}
	return changes
}

func (b *broker) moved(from map[channel.ShardID]channel.Position) map[channel.ShardID]channel.Position {
	if from == nil {
		return nil
	}
	moved := make(map[channel.ShardID]channel.Position, len(from))
	for shard, position := range from {
		moved[shard+b.first] = position
	}
	return moved
}

// SaveProgress implements channel.Keeper.
func (b *broker) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	moved := make([]channel.ShardProgress, len(changes))
	for i, change := range changes {
		inside, err := b.inside(change.Shard)
		if err != nil {
			return err
		}
		change.Shard = inside
		moved[i] = change
	}
	return b.BrokerLog.SaveProgress(ctx, moved)
}

// Progress implements channel.Keeper.
func (b *broker) Progress(shard channel.ShardID) channel.ShardProgress {
	inside, err := b.inside(shard)
	if err != nil {
		return channel.ShardProgress{Shard: shard}
	}
	p := b.BrokerLog.Progress(inside)
	p.Shard = shard
	return p
}

// Resume implements channel.Keeper.
func (b *broker) Resume(shard channel.ShardID) (channel.Position, []channel.Resumed) {
	inside, err := b.inside(shard)
	if err != nil {
		return 0, nil
	}
	return b.BrokerLog.Resume(inside)
}

// AppendDead implements channel.DeadLetters.
func (b *broker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	moved := slices.Clone(letters)
	for i := range moved {
		inside, err := b.inside(moved[i].ID.Shard)
		if err != nil {
			return &channel.Refused{Err: fmt.Errorf("dead letter %s: %w", moved[i].ID, err)}
		}
		moved[i].ID.Shard = inside
	}
	return b.BrokerLog.AppendDead(ctx, moved)
}

// Dead implements channel.DeadLetters.
func (b *broker) Dead(ctx context.Context, trigger channel.UID, after string, limit int) ([]channel.DeadLetter, string, error) {
	letters, next, err := b.BrokerLog.Dead(ctx, trigger, after, limit)
	return b.lettersOutside(letters), next, b.outside(err)
}

// DeadByNumber implements channel.DeadLetters.
func (b *broker) DeadByNumber(ctx context.Context, numbers []uint64) ([]channel.DeadLetter, error) {
	letters, err := b.BrokerLog.DeadByNumber(ctx, numbers)
	return b.lettersOutside(letters), b.outside(err)
}

// FindDead implements channel.DeadLetters. No event of another's shard died here.
func (b *broker) FindDead(ctx context.Context, trigger channel.UID, id channel.ID) (channel.DeadLetter, bool, error) {
	inside, err := b.inside(id.Shard)
	if err != nil {
		return channel.DeadLetter{}, false, nil
	}
	letter, found, err := b.BrokerLog.FindDead(ctx, trigger, channel.ID{Shard: inside, Position: id.Position})
	if found {
		letter.ID.Shard += b.first
	}
	return letter, found, b.outside(err)
}

// lettersOutside are the letters with the shards that are seen from outside.
func (b *broker) lettersOutside(letters []channel.DeadLetter) []channel.DeadLetter {
	letters = slices.Clone(letters)
	for i := range letters {
		letters[i].ID.Shard += b.first
	}
	return letters
}
