package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// Dead letters are a stream of their own, one per broker and volume: its
// positions are their numbers and give them their order across shards, which
// byte offsets would not do once a record is moved. What is alive is a bitmap of
// positions per trigger; the letters themselves stay on the disk. Those that are
// discarded are named in a frame of their own, and are garbage from then on.

// AppendDead implements channel.DeadLetters.
func (b *broker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	if len(letters) == 0 {
		return nil
	}
	r := &request{kind: kindDead, broker: b}
	for i := range letters {
		payload := encodeLetter(&letters[i])
		r.payloads = append(r.payloads, payload)
		r.sums = append(r.sums, checksum(payload))
		r.deaths = append(r.deaths, deathOf(&letters[i]))
		r.size += frameSize(len(payload))
	}
	if err := b.reserve(ctx, r.size, 0); err != nil {
		return err
	}
	err := b.log.do(ctx, r)
	if err != nil {
		b.bytes.Add(-r.size)
	}
	return err
}

// death is what of a dead letter counts for progress.
type death struct {
	trigger  channel.UID
	id       channel.ID
	attempts int
}

func deathOf(d *channel.DeadLetter) death { return death{d.Trigger, d.ID, d.Attempts} }

// bury enters a durable dead letter at a position of the dead stream. Under Log.mu.
func (b *broker) bury(d death, pos channel.Position) {
	set := b.letters[d.trigger]
	if set == nil {
		set = roaring64.New()
		b.letters[d.trigger] = set
	}
	set.Add(uint64(pos))
	if uint64(d.id.Shard) < uint64(len(b.progress)) {
		p := &b.progress[d.id.Shard]
		if d.id.Position < p.scanned && !p.lane(d.trigger).Positions.Contains(d.id.Position) {
			p.backfills++
		}
		p.lane(d.trigger).MarkDead(d.id.Position, d.attempts)
	}
}

// DeadCount implements channel.DeadLetters.
func (b *broker) DeadCount(trigger channel.UID) uint64 {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	var n uint64
	for uid, set := range b.letters {
		if trigger == "" || uid == trigger {
			n += set.GetCardinality()
		}
	}
	return n
}

// deadPage bounds how many letters one call reads, whatever its caller asks.
const deadPage = 1000

// Dead implements channel.DeadLetters. A letter that cannot be read is left
// out and named in the error, with which the others are returned.
func (b *broker) Dead(ctx context.Context, trigger channel.UID, after string, limit int) ([]channel.DeadLetter, string, error) {
	var from uint64
	if after != "" {
		n, err := strconv.ParseUint(after, 10, 64)
		if err != nil {
			return nil, "", fmt.Errorf("cursor %q is not one that was given out", after)
		}
		from = n + 1
	}
	limit = min(max(limit, 1), deadPage)
	positions, more, err := b.deadPositions(trigger, from, limit)
	if err != nil {
		return nil, "", err
	}
	letters, err := b.readLetters(ctx, positions)
	next := ""
	if more {
		next = strconv.FormatUint(uint64(positions[len(positions)-1]), 10)
	}
	return letters, next, err
}

// readLetters reads the letters at ascending positions.
func (b *broker) readLetters(ctx context.Context, positions []channel.Position) (letters []channel.DeadLetter, err error) {
	err = b.log.fetch(ctx, b.dead, positions, func(pos channel.Position, _ int64, payload []byte) error {
		letter, err := decodeLetter(payload)
		if err == nil {
			letter.Number = uint64(pos)
			letters = append(letters, letter)
		}
		return err
	})
	return letters, err
}

// DeadByNumber implements channel.DeadLetters.
func (b *broker) DeadByNumber(ctx context.Context, numbers []uint64) ([]channel.DeadLetter, error) {
	kept, err := b.kept(numbers)
	if err != nil {
		return nil, err
	}
	var positions []channel.Position
	each := kept.Iterator()
	for each.HasNext() {
		positions = append(positions, channel.Position(each.Next()))
	}
	return b.readLetters(ctx, positions)
}

// kept are those of the numbers that name a letter.
func (b *broker) kept(numbers []uint64) (*roaring64.Bitmap, error) {
	asked, kept := roaring64.BitmapOf(numbers...), roaring64.New()
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	if err := b.readable(); err != nil {
		return nil, err
	}
	for _, set := range b.letters {
		if set.Intersects(asked) {
			kept.Or(roaring64.And(set, asked))
		}
	}
	return kept, nil
}

