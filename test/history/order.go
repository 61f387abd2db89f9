package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// stored is an event whose place in the log is known.
type stored struct {
	sent *sent
	id   channel.ID
}

// keyed are the events of each Broker and key in the order of the log: those
// that were posted once and stored, with their place told. Events with neither
// partitionkey nor subject have no order.
func (j *judge) keyed() map[[2]string][]stored {
	keys := make(map[[2]string][]stored)
	for _, s := range j.order {
		key, _ := s.event.Attribute("partitionkey")
		if key.Text == "" {
			key, _ = s.event.Attribute("subject")
		}
		if key.Text == "" || len(s.posts) != 1 {
			continue
		}
		if id, err := channel.ParseID(s.posts[0].stored); err == nil {
			of := [2]string{s.broker, key.Text}
			keys[of] = append(keys[of], stored{s, id})
		}
	}
	for _, of := range keys {
		slices.SortFunc(of, func(a, b stored) int {
			return cmp.Or(cmp.Compare(a.id.Shard, b.id.Shard), cmp.Compare(a.id.Position, b.id.Position))
		})
	}
	return keys
}

// sequences judges that no event of a key is sent to an ordered trigger before
// those before it are at their end: taken for the first time, or given up after
// the last attempt. Order holds within a shard, where the log has one.
func (j *judge) sequences() {
	for broker, events := range j.keyed() {
		b := j.brokers[broker[0]]
		if b == nil {
			continue
		}
		for _, t := range b.triggers {
			if !t.ordered() {
				continue
			}
			var before *sent
			var ended time.Duration
			for i, e := range events {
				if i > 0 && events[i-1].id.Shard != e.id.Shard {
					before, ended = nil, 0
				}
				p := j.pairs[pairKey{t, e.sent.id}]
				if p.empty() || len(p.attempts) == 0 {
					continue
				}
				j.found.checked("I8", 1)
				if first := &p.attempts[0]; before != nil && first.at < ended {
					j.found.breach("I8", first.line, e.sent.id, t, "sent %v before the end of %s, which comes before it", ended-first.at, before.id)
				}
				if end := p.terminal(); end >= ended {
					before, ended = e.sent, end
				}
			}
		}
	}
}

// ordered reports whether the trigger always was.
func (t *trigger) ordered() bool {
	for _, s := range t.settings {
		if !s.ordered {
			return false
		}
	}
	return len(t.settings) > 0
}

// terminal is when the event was first taken, or else its last attempt: what
// follows it may begin then.
func (p *pair) terminal() time.Duration {
	var end time.Duration
	for i := range p.attempts {
		a := &p.attempts[i]
		if end = a.at; a.ended != forever {
			end = a.ended
		}
		if good(a.answer) && a.ended != forever {
			break
		}
	}
	return end
}
