package dispatch

import (
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/deliver"
)

// IncidentKind says what an Incident tells.
type IncidentKind int

const (
	Failing      IncidentKind = iota // a trigger's subscriber has begun to fail
	Recovered                        // it takes events again
	DeadLettered                     // events of the trigger have begun to die
)

// Incident is what a person wants to hear of once, however many events it is
// about. Counts are of the incident.
type Incident struct {
	Kind            IncidentKind
	BrokerUID       channel.UID
	TriggerUID      channel.UID
	Broker, Trigger string    // namespace/name each
	Time            time.Time // of what is told
	Since           time.Time // of the first failure of the incident
	Failures        uint64    // attempts that failed
	ID              channel.ID
	Reason          string // of the last failure
	Status          int    // HTTP status of it, 0 where there was no answer
	Subscriber      string // URL
}

// When a lane is said to fail, and how long nothing more is said of one thing.
const (
	// failingAfter failures in a row, and failingFor, are more than a retry or a
	// subscriber that is being replaced.
	failingAfter = 10
	failingFor   = 10 * time.Second

	// quiet is how long after a recovery the same lane may fail again without
	// another word: a subscriber that comes and goes is one incident.
	quiet = time.Minute

	// deadQuiet is how long no event must have died before the next that dies is
	// a new incident.
	deadQuiet = 10 * time.Minute
)

// incidents are what is known of one lane's failures. The zero value knows of
// none. It is a value without clock or lock: the lane's mutex guards it, and
// whoever calls says what time it is, which must be one clock.
type incidents struct {
	failures  uint64    // in a row, without a success
	since     time.Time // of the first of these
	told      bool      // that the lane fails
	recovered time.Time // when it was last told that it does not
	died      time.Time // when an event last died
}

// failed counts an attempt that failed; it reports whether the lane is failing
// and that is news.
func (i *incidents) failed(now time.Time) bool {
	if i.failures == 0 {
		i.since = now
	}
	i.failures++
	if i.told || i.failures < failingAfter || now.Sub(i.since) < failingFor ||
		!i.recovered.IsZero() && now.Sub(i.recovered) < quiet {
		return false
	}
	i.told = true
	return true
}

// succeeded ends what failed counted; it reports whether the lane was said to
// fail. before is what there was.
func (i *incidents) succeeded(now time.Time) (before incidents, news bool) {
	before = *i
	news = i.told
	if news {
		i.recovered = now
	}
	i.failures, i.since, i.told = 0, time.Time{}, false
	return before, news
}

// dead counts an event that died; it reports whether that is news.
func (i *incidents) dead(now time.Time) bool {
	news := i.died.IsZero() || now.Sub(i.died) >= deadQuiet
	i.died = now
	return news
}

// fails, works and dies tell the owner of the dispatcher what is news.
func (l *lane) fails(it *item, conf *laneConf, cause error) {
	now := time.Now()
	l.mu.Lock()
	news, i := l.incidents.failed(now), l.incidents
	l.mu.Unlock()
	if news {
		l.tell(Failing, l.broker.id(it.shard, it.pos), now.Sub(i.since), i.failures, deliver.FailureOf(conf.subscriber, cause))
	}
}

// works is for attempts that delivered does not end.
func (l *lane) works(it *item) {
	now := time.Now()
	l.mu.Lock()
	before, news := l.incidents.succeeded(now)
	l.mu.Unlock()
	if news {
		l.tellWorks(it, &before, now)
	}
}

func (l *lane) tellWorks(it *item, before *incidents, now time.Time) {
	l.tell(Recovered, l.broker.id(it.shard, it.pos), now.Sub(before.since), before.failures, deliver.Failure{})
}

func (l *lane) dies(letter *channel.DeadLetter) {
	l.mu.Lock()
	news := l.incidents.dead(time.Now())
	l.mu.Unlock()
	if news {
		l.tell(DeadLettered, letter.ID, 0, uint64(letter.Attempts), *failureOf(letter))
	}
}

// tell makes an incident known; lasted is for how long it has been one.
func (l *lane) tell(kind IncidentKind, id channel.ID, lasted time.Duration, failures uint64, failure deliver.Failure) {
	if l.broker.d.opts.Incident == nil {
		return
	}
	now := l.broker.d.opts.Now()
	l.broker.d.opts.Incident(Incident{
		Kind: kind, BrokerUID: l.broker.uid, TriggerUID: l.uid, Broker: l.broker.name, Trigger: l.name,
		Time: now, Since: now.Add(-lasted), Failures: failures, ID: id,
		Reason: failure.Reason, Status: failure.Status, Subscriber: failure.Destination,
	})
}