// deadPositions lists at most limit live letters from a position on, and
// whether there are more.
func (b *broker) deadPositions(trigger channel.UID, from uint64, limit int) (positions []channel.Position, more bool, err error) {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	if err := b.readable(); err != nil {
		return nil, false, err
	}
	for uid, set := range b.letters {
		if trigger != "" && uid != trigger {
			continue
		}
		it := set.Iterator()
		it.AdvanceIfNeeded(from)
		for n := 0; n <= limit && it.HasNext(); n++ {
			positions = append(positions, channel.Position(it.Next()))
		}
	}
	slices.Sort(positions)
	if len(positions) > limit {
		return positions[:limit], true, nil
	}
	return positions, false, nil
}

// discardAtOnce is how many letters one frame discards at most: a bitmap of so
// many takes less than the smallest segment, however far apart they are.
const discardAtOnce = 1000

// DiscardDead implements channel.DeadLetters. A letter's bytes count for the
// broker until they are removed or moved from, as those of a settled event do.
func (b *broker) DiscardDead(ctx context.Context, numbers []uint64) (discarded int, err error) {
	for part := range slices.Chunk(slices.Sorted(slices.Values(numbers)), discardAtOnce) {
		kept, err := b.kept(part)
		if errors.Is(err, channel.ErrClosed) {
			err = fmt.Errorf("%w: %w", channel.ErrUnavailable, err)
		}
		if err != nil {
			return discarded, b.log.refused(err)
		}
		if kept.IsEmpty() {
			continue // who discarded them has seen to it that they stay so
		}
		payload, err := encodeDiscard(kept)
		if err != nil {
			return discarded, fmt.Errorf("discard dead letters of broker %s: %w", b.uid, err)
		}
		r := &request{
			kind: kindDiscard, broker: b, numbers: kept,
			payloads: [][]byte{payload}, sums: []uint32{checksum(payload)}, size: frameSize(len(payload)),
		}
		if err := b.log.do(ctx, r); err != nil {
			return discarded, err
		}
		discarded += r.gone
	}
	return discarded, nil
}

// discard takes letters out of the live ones and counts them. Under Log.mu.
func (b *broker) discard(numbers *roaring64.Bitmap) (gone int) {
	for trigger, set := range b.letters {
		if !set.Intersects(numbers) {
			continue
		}
		before := set.GetCardinality()
		set.AndNot(numbers)
		gone += int(before - set.GetCardinality())
		if set.IsEmpty() {
			delete(b.letters, trigger)
		}
	}
	return gone
}

func encodeDiscard(numbers *roaring64.Bitmap) ([]byte, error) {
	var e encoder
	numbers.RunOptimize()
	err := e.bitmap(numbers)
	return e, err
}

func decodeDiscard(payload []byte) (*roaring64.Bitmap, error) {
	d := decoder{rest: payload}
	numbers := d.bitmap()
	return numbers, d.err
}

func encodeLetter(d *channel.DeadLetter) []byte {
	e := make(encoder, 0, d.Event.Size()+len(d.Answer)+256)
	e.string(string(d.Trigger))
	e.string(d.TriggerName)
	e.uint(uint64(d.ID.Shard))
	e.uint(uint64(d.ID.Position))
	e.time(d.Accepted)
	e.time(d.Died)
	e.int(int64(d.Attempts))
	e.int(int64(d.Code))
	e.string(d.Reason)
	e.string(d.Destination)
	e.bytes(d.Answer)
	e.bytes(d.Event.Raw())
	return e
}

func decodeLetter(payload []byte) (channel.DeadLetter, error) {
	d := decoder{rest: payload}
	letter := decodeHead(&d)
	letter.Destination, letter.Answer = d.string(), append([]byte(nil), d.bytes()...)
	raw := slices.Clone(d.bytes())
	if d.err != nil {
		return letter, d.err
	}
	var err error
	letter.Event, err = event.Parse(raw)
	return letter, err
}

// decodeHead reads what of a letter comes before its longer parts.
func decodeHead(d *decoder) channel.DeadLetter {
	return channel.DeadLetter{
		Trigger: channel.UID(d.string()), TriggerName: d.string(),
		ID:       channel.ID{Shard: channel.ShardID(d.uint()), Position: channel.Position(d.uint())},
		Accepted: d.time(), Died: d.time(),
		Attempts: int(d.int()), Code: int(d.int()),
		Reason: d.string(),
	}
}
