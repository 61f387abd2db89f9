package memory

import (
	"fmt"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// bound is what the broker may use.
func (b *broker) bound() int64 {
	if b.info.MaxBytes > 0 {
		return min(b.info.MaxBytes, b.log.maxBytes)
	}
	return b.log.maxBytes
}

// eventRoom is the part of a bound that events may use; the rest is for dead letters.
func eventRoom(bound int64) int64 { return bound - bound/16 }

// charge counts bytes that have come, or gone where n is negative.
func (b *broker) charge(n int64) {
	b.used += n
	b.log.used.Add(n)
}

// admit charges for what is about to be stored, or refuses it. It is called
// and returns with b.mu held, and releases it while it looks for room in
// other brokers.
func (b *broker) admit(need int64, events bool) error {
	room := func(bound int64) int64 {
		if events {
			return eventRoom(bound)
		}
		return bound
	}
	for tries := 0; ; tries++ {
		if b.ended != nil {
			return refuse(b.ended)
		}
		bound := b.bound()
		if need > room(bound) {
			return refuse(fmt.Errorf("%w: %d bytes, and broker %s has %d", channel.ErrTooLarge, need, b.name(), room(bound)))
		}
		if over := b.used + need - room(bound); over > 0 && b.makeRoom(over) < over {
			return refuse(fmt.Errorf("%w: broker %s holds %d of %d bytes", channel.ErrFull, b.name(), b.used, bound))
		}
		all := b.log.used.Add(need)
		over := all - room(b.log.maxBytes)
		if over <= 0 {
			b.used += need
			return nil
		}
		b.log.used.Add(-need)
		if tries == 1 {
			return refuse(fmt.Errorf("%w: all brokers together hold %d of %d bytes", channel.ErrFull, all-need, b.log.maxBytes))
		}
		b.mu.Unlock()
		b.log.makeRoom(over)
		b.mu.Lock()
	}
}

// makeRoom takes room from the retained events of any broker.
func (l *Log) makeRoom(need int64) {
	for _, b := range *l.brokers.Load() {
		if need <= 0 {
			return
		}
		b.mu.Lock()
		need -= b.makeRoom(need)
		b.mu.Unlock()
	}
}

// makeRoom gives up retained events, oldest first, until so many bytes are
// free, or as many as can be had. It returns how many.
func (b *broker) makeRoom(need int64) (won int64) {
	for won < need {
		// Freed events do not all give their bytes back at once, and looking
		// costs. Give up a little more than is missing.
		target := b.retained - (need - won) - min(maxSlab, b.bound()/16)
		had := b.retained
		for b.retained > max(target, 0) {
			b.forgetOldest()
		}
		won += b.tidy()
		if had == b.retained {
			break
		}
	}
	if won < need {
		// What is left is in segments that still grow.
		for _, s := range b.shards {
			if n := len(s.segments); n > 0 && !s.segments[n-1].sealed && s.segments[n-1].sparse() {
				g := int64(s.seal(s.segments[n-1]))
				b.charge(-g)
				won += g
			}
		}
	}
	return won
}

// tidy gives back what freed events held.
func (b *broker) tidy() (won int64) {
	for _, s := range b.shards {
		won += int64(s.tidy())
	}
	b.charge(-won)
	return won
}

// settle is called when an event has no delivery outstanding any more.
func (b *broker) settle(s *shard, g *segment, i int) {
	if b.info.Retention <= 0 || b.info.RetentionBytes <= 0 {
		g.free(i)
		s.touch(g)
		return
	}
	g.index[i].state = retained
	g.settled++
	if b.retained == 0 {
		b.log.wake()
	}
	b.retained += int64(g.index[i].size + indexBytes)
	s.oldest = min(s.oldest, g.base+channel.Position(i))
}

// reopen is called when a retained event is wanted again.
func (b *broker) reopen(g *segment, i int) {
	if g.index[i].state == retained {
		g.index[i].state = open
		g.settled--
		b.retained -= int64(g.index[i].size + indexBytes)
	}
}

// applyRetention forgets what the broker's retention no longer covers.
func (b *broker) applyRetention() {
	if b.info.Retention <= 0 || b.info.RetentionBytes <= 0 {
		for b.retained > 0 {
			b.forgetOldest()
		}
	} else {
		for b.retained > b.info.RetentionBytes {
			b.forgetOldest()
		}
		b.log.wake()
	}
	b.tidy()
}

// expire forgets the retained events that are older than retention allows,
// and tells when the next one will be.
func (b *broker) expire(now time.Time) (next time.Time, some bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.tidy()
	for b.retained > 0 {
		_, g, i := b.oldestRetained()
		end := time.Unix(0, g.index[i].time).Add(b.info.Retention)
		if end.After(now) {
			return end, true
		}
		b.forgetOldest()
	}
	return time.Time{}, false
}

// forgetOldest frees the oldest retained event of the broker.
func (b *broker) forgetOldest() {
	s, g, i := b.oldestRetained()
	b.retained -= int64(g.index[i].size + indexBytes)
	g.free(i)
	s.touch(g)
}

// oldestRetained finds it among the shards. There is one: b.retained > 0.
func (b *broker) oldestRetained() (of *shard, in *segment, at int) {
	for _, s := range b.shards {
		if g, i := s.oldestRetained(); g != nil && (in == nil || g.index[i].time < in.index[at].time) {
			of, in, at = s, g, i
		}
	}
	return of, in, at
}

// oldestRetained moves s.oldest up to the first retained event and returns
// it, or nil where there is none.
func (s *shard) oldestRetained() (*segment, int) {
	for n := s.from(s.oldest); n < len(s.segments); n++ {
		g := s.segments[n]
		if g.settled == 0 {
			continue
		}
		i := 0
		if s.oldest > g.base {
			i = int(s.oldest - g.base)
		}
		for ; i < len(g.index); i++ {
			if g.index[i].state == retained {
				s.oldest = g.base + channel.Position(i)
				return g, i
			}
		}
	}
	s.oldest = s.next
	return nil, 0
}
