package channel

import "github.com/penstock-events/penstock/pkg/event"

// Keying says what an event's key is where it carries no partitionkey: what a
// Broker needs so that events which belong together meet in one shard. Its
// values add up; the zero Keying gives such events no key.
type Keying uint8

const (
	// KeySubject takes the subject of an event that has one, for Triggers that
	// are delivered to in order of a key.
	KeySubject Keying = 1 << iota
	// KeyIdentity takes source and id, so that an event that is sent twice comes
	// to where its first copy is.
	KeyIdentity
)

// Place is the shard an event goes to. Events that carry the same
// partitionkey (CloudEvents partitioning extension), or the same key by keying,
// go to the same shard, so that they keep their order; all others are spread
// by turn, which the caller counts up from one request to the next.
//
// shards are all declared shards of the broker, served just now or not: the
// home of a key must not move because a shard is away. There must be at least
// one. Place does not allocate.
func Place(e event.Event, shards []ShardID, keying Keying, turn uint64) ShardID {
	if hash, ok := KeyHash(e, keying); ok {
		return HomeOf(hash, shards)
	}
	return shards[turn%uint64(len(shards))]
}

// KeyHash is the hash of an event's key, and false for an event that has none:
// it may go anywhere. It does not allocate.
func KeyHash(e event.Event, keying Keying) (hash uint64, ok bool) {
	if key := e.Text(event.ExtPartition); key != "" {
		return fnv(fnvOffset, key), true
	}
	if keying&KeySubject != 0 {
		if key := e.Subject(); key != "" {
			return fnv(fnvOffset, key), true
		}
	}
	if keying&KeyIdentity != 0 {
		// The zero byte keeps (ab, c) and (a, bc) apart: no attribute has one.
		return fnv(fnv(fnv(fnvOffset, e.Source()), "\x00"), e.ID()), true
	}
	return 0, false
}

// Home is the shard that a key belongs to, by rendezvous hashing: each shard
// bids for the key and the highest bid wins. The order of shards does not
// matter, and declaring one more moves only the keys which it wins, 1/n of
// them. There must be at least one shard.
//
// The bids are part of the stored format: a version that bids otherwise would
// tear the order of every key in two. Home does not allocate.
func Home(key string, shards []ShardID) ShardID { return HomeOf(fnv(fnvOffset, key), shards) }

const fnvOffset, fnvPrime uint64 = 14695981039346656037, 1099511628211 // FNV-1a, 64 bits

func fnv(hash uint64, text string) uint64 {
	for i := range len(text) {
		hash = (hash ^ uint64(text[i])) * fnvPrime
	}
	return hash
}

// HomeOf is Home of a key's hash (KeyHash).
func HomeOf(hash uint64, shards []ShardID) ShardID {
	home, highest := shards[0], bid(hash, shards[0])
	for _, shard := range shards[1:] {
		if b := bid(hash, shard); b > highest || b == highest && shard < home {
			home, highest = shard, b
		}
	}
	return home
}

// bid mixes a key's hash with a shard. FNV alone leaves neighbouring shards
// with related bids; the finalizer of SplitMix64 makes every bit count.
func bid(hash uint64, shard ShardID) uint64 {
	const golden = 0x9e3779b97f4a7c15
	x := hash + (uint64(shard)+1)*golden
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
