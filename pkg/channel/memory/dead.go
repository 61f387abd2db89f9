package memory

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// letterBytes is what a dead letter costs beside its event and its texts.
const letterBytes = 256

// graveyard holds dead letters in the order they died. A cursor is the number
// of letters that lie before the next to be listed.
type graveyard struct {
	letters []channel.DeadLetter
	of      map[channel.UID][]int // numbers of each trigger's letters, ascending
	bytes   int64
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
	b.dead.bytes += need
	if b.dead.of == nil {
		b.dead.of = map[channel.UID][]int{}
	}
	for _, l := range copies {
		b.dead.of[l.Trigger] = append(b.dead.of[l.Trigger], len(b.dead.letters))
		b.dead.letters = append(b.dead.letters, l)
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
	if !lane.Positions.Contains(uint64(l.ID.Position)) {
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
	at := 0
	if after != "" {
		n, err := strconv.ParseUint(after, 10, 63)
		if err != nil || n > uint64(len(b.dead.letters)) {
			return nil, "", fmt.Errorf("list dead letters of broker %s: cursor %q is none of its own", b.name(), after)
		}
		at = int(n)
	}
	limit = max(limit, 1)
	var found []channel.DeadLetter
	if trigger == "" {
		end := min(at+limit, len(b.dead.letters))
		found = slices.Clone(b.dead.letters[at:end])
		if end == len(b.dead.letters) {
			return found, "", nil
		}
		return found, strconv.Itoa(end), nil
	}
	numbers := b.dead.of[trigger]
	first, _ := slices.BinarySearch(numbers, at)
	numbers = numbers[first:]
	for _, n := range numbers[:min(limit, len(numbers))] {
		found = append(found, b.dead.letters[n])
	}
	if len(numbers) <= limit {
		return found, "", nil
	}
	return found, strconv.Itoa(numbers[limit]), nil
}

// DeadCount implements channel.DeadLetters.
func (b *broker) DeadCount(trigger channel.UID) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if trigger == "" {
		return uint64(len(b.dead.letters))
	}
	return uint64(len(b.dead.of[trigger]))
}
