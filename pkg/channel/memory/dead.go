package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// letterBytes is what a dead letter costs beside its event and its texts.
const letterBytes = 384

// graveyard holds dead letters by number, which is the order they died in. A
// cursor is the number of the last that was listed.
type graveyard struct {
	last    uint64 // number given
	letters map[uint64]*channel.DeadLetter
	all     roaring64.Bitmap                  // numbers of the letters that are kept
	of      map[channel.UID]*roaring64.Bitmap // of each trigger's
	deaths  map[death][]uint64                // of each event's, ascending
	bytes   int64
}

// death is an event that died for a trigger; it may more than once.
type death struct {
	trigger channel.UID
	id      channel.ID
}

// numbers are those of a trigger's letters, all triggers' where it is "";
// nil for none.
func (g *graveyard) numbers(trigger channel.UID) *roaring64.Bitmap {
	if trigger == "" {
		return &g.all
	}
	return g.of[trigger]
}

// bury takes in a letter and numbers it.
func (g *graveyard) bury(l channel.DeadLetter) {
	if g.letters == nil {
		g.letters = map[uint64]*channel.DeadLetter{}
		g.of = map[channel.UID]*roaring64.Bitmap{}
		g.deaths = map[death][]uint64{}
	}
	if g.of[l.Trigger] == nil {
		g.of[l.Trigger] = roaring64.New()
	}
	g.last++
	l.Number = g.last
	g.letters[l.Number] = &l
	g.all.Add(l.Number)
	g.of[l.Trigger].Add(l.Number)
	key := death{l.Trigger, l.ID}
	g.deaths[key] = append(g.deaths[key], l.Number)
	g.bytes += letterSize(l)
}

// discard lets go of a letter and returns how many bytes that frees; false if
// there is none.
func (g *graveyard) discard(number uint64) (freed int64, was bool) {
	l := g.letters[number]
	if l == nil {
		return 0, false
	}
	delete(g.letters, number)
	g.all.Remove(number)
	if g.of[l.Trigger].Remove(number); g.of[l.Trigger].IsEmpty() {
		delete(g.of, l.Trigger)
	}
	key := death{l.Trigger, l.ID}
	numbers := slices.DeleteFunc(g.deaths[key], func(n uint64) bool { return n == number })
	if g.deaths[key] = numbers; len(numbers) == 0 {
		delete(g.deaths, key)
	}
	freed = letterSize(*l)
	g.bytes -= freed
	return freed, true
}

func letterSize(l channel.DeadLetter) int64 {
	return int64(letterBytes + l.Event.Size() + len(l.Answer) + len(l.Reason) + len(l.Destination) + len(l.TriggerName))
}

// AppendDead implements channel.DeadLetters.
func (b *broker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	if err := b.log.wait(ctx); err != nil {
		return &channel.Refused{Err: fmt.Errorf("%w: not started: %w", channel.ErrUnavailable, err), RetryAfter: retryAfter}
	}
	need := int64(0)
	copies := make([]channel.DeadLetter, len(letters))
	for i, l := range letters {
		need += letterSize(l)
		if !l.Event.IsZero() {
			// The event may be a view into a slab, which must not stay for it.
			e, err := event.Parse(bytes.Clone(l.Event.Raw()))
			if err != nil {
				return &channel.Refused{Err: fmt.Errorf("store dead letter of %s: %w", l.ID, err)}
			}
			l.Event = e
		}
		l.Answer = bytes.Clone(l.Answer)
		copies[i] = l
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range copies {
		if _, err := b.shard(l.ID.Shard); err != nil {
			return &channel.Refused{Err: fmt.Errorf("store dead letter of %s: %w", l.ID, err)}
		}
	}
	if err := b.admit(need, false); err != nil {
		return err
	}
	for _, l := range copies {
		b.dead.bury(l)
		b.markDead(l)
	}
	return nil
}

// markDead has progress show the event as dead until it is settled.
func (b *broker) markDead(l channel.DeadLetter) {
	s := b.shards[l.ID.Shard]
	lane := s.lanes[l.Trigger]
	if lane == nil {
		lane = &channel.Pending{}
		s.lanes[l.Trigger] = lane
	}
	if !lane.Positions.Contains(l.ID.Position) {
		b.hold(s, l.ID.Position)
	}
	lane.MarkDead(l.ID.Position, l.Attempts)
}

// Dead implements channel.DeadLetters.
func (b *broker) Dead(_ context.Context, trigger channel.UID, after string, limit int) ([]channel.DeadLetter, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return nil, "", b.ended
	}
	from := uint64(0)
	if after != "" {
		n, err := strconv.ParseUint(after, 10, 64)
		if err != nil || n > b.dead.last {
			return nil, "", fmt.Errorf("list dead letters of broker %s: cursor %q is none of its own", b.name(), after)
		}
		from = n + 1
	}
	limit = max(limit, 1)
	numbers := b.dead.numbers(trigger)
	if numbers == nil {
		return nil, "", nil
	}
	var found []channel.DeadLetter
	it := numbers.Iterator()
	for it.AdvanceIfNeeded(from); it.HasNext(); {
		if len(found) == limit {
			return found, strconv.FormatUint(found[limit-1].Number, 10), nil
		}
		found = append(found, *b.dead.letters[it.Next()])
	}
	return found, "", nil
}

