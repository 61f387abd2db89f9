package disk

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

const (
	defaultShards = 4
	maxShards     = 1 << 12
)

// broker is one broker's part of the log: a channel.BrokerLog. It owns the
// streams base, base+1, ... (its shards' events) and base+shards (its dead
// letters; records that are no stream's carry that number too).
type broker struct {
	log    *Log
	uid    channel.UID
	base   uint32
	ids    []channel.ShardID
	shards []*stream
	dead   *stream

	follower atomic.Pointer[func(channel.ShardID, int)]
	turn     atomic.Uint64
	keying   atomic.Uint32
	bytes    atomic.Int64 // stored and queued, all kinds
	maxBytes atomic.Int64
	freed    atomic.Int64 // when an append last asked for room, Unix nanoseconds
	gone     atomic.Bool
	ledger   ledger // of the dead letters

	// The rest is guarded by Log.mu.
	info      channel.BrokerInfo
	routes    channel.RouteTable
	progress  []progress // by shard
	letters   map[channel.UID]*roaring64.Bitmap
	gaps      []channel.Gap
	deadBytes int64
	other     entry // what the active segment holds beside the streams
	touch     uint64
}

// progress is how far the delivery of one shard has come.
type progress struct {
	scanned channel.Position
	lanes   map[channel.UID]*channel.Pending
	// backfills counts the changes that made scanned positions pending, as a
	// replay does: what was settled before them need not be settled after.
	backfills uint64
}

func newBroker(l *Log, info channel.BrokerInfo, base uint32) *broker {
	b := &broker{log: l, uid: info.UID, base: base, letters: make(map[channel.UID]*roaring64.Bitmap), ledger: newLedger()}
	for i := range info.Shards {
		b.ids = append(b.ids, channel.ShardID(i))
		b.shards = append(b.shards, &stream{id: base + uint32(i), kind: kindEvent, broker: b, next: 1, assign: 1})
		b.progress = append(b.progress, progress{lanes: make(map[channel.UID]*channel.Pending)})
	}
	b.dead = &stream{id: b.home(), kind: kindDead, broker: b, next: 1, assign: 1}
	b.set(info)
	return b
}

// home is the stream number of what belongs to the broker as a whole.
func (b *broker) home() uint32 { return b.base + uint32(len(b.shards)) }

// streams are all of the broker's.
func (b *broker) streams() []*stream { return append(slices.Clip(b.shards), b.dead) }

// set takes over settings. Under Log.mu.
func (b *broker) set(info channel.BrokerInfo) {
	info.Shards = len(b.shards)
	b.info = info
	b.maxBytes.Store(info.MaxBytes)
	b.keying.Store(uint32(info.Keying))
}

// noteOther enters a frame of no stream in the active segment. Under Log.mu.
func (b *broker) noteOther(size, time int64) {
	if b.other.kind == 0 {
		b.other = entry{kind: kindBroker, stream: b.home(), from: time}
	}
	b.other.bytes += size
	b.other.until = time
}

// Info implements channel.BrokerLog.
func (b *broker) Info() channel.BrokerInfo {
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	return b.info
}

// Shards implements channel.BrokerLog.
func (b *broker) Shards() []channel.ShardID { return slices.Clone(b.ids) }

// Stats implements channel.BrokerLog.
func (b *broker) Stats() channel.Stats {
	bound, reserve := b.maxBytes.Load(), b.log.deadReserve(b)
	if bound <= 0 {
		bound, reserve = b.log.maxBytes, b.log.reserved()
	}
	b.log.mu.Lock()
	defer b.log.mu.Unlock()
	return channel.Stats{Bytes: b.bytes.Load(), DeadBytes: b.deadBytes, MaxBytes: bound, DeadReserve: reserve}
}

// shard finds an event stream.
func (b *broker) shard(id channel.ShardID) (*stream, error) {
	if uint64(id) >= uint64(len(b.shards)) {
		return nil, fmt.Errorf("broker %s has no shard %d here", b.uid, id)
	}
	return b.shards[id], nil
}

