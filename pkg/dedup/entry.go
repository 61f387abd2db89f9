package dedup

import (
	"encoding/binary"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// entrySize is what one event takes on disk: hash, position, shard, and the
// second in which it was stored, integers little endian.
const entrySize = 16 + 8 + 4 + 4

// entry is one event that is known.
type entry struct {
	hash hash
	known
}

// known is what is remembered of an event.
type known struct {
	position channel.Position
	shard    channel.ShardID
	second   uint32 // of the append, Unix time
}

func (k known) id() channel.ID { return channel.ID{Shard: k.shard, Position: k.position} }

// within reports whether the event was stored at most window before now. A
// second counts as its end: an event is known a moment too long rather than
// forgotten too early. What lies in the future, for the clock was set back,
// counts as stored just now.
func (k known) within(window time.Duration, now time.Time) bool {
	return now.Sub(time.Unix(int64(k.second)+1, 0)) < window
}

func appendEntry(b []byte, e *entry) []byte {
	b = append(b, e.hash[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.position))
	b = binary.LittleEndian.AppendUint32(b, uint32(e.shard))
	return binary.LittleEndian.AppendUint32(b, e.second)
}

// readEntry reads what appendEntry wrote.
func readEntry(b []byte) (e entry) {
	copy(e.hash[:], b)
	e.position = channel.Position(binary.LittleEndian.Uint64(b[16:]))
	e.shard = channel.ShardID(binary.LittleEndian.Uint32(b[24:]))
	e.second = binary.LittleEndian.Uint32(b[28:])
	return e
}
