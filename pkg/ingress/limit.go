package ingress

import (
	"net/http"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Limit is how many events a second one broker accepts. It is a bucket that
// fills at that rate and holds one second's worth, at least one event: that
// many pass at once after a pause. A request is let in while there is an event
// in the bucket. A batch of more than there is overdraws it and those after it
// wait, so that a batch of any size passes and the rate holds all the same.
// (That is why it is no rate.Limiter, which never lets more pass than it holds.)
//
// What is let in and then refused for another reason is given back: senders
// of malformed events take nothing from the others.
//
// A nil Limit limits nothing. Any number of goroutines may use one.
type Limit struct {
	mu   sync.Mutex
	rate float64   // events a second, more than 0
	left float64   // events in the bucket; below 0 it is overdrawn
	at   time.Time // when that was so
}

// Limits are the brokers' limits by their UID. They are not changed once they
// are made: Next makes the ones that follow.
type Limits map[channel.UID]*Limit

// Next returns limits with these rates, in events a second. A broker that had
// a limit keeps its bucket as full as it is, so that no reload lets events
// pass that the limit forbids. It takes effect at once, also for those who
// use the old limits still.
func (l Limits) Next(rates map[channel.UID]float64) Limits {
	next := make(Limits, len(rates))
	for broker, rate := range rates {
		if limit := l[broker]; limit != nil {
			limit.set(rate)
			next[broker] = limit
		} else {
			next[broker] = &Limit{rate: rate, left: size(rate), at: time.Now()}
		}
	}
	return next
}

func (l *Limit) set(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
	l.rate = rate
}

// size is what a bucket holds.
func size(rate float64) float64 { return max(1, rate) }

// fill adds what has come in since the last time. The caller holds the lock.
func (l *Limit) fill() {
	now := time.Now()
	l.left = min(size(l.rate), l.left+now.Sub(l.at).Seconds()*l.rate)
	l.at = now
}

// enter takes one event out of the bucket for a request whose body has not
// been looked at, or refuses it.
func (l *Limit) enter() answer { return l.take(1, 1) }

// more takes the other events of a batch that has entered. Of several that
// entered together the first may overdraw the bucket, or together they could
// overdraw it by any number.
func (l *Limit) more(n int) answer { return l.take(n, 0) }

// take takes n events if there are at least so many.
func (l *Limit) take(n int, least float64) answer {
	if l == nil || n == 0 {
		return answer{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fill()
	if l.left >= least-rounding {
		l.left -= float64(n)
		return answer{}
	}
	wait := min((1-l.left)/l.rate, maxWait.Seconds())
	return answer{code: http.StatusTooManyRequests, reason: "rate limit of the broker is reached",
		retryAfter: time.Duration(wait * float64(time.Second))}
}

const (
	// maxWait is the longest Retry-After that a rate leads to.
	maxWait = 24 * time.Hour

	// rounding lets in who comes back after exactly the time that was asked for.
	rounding = 1e-6
)

// giveBack puts n events back that were let in and not stored.
func (l *Limit) giveBack(n int) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = min(size(l.rate), l.left+float64(n))
}

// perMinute is the rate as requests a minute, at least one.
func (l *Limit) perMinute() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(max(1, l.rate*60))
}
