package journal

import (
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// State is how an event ended for one trigger.
type State uint8

const (
	None      State = iota // it has not ended
	Delivered              // the subscriber took it
	Dead                   // kept as a dead letter
	Cancelled              // its trigger or broker is gone
	Lost                   // it could not be read any more
)

func (s State) String() string {
	switch s {
	case None:
		return "none"
	case Delivered:
		return "delivered"
	case Dead:
		return "dead"
	case Cancelled:
		return "cancelled"
	case Lost:
		return "lost"
	}
	return "state " + strconv.Itoa(int(s))
}

// Attempt is one attempt to deliver an event to a trigger's subscriber or dead
// letter sink. Texts are cut to 1 KiB.
type Attempt struct {
	Number   int // from 1
	Start    time.Time
	Duration time.Duration
	Status   int          // of the HTTP answer; 0 where there was none
	Error    string       // class or reason; "" for none
	Answer   []byte       // beginning of the answer's body, cut to 4 KiB
	Next     time.Time    // of the next attempt; zero: there is none
	Final    State        // None unless the event ended with it
	Sink     bool         // it went to the dead letter sink
	Rerun    string       // name of the redrive or replay that it belongs to
	Spared   bool         // it does not count
	Replies  []channel.ID // of the replies stored, 256 at most
}

// known is what Brokers and Triggers have in common: a number in the segment
// that is being filled.
type known struct {
	j    *Journal
	uid  channel.UID
	name string

	// Guarded by Journal.mu.
	segment uint64 // in which number stands for it
	number  uint32
}

// size is more than what its name takes.
func (k *known) size() int { return maxFixed + len(k.uid) + min(len(k.name), maxText) }

// Broker writes down what concerns one Broker. It is to be kept: it knows its
// place in the current file.
type Broker struct {
	known
	hash uint64 // of the uid
}

// Trigger writes down what concerns one Trigger.
type Trigger struct {
	known
	broker *Broker
}

// Broker returns a handle for a Broker. Two for the same uid are as good as one.
func (j *Journal) Broker(uid channel.UID, name string) *Broker {
	if j == nil {
		return nil
	}
	return &Broker{known: known{j: j, uid: uid, name: name}, hash: hashText(seedBroker, string(uid))}
}

// Trigger returns a handle for a Trigger of the Broker. Two for the same uid
// are as good as one.
func (b *Broker) Trigger(uid channel.UID, name string) *Trigger {
	if b == nil {
		return nil
	}
	return &Trigger{known: known{j: b.j, uid: uid, name: name}, broker: b}
}

// Matched records that an event was accepted, at r.Time, and goes to these
// triggers, of which there may be none. To record it again, as after a restart,
// does no harm.
func (b *Broker) Matched(shard channel.ShardID, r *channel.Record, triggers []*Trigger) {
	if b == nil {
		return
	}
	j, id, at := b.j, channel.ID{Shard: shard, Position: r.Position}, nanos(r.Time)
	t := textsOf(r.Event)
	hash, idHash := hashText(seedEvent, t.id), hashID(b.hash, id)

	some := triggers[:min(len(triggers), perRecord)]
	j.mu.Lock()
	if to := j.begin(maxFixed+t.size()+b.need(some), at); to != nil {
		var numbers [perRecord]uint32
		n, list := to.broker(b), to.triggers(numbers[:0], some)
		to.index(hash)
		to.index(idHash)
		to.data = appendMatched(to.data, n, id, at-to.time, &t, hash, len(triggers), list)
	}
	j.mu.Unlock()

	for rest := triggers[len(some):]; len(rest) > 0; rest = rest[len(some):] {
		some = rest[:min(len(rest), perRecord)]
		j.mu.Lock()
		if to := j.begin(maxFixed+b.need(some), at); to != nil {
			var numbers [perRecord]uint32
			n, list := to.broker(b), to.triggers(numbers[:0], some)
			to.index(idHash)
			to.data = appendMore(to.data, n, id, list)
		}
		j.mu.Unlock()
	}
}

// need is more than what the broker's and these triggers' names and numbers take.
func (b *Broker) need(triggers []*Trigger) int {
	n := b.size()
	for _, t := range triggers {
		if t != nil {
			n += t.size()
		}
	}
	return n
}

// Attempt records an attempt. It keeps nothing of a.
func (t *Trigger) Attempt(id channel.ID, a Attempt) {
	if t == nil {
		return
	}
	j := t.j
	idHash := hashID(t.broker.hash, id)
	need := attemptSize(&a) + t.size() + t.broker.size()
	ended := nanos(a.Start) + int64(a.Duration)
	j.mu.Lock()
	if to := j.begin(need, ended); to != nil {
		n := to.trigger(t)
		to.index(idHash)
		to.data = appendAttempt(to.data, n, id, to.time, &a)
	}
	j.mu.Unlock()
}

// End records a final state that came without an attempt.
func (t *Trigger) End(id channel.ID, at time.Time, s State, reason string) {
	if t == nil {
		return
	}
	j, when := t.j, nanos(at)
	idHash := hashID(t.broker.hash, id)
	need := maxFixed + min(len(reason), maxText) + t.size() + t.broker.size()
	j.mu.Lock()
	if to := j.begin(need, when); to != nil {
		n := to.trigger(t)
		to.index(idHash)
		to.data = appendEnd(to.data, n, id, when-to.time, s, reason)
	}
	j.mu.Unlock()
}
