package dispatch

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// setPace gives the lane the pace, the rate and the circuit that its new
// settings ask for. What was learnt of one subscriber says nothing of another.
// The caller holds the mutex; l.conf still is what was in force.
func (l *lane) setPace(conf *laneConf) {
	another := l.conf.subscriber != conf.subscriber
	switch {
	case conf.steady && !conf.paced:
		l.pace = nil
	case l.pace != nil && !another && l.pace.eager != conf.paced:
		l.pace.resize(conf.concurrency)
	case conf.paced:
		l.pace = newPace(conf.concurrency)
	default:
		l.pace = newEagerPace(conf.concurrency)
	}
	switch {
	case conf.rate <= 0:
		l.limit = nil
	case l.limit == nil || l.conf.rate != conf.rate:
		l.limit = rate.NewLimiter(rate.Limit(conf.rate), burst(conf.rate))
	}
	if another {
		l.letGo()
		l.circuit.reset()
		l.haste.took, l.haste.low, l.haste.last = 0, 0, 0
	}
	l.longest = max(LeastHeld, conf.policy.TotalWait())
}

// burst is how many attempts may begin at once: those of a tenth of a second,
// so that a timer need not be as fine as a high rate is.
func burst(perSecond float64) int { return max(1, int(perSecond/10)) }

// slots is how many more attempts of the subscriber may begin, as far as pace
// and rate go. The caller holds the mutex, here and below.
func (l *lane) slots(now time.Time) int {
	n := l.conf.concurrency
	if l.pace != nil {
		n = l.pace.room(now)
	}
	if l.limit != nil {
		n = min(n, max(0, int(l.limit.TokensAt(now)+tokenSlack)))
	}
	return n
}

// tokenSlack is how much of a token may be missing: floating point is not
// exact, and a wait for the last billionth of one would end a little early.
const tokenSlack = 1e-6

// room is slots where the circuit is closed, and else whether something may
// begin nevertheless.
func (l *lane) room() int {
	if l.limit == nil && !l.circuit.open() {
		if l.pace == nil {
			return l.hasty(l.conf.concurrency)
		}
		if n, ok := l.pace.vacant(); ok {
			return l.hasty(n)
		}
	}
	now := time.Now()
	n := l.slots(now)
	if !l.circuit.open() || n == 0 {
		return l.hasty(n)
	}
	switch {
	case l.expired(&l.due, now), l.mayBegin() && l.expired(&l.ready, now):
		return n
	case l.circuit.mayProbe(now):
		return 1
	}
	return 0
}

// leastRest keeps a lane from looking again and again at what is overdue and
// cannot begin.
const leastRest = time.Millisecond

// rest sees that somebody looks again when something may begin without an
// answer that comes first.
func (l *lane) rest() {
	if !l.still() && l.limit == nil && !l.circuit.open() && (l.pace == nil || l.pace.timeless()) {
		return // an answer comes first, or haste has its time
	}
	now := time.Now()
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	switch {
	case l.still():
		if l.pause != nil {
			sooner(l.pause.ends)
		}
	default:
		if l.pace != nil {
			sooner(l.pace.reopens(now))
		}
		if l.limit != nil {
			if missing := 1 - l.limit.TokensAt(now); missing > tokenSlack {
				sooner(now.Add(time.Duration(missing / l.conf.rate * float64(time.Second))))
			}
		}
		if l.circuit.open() && l.slots(now) > 0 { // else an answer comes first, or the pace or rate has its time
			sooner(l.stirs(now))
		}
	}
	if !at.IsZero() {
		l.resume.Reset(max(leastRest, at.Sub(now)))
	}
}

// wakeMore lets one more worker begin, if there is something to begin.
func (l *lane) wakeMore() {
	switch {
	case l.sinks.len() > 0:
	case l.room() == 0:
		l.rest()
		return
	case l.due.len() == 0 && l.ready.len() == 0 && !l.lagging():
		return
	case l.waking > 0:
		return // one that looks wakes the next
	}
	l.wakeOne()
}

