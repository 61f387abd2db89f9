package dispatch

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// setPace gives the lane the pace that its new settings ask for. What was
// learnt of one subscriber says nothing of another. The caller holds the mutex;
// l.conf still is what was in force.
func (l *lane) setPace(conf *laneConf) {
	switch {
	case !conf.paced:
		l.pace = nil
	case l.pace == nil || l.conf.subscriber != conf.subscriber:
		l.pace = newPace(conf.concurrency)
	default:
		l.pace.resize(conf.concurrency)
	}
}

// room is how many more attempts of the subscriber may begin, as far as the
// pace goes. The caller holds the mutex, here and below.
func (l *lane) room() int {
	if l.pace == nil {
		return l.conf.concurrency
	}
	return l.pace.room(time.Now())
}

// rest sees that somebody looks again when the pace has room without an answer.
func (l *lane) rest() {
	now := time.Now()
	if at := l.pace.reopens(now); !at.IsZero() {
		l.resume.Reset(at.Sub(now))
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
	}
	l.wakeOne()
}

// report tells the pace how an attempt of the subscriber went. Where it is not
// to be counted it is put back to wait, with the count that it had, and report
// answers true.
func (l *lane) report(it *item, conf *laneConf, answer deliver.Answer, err error) (spared bool) {
	t := it.ticket
	if t.pace == nil {
		return false
	}
	it.ticket = ticket{}
	what := refusalOf(answer, err)
	asked, _ := conf.policy.Asked(err)
	wait, spared := l.learn(it, t, what, asked)
	if spared {
		l.again(it, wait)
	}
	return spared
}

// learn is report under the mutex.
func (l *lane) learn(it *item, t ticket, what refusal, asked time.Duration) (wait time.Duration, spared bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	t.pace.end(t, what, now, asked, rand.Float64())
	l.wakeMore() // this worker may be held for long by what it has to store
	if what != cold || t.pace.spent(now) || !it.spared.IsZero() && now.Sub(it.spared) >= ColdStart {
		return 0, false
	}
	if it.spared.IsZero() {
		it.spared = now
	}
	return max(asked, t.pace.paused.Sub(now), firstPause), true
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