// DeadByNumber implements channel.DeadLetters.
func (b *broker) DeadByNumber(_ context.Context, numbers []uint64) ([]channel.DeadLetter, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return nil, b.ended
	}
	var found []channel.DeadLetter
	for _, n := range slices.Compact(slices.Sorted(slices.Values(numbers))) {
		if l := b.dead.letters[n]; l != nil {
			found = append(found, *l)
		}
	}
	return found, nil
}

// FindDead implements channel.DeadLetters.
func (b *broker) FindDead(_ context.Context, trigger channel.UID, id channel.ID) (channel.DeadLetter, bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return channel.DeadLetter{}, false, b.ended
	}
	numbers := b.dead.deaths[death{trigger, id}]
	if len(numbers) == 0 {
		return channel.DeadLetter{}, false, nil
	}
	return *b.dead.letters[numbers[len(numbers)-1]], true, nil
}

// DiscardDead implements channel.DeadLetters. What the letters held is free at
// once.
func (b *broker) DiscardDead(ctx context.Context, numbers []uint64) (discarded int, err error) {
	if err := b.log.wait(ctx); err != nil {
		return 0, &channel.Refused{Err: fmt.Errorf("%w: not started: %w", channel.ErrUnavailable, err), RetryAfter: retryAfter}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return 0, refuse(b.ended)
	}
	for _, n := range numbers {
		if freed, was := b.dead.discard(n); was {
			b.charge(-freed)
			discarded++
		}
	}
	return discarded, nil
}

// DeadCount implements channel.DeadLetters.
func (b *broker) DeadCount(trigger channel.UID) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if numbers := b.dead.numbers(trigger); numbers != nil {
		return numbers.GetCardinality()
	}
	return 0
}

// DeadGroups implements channel.DeadLetters. It goes through the letters, and
// sums up after it has let go of the broker.
func (b *broker) DeadGroups(_ context.Context, trigger channel.UID) ([]channel.DeadGroup, error) {
	letters, err := b.deathsOf(trigger)
	if err != nil {
		return nil, err
	}
	var tally channel.DeadTally
	for _, g := range letters {
		tally.Add(g)
	}
	return tally.Groups(), nil
}

// deathsOf has a group of its own for each letter.
func (b *broker) deathsOf(trigger channel.UID) ([]channel.DeadGroup, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended != nil {
		return nil, b.ended
	}
	numbers := b.dead.numbers(trigger)
	if numbers == nil {
		return nil, nil
	}
	letters := make([]channel.DeadGroup, 0, numbers.GetCardinality())
	for it := numbers.Iterator(); it.HasNext(); {
		l := b.dead.letters[it.Next()]
		died := channel.DiedAt(channel.DiedSecond(l.Died))
		letters = append(letters, channel.DeadGroup{
			Trigger: l.Trigger, TriggerName: l.TriggerName, Reason: l.Reason, Count: 1, First: died, Last: died,
		})
	}
	return letters, nil
}