// kick lets workers look that had nothing to do for a reason that has passed.
func (l *lane) kick() {
	l.arm()
	room := l.room()
	if room == 0 || l.sinks.len() > 0 {
		l.rest() // something else is in the way: that has its own time
		l.wakeOne()
	}
	for range min(room, l.backlogLocked()) {
		l.wakeOne()
	}
}

// begin notes an attempt of the subscriber that begins now.
func (l *lane) begin(it *item, t ticket) {
	if l.pace != nil || l.limit != nil {
		var now time.Time
		if l.limit != nil || !l.pace.timeless() {
			now = time.Now()
		}
		if l.pace != nil {
			own := l.pace.begin(now)
			t.pace, t.seq = own.pace, own.seq
		}
		if l.limit != nil && !l.limit.AllowN(now, 1) {
			l.limit.ReserveN(now.Add(time.Microsecond), 1) // what was missing was less than tokenSlack
		}
	}
	t.epoch = l.circuit.epoch
	if t.probe {
		l.circuit.probing = true
	}
	it.ticket = t
}

// report tells the pace and the circuit how an attempt of the subscriber went.
// Where it is not to be counted it is spared: the event is to wait so long, with
// the count that it had.
func (l *lane) report(it *item, conf *laneConf, answer deliver.Answer, err error) (wait time.Duration, spared bool) {
	var asked time.Duration
	if err != nil {
		asked, _ = conf.policy.Asked(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.learn(it, answer, err, asked, answer.Ended)
}

// learn is report under the mutex.
func (l *lane) learn(it *item, answer deliver.Answer, err error, asked time.Duration, now time.Time) (wait time.Duration, spared bool) {
	t := it.ticket
	it.ticket = ticket{}
	l.haste.answered(answer.Duration, err, now)
	if err == nil && len(answer.Replies) == 0 && (t.pace == nil || t.pace.eager) && !l.circuit.open() {
		// The usual: nothing has to be stored, so this worker looks for more itself.
		if t.pace != nil {
			t.pace.end(t, taken, now, 0, 0)
			t.pace.late(answer.Duration, now)
		}
		if t.epoch == l.circuit.epoch {
			l.circuit.alive()
		}
		return 0, false
	}
	defer l.wakeMore() // this worker may be held for long by what it has to store
	if t.pace == nil {
		l.judge(it, t, answer, err, asked, now, rand.Float64())
		return 0, false
	}
	what := refusalOf(answer, err)
	if t.pace.eager {
		what = strainOf(answer)
	}
	t.pace.end(t, what, now, asked, rand.Float64())
	if what == cold && !t.pace.spent(now) && (it.spared.IsZero() || now.Sub(it.spared) < ColdStart) {
		if it.spared.IsZero() {
			it.spared = now
		}
		if t.probe && t.epoch == l.circuit.epoch {
			l.circuit.probing = false
		}
		return max(asked, t.pace.paused.Sub(now), firstPause), true
	}
	l.judge(it, t, answer, err, asked, now, rand.Float64())
	return 0, false
}

// strainOf reads an answer for an eager pace: of what fails, only 429 and 503
// say that it was too much. What else finds the subscriber down is the circuit's.
func strainOf(answer deliver.Answer) refusal {
	switch {
	case answer.Status == http.StatusTooManyRequests, answer.Status == http.StatusServiceUnavailable:
		return busy
	case answer.Status/100 == 2:
		return taken
	}
	return noRefusal
}

// refusalOf reads an answer. Knative's activator answers 503 while its queue is
// full or nothing comes up, 504 when it has waited for long, and 502 where a
// new pod does not take connections yet; a pod's queue-proxy answers 503
// when more wait than containerConcurrency lets it keep.
func refusalOf(answer deliver.Answer, err error) refusal {
	switch answer.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return cold
	case http.StatusTooManyRequests:
		return busy
	case 0:
		if unconnected(err) {
			return cold
		}
		return noRefusal
	}
	if answer.Status/100 == 2 {
		return taken
	}
	return noRefusal
}

// unconnected reports whether the connection was refused, or reset before an
// answer.
func unconnected(err error) bool {
	var e *deliver.Error
	if !errors.As(err, &e) {
		return false
	}
	return e.Class == deliver.ClassReset ||
		e.Class == deliver.ClassDial && (errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET))
}
