package disk

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// Dead letters are a stream of their own, one per broker and volume: its
// positions give them their order across shards, which byte offsets would
// not do once a record is moved. What is alive is a bitmap of positions per
// trigger; the letters themselves stay on the disk.

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
		if d.id.Position < p.scanned && !p.lane(d.trigger).Positions.Contains(uint64(d.id.Position)) {
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
	var letters []channel.DeadLetter
	err = b.log.fetch(ctx, b.dead, positions, func(_ channel.Position, _ int64, payload []byte) error {
		letter, err := decodeLetter(payload)
		if err == nil {
			letters = append(letters, letter)
		}
		return err
	})
	next := ""
	if more {
		next = strconv.FormatUint(uint64(positions[len(positions)-1]), 10)
	}
	return letters, next, err
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
	letter := channel.DeadLetter{
		Trigger: channel.UID(d.string()), TriggerName: d.string(),
		ID:       channel.ID{Shard: channel.ShardID(d.uint()), Position: channel.Position(d.uint())},
		Accepted: d.time(), Died: d.time(),
		Attempts: int(d.int()), Code: int(d.int()),
		Reason: d.string(), Destination: d.string(), Answer: append([]byte(nil), d.bytes()...),
	}
	raw := slices.Clone(d.bytes())
	if d.err != nil {
		return letter, d.err
	}
	var err error
	letter.Event, err = event.Parse(raw)
	return letter, err
}
