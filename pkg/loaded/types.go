package loaded

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/channel"
)

// lately is how many types the quick look-up holds, a power of two.
const lately = 1 << 12

// types are the event types seen, each once, the oldest going when there are
// too many. One that goes while it is in use is found again.
type types struct {
	asked atomic.Int32 // streams that want them
	seed  maphash.Seed

	// quick holds hashes of types that are known, each at the place that its low
	// bits name. A hash that stands there needs no lock. Two types with the same
	// 64 bits, of which the second would never be told, do not happen: the seed
	// is the process's own.
	quick [lately]atomic.Uint64

	mu    sync.Mutex
	known map[uint64]uint64 // sequence number by hash
	ring  []seenType        // by sequence number modulo its length
	next  uint64            // sequence number of the next, from 1
}

type seenType struct {
	hash uint64
	t    Type
}

func (ts *types) init(most int) {
	ts.seed = maphash.MakeSeed()
	ts.known = make(map[uint64]uint64)
	ts.ring = make([]seenType, most)
	ts.next = 1
}

func (ts *types) seen(t Type) {
	h := maphash.Comparable(ts.seed, t) | 1 // 0 is an empty place
	place := &ts.quick[(h>>1)%lately]
	if place.Load() == h || !t.fits() || !t.valid() {
		return
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	place.Store(h)
	if _, known := ts.known[h]; known {
		return
	}
	old := &ts.ring[ts.next%uint64(len(ts.ring))]
	if old.hash != 0 {
		delete(ts.known, old.hash)
		ts.quick[(old.hash>>1)%lately].CompareAndSwap(old.hash, 0)
	}
	*old = seenType{hash: h, t: t.clone()}
	ts.known[h] = ts.next
	ts.next++
}

// valid reports whether JSON says the same as the type.
func (t Type) valid() bool {
	for _, s := range [...]string{string(t.Broker), string(t.Trigger), t.Type, t.Source, t.Schema, t.SpecVersion} {
		if !utf8.ValidString(s) {
			return false
		}
	}
	return true
}

// clone lets go of the event that the texts are part of.
func (t Type) clone() Type {
	return Type{
		Broker:      channel.UID(strings.Clone(string(t.Broker))),
		Trigger:     channel.UID(strings.Clone(string(t.Trigger))),
		Type:        strings.Clone(t.Type),
		Source:      strings.Clone(t.Source),
		Schema:      strings.Clone(t.Schema),
		SpecVersion: strings.Clone(t.SpecVersion),
	}
}

// since lists types that were first seen after mark, at most so many, and the
// mark to go on from. Those that have gone meanwhile are left out.
func (ts *types) since(mark uint64, most int) ([]Type, uint64) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if n := uint64(len(ts.ring)); ts.next > n {
		mark = max(mark, ts.next-n-1)
	}
	var out []Type
	for mark+1 < ts.next && len(out) < most {
		mark++
		out = append(out, ts.ring[mark%uint64(len(ts.ring))].t)
	}
	return out, mark
}
