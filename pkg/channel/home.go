package channel

import "github.com/penstock-events/penstock/pkg/event"

// Place is the shard an event goes to. Events that carry the same
// partitionkey (CloudEvents partitioning extension) go to the same shard, so
// that they keep their order; all others are spread by turn, which the caller
// counts up from one request to the next.
//
// shards are all declared shards of the broker, served just now or not: the
// home of a key must not move because a shard is away. There must be at least
// one. Place does not allocate.
func Place(e event.Event, shards []ShardID, turn uint64) ShardID {
	if key := e.Text(event.ExtPartition); key != "" {
		return Home(key, shards)
	}
	return shards[turn%uint64(len(shards))]
}

// Home is the shard that a key belongs to, by rendezvous hashing: each shard
// bids for the key and the highest bid wins. The order of shards does not
// matter, and declaring one more moves only the keys which it wins, 1/n of
// them. There must be at least one shard.
//
// The bids are part of the stored format: a version that bids otherwise would
// tear the order of every key in two. Home does not allocate.
func Home(key string, shards []ShardID) ShardID {
	const offset, prime = 14695981039346656037, 1099511628211 // FNV-1a, 64 bits
	hash := uint64(offset)
	for i := range len(key) {
		hash = (hash ^ uint64(key[i])) * prime
	}
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
