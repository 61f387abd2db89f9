package remote

import "github.com/penstock-events/penstock/pkg/channel"

// Owners is where events can go: the dispatchers that there are to be and
// those that serve now.
type Owners struct {
	// Declared is how many dispatchers the StatefulSet declares, ordinals 0 to
	// Declared-1, serving or not. The home of a key is one of them.
	Declared int
	// Serving are those that are ready. One with an ordinal that is not
	// declared takes events without a key.
	Serving []Owner
}

// Owner is one dispatcher.
type Owner struct {
	Ordinal int
	Address string // host:port
}

// homeBase is where the numbers begin by which owners bid for keys. They must
// not be the numbers of shards: within the owner the shards bid for the same
// key by the same hash, and of those that bid like an owner which has just
// lost, none could win.
const homeBase channel.ShardID = 1 << 31

// Home is the ordinal of the dispatcher that a key belongs to, of so many
// declared: channel.Home over all of them. It is part of the stored format, as
// channel.Home is: another answer would tear the order of the key in two.
func Home(key string, declared int) int {
	return int(channel.Home(key, homes(declared)) - homeBase)
}

func homes(declared int) []channel.ShardID {
	all := make([]channel.ShardID, declared)
	for i := range all {
		all[i] = homeBase + channel.ShardID(i)
	}
	return all
}