// Broker implements channel.Log. Before Run is called it does Run's part.
func (l *Log) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	if info.UID == "" {
		return nil, fmt.Errorf("broker %q: a uid is needed", info.Name)
	}
	if info.Shards < 0 || info.Shards > maxShards {
		return nil, fmt.Errorf("broker %s: %d shards: want 1 to %d", info.UID, info.Shards, maxShards)
	}
	if b := l.broker(info.UID); b != nil {
		info.Shards = len(b.shards)
		if b.Info() == info {
			return b, nil
		}
	} else if info.Shards == 0 {
		info.Shards = defaultShards
	}
	if err := l.do(ctx, &request{kind: kindBroker, info: info}); err != nil {
		return nil, fmt.Errorf("open broker %s: %w", info.UID, err)
	}
	b := l.broker(info.UID)
	if b == nil { // removed again meanwhile
		return nil, fmt.Errorf("open broker %s: %w", info.UID, channel.ErrNoBroker)
	}
	return b, nil
}

// Brokers implements channel.Log.
func (l *Log) Brokers() []channel.BrokerInfo {
	var infos []channel.BrokerInfo
	for _, b := range *l.brokers.Load() {
		infos = append(infos, b.Info())
	}
	slices.SortFunc(infos, func(a, b channel.BrokerInfo) int {
		if a.UID < b.UID {
			return -1
		}
		return 1
	})
	return infos
}

// Remove implements channel.Log.
func (l *Log) Remove(ctx context.Context, uid channel.UID) error {
	b := l.broker(uid)
	if b == nil {
		return nil
	}
	if err := l.do(ctx, &request{kind: kindRemoval, broker: b}); err != nil && b != nil && !b.gone.Load() {
		return fmt.Errorf("remove broker %s: %w", uid, err)
	}
	return nil
}

func (l *Log) broker(uid channel.UID) *broker { return (*l.brokers.Load())[uid] }

// enter makes a broker known. Under Log.mu.
func (l *Log) enter(b *broker) {
	brokers := make(map[channel.UID]*broker, len(*l.brokers.Load())+1)
	for uid, other := range *l.brokers.Load() {
		brokers[uid] = other
	}
	brokers[b.uid] = b
	l.brokers.Store(&brokers)
	for _, s := range b.streams() {
		l.streams[s.id] = s
	}
	l.nextStream = max(l.nextStream, b.home()+1)
}

// forget removes a broker with all it has: its records become garbage that
// goes with its segments. Under Log.mu.
func (l *Log) forget(b *broker) {
	b.gone.Store(true)
	brokers := make(map[channel.UID]*broker)
	for uid, other := range *l.brokers.Load() {
		if other != b {
			brokers[uid] = other
		}
	}
	l.brokers.Store(&brokers)
	for _, s := range b.streams() {
		delete(l.streams, s.id)
		s.runs, s.offsets, s.tail = nil, nil, tail{}
		s.signal()
	}
	b.letters, b.routes = nil, channel.RouteTable{}
	for i := range b.progress {
		b.progress[i].lanes = nil
	}
}

// encodeInfo is the payload of a broker record.
func encodeInfo(info channel.BrokerInfo, base uint32) []byte {
	var e encoder
	putInfo(&e, info, base)
	return e
}

func putInfo(e *encoder, info channel.BrokerInfo, base uint32) {
	e.uint(uint64(base))
	e.uint(uint64(info.Shards))
	e.string(string(info.UID))
	e.string(info.Name)
	e.int(int64(info.Retention))
	e.int(info.RetentionBytes)
	e.int(info.MaxBytes)
}

func getInfo(d *decoder) (channel.BrokerInfo, uint32) {
	base, shards := d.uint(), d.uint()
	info := channel.BrokerInfo{
		UID: channel.UID(d.string()), Name: d.string(), Shards: int(shards),
		Retention: time.Duration(d.int()), RetentionBytes: d.int(), MaxBytes: d.int(),
	}
	if base == 0 || base > 1<<32-2-maxShards || shards == 0 || shards > maxShards {
		d.fail()
	}
	return info, uint32(base)
}
