package disk

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
)

// brokers holds what is known of each broker to what is stored for it.
func (c *checker) brokers() {
	l := c.log
	for uid := range maps.Keys(*l.brokers.Load()) {
		c.report.Brokers = append(c.report.Brokers, l.broker(uid).info)
	}
	slices.SortFunc(c.report.Brokers, func(a, b channel.BrokerInfo) int {
		return slices.Compare([]string{a.Name, string(a.UID)}, []string{b.Name, string(b.UID)})
	})
	if !c.sound {
		return // what recovery did not come to is not known
	}
	for _, s := range l.streams { // the active segment, which recovery has verified
		there := c.presence(s.id).there
		there.AddRange(uint64(s.first), uint64(s.first)+uint64(len(s.offsets)))
		for i := range s.runs {
			if r := &s.runs[i]; r.segment == l.active { // moved here
				for pos := range r.positions() {
					there.Add(uint64(pos))
				}
			}
		}
	}
	for _, info := range c.report.Brokers {
		c.broker(l.broker(info.UID))
	}
	c.bounds()
}

func (c *checker) broker(b *broker) {
	subject := "broker " + b.label()
	var events, pending, unmatched uint64
	for i, s := range b.shards {
		p := c.presence(s.id)
		events += p.there.GetCardinality()
		unmatched += uint64(s.next - max(1, b.progress[i].scanned))
		for _, lane := range b.progress[i].lanes {
			pending += lane.Positions.Len()
		}
		c.shard(subject, b, s, p)
	}
	dead := c.letters(subject, b)
	c.routes(subject, b)
	c.gaps(subject, b)
	c.report.Events += events
	c.report.Pending += pending
	c.report.Dead += dead
	c.quota(subject, b)
	c.add(channel.OK, subject, fmt.Sprintf("%s in %s, %d not matched yet, %s pending, %s, %s",
		channel.Count(events, "event"), channel.Count(len(b.shards), "shard"), unmatched, deliveries(pending),
		channel.Count(dead, "dead letter"), channel.Amount(b.bytes.Load())), "", "")
}

func deliveries(n uint64) string {
	if n == 1 {
		return "1 delivery"
	}
	return fmt.Sprintf("%d deliveries", n)
}

// shard holds the progress of one shard to the events that are there.
func (c *checker) shard(subject string, b *broker, s *stream, p *presence) {
	owed := b.owedIn(s)
	if !owed.IsEmpty() && owed.Maximum() >= uint64(s.next) {
		c.add(channel.Problem, subject, fmt.Sprintf("progress of shard %d names position %d, the log ends at %d", s.shard(), owed.Maximum(), s.next-1),
			"events that were never stored count as pending", "report it: this is a fault of Penstock")
		return
	}
	owed.AndNot(p.there)
	owed.AndNot(p.lost) // told with their segment
	if n := owed.GetCardinality(); n > 0 {
		c.add(channel.Problem, subject, fmt.Sprintf("%s pending in shard %d and in no segment (%s)", channel.Count(n, "event"), s.shard(), ranges(s.shard(), owed)),
			"they are lost, and declared so by the next start", fromBackup)
	}
}

// letters holds the list of live dead letters to those that are there.
func (c *checker) letters(subject string, b *broker) uint64 {
	live := roaring64.New()
	for _, set := range b.letters {
		live.Or(set)
	}
	n := live.GetCardinality()
	p := c.presence(b.dead.id)
	live.AndNot(p.there)
	live.AndNot(p.lost)
	if missing := live.GetCardinality(); missing > 0 {
		c.add(channel.Problem, subject, channel.Count(missing, "dead letter")+" in no segment", "they cannot be read any more", fromBackup)
	}
	return n
}

// routes holds the changes of the trigger set to their order.
func (c *checker) routes(subject string, b *broker) {
	changes := b.routes.Changes()
	for i, change := range changes {
		if i > 0 && change.Epoch != changes[i-1].Epoch+1 {
			c.add(channel.Problem, subject, fmt.Sprintf("trigger sets go from epoch %d to %d", changes[i-1].Epoch, change.Epoch),
				"events between them may be matched against an older trigger set", fromBackup)
		}
		for shard, from := range change.From {
			if s, err := b.shard(shard); err == nil && from > s.next {
				c.add(channel.Problem, subject, fmt.Sprintf("trigger set %d begins at %d of shard %d, which ends at %d", change.Epoch, from, shard, s.next-1),
					"events are missing before it", fromBackup)
			}
		}
	}
}

// gaps repeats what was declared lost, for which somebody may look in a backup.
func (c *checker) gaps(subject string, b *broker) {
	var names []string
	var lost uint64
	for _, g := range b.Gaps() {
		lost += g.Lost
		first, last := channel.ID{Shard: g.Shard, Position: g.From}, channel.ID{Shard: g.Shard, Position: g.To - 1}
		name := "event " + first.String()
		switch {
		case g.Dead:
			name = channel.Count(g.Lost, "dead letter")
		case first != last:
			name = fmt.Sprintf("events %s to %s", first, last)
		}
		names = append(names, name+", found "+g.Found.UTC().Format(time.DateTime))
	}
	if len(names) > 0 {
		c.add(channel.Warning, subject, "declared lost earlier: "+few(names), channel.Count(lost, "record")+" had been damaged and will not be delivered", "a backup from before may hold them")
	}
}

func (c *checker) quota(subject string, b *broker) {
	bound := b.maxBytes.Load()
	if bytes := b.bytes.Load(); bound > 0 && bytes > bound-c.log.deadReserve(b) {
		c.add(channel.Warning, subject, fmt.Sprintf("%s stored of at most %s", channel.Amount(bytes), channel.Amount(bound)),
			"events are refused with 507 unless some that are settled can go", "mend the subscribers it waits for, or raise penstock.dev/max-bytes")
	}
}

// bounds holds the whole log to its bound.
func (c *checker) bounds() {
	l := c.log
	bytes, bound := l.sealedBytes+l.tailOff, l.maxBytes
	what := fmt.Sprintf("%s stored of at most %s", channel.Amount(bytes), channel.Amount(bound))
	switch {
	case bound <= 0:
		c.add(channel.OK, "size", channel.Amount(bytes)+" stored, no bound", "", "")
	case bytes > bound-l.reserved():
		c.add(channel.Warning, "size", what, "events are refused with 507 unless segments can go whose events are all settled", "mend the subscribers that are behind, or move the folder to a larger volume")
	default:
		c.add(channel.OK, "size", what, "", "")
	}
}
