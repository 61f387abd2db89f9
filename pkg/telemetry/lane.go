package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcome is what became of a delivery.
type Outcome uint8

// Failed is an attempt that failed, to be tried again or not, and Spared one
// that is not counted; the others are final states of an event for a trigger.
const (
	Delivered Outcome = iota
	Failed
	Dead
	Cancelled
	Expired
	Lost     // its stored bytes were damaged
	Spared   // an attempt that a subscriber which scales from zero refused: not counted as one
	outcomes // their number
)

var outcomeLabels = [outcomes]string{"delivered", "failed", "dead", "cancelled", "expired", "lost", "spared"}

// String is the outcome's label.
func (o Outcome) String() string { return outcomeLabels[o] }

// Lane counts what concerns one trigger. Its series appear when something is
// counted for the first time: ten thousand idle triggers cost none.
type Lane struct {
	m               *Metrics
	key             laneKey
	namespace, name string // of the broker
	destination     string

	totals   [outcomes]atomic.Uint64
	outcomes [outcomes]atomic.Pointer[prometheus.Counter]
	duration atomic.Pointer[prometheus.Observer]
	age      atomic.Pointer[prometheus.Observer]
	codes    byCode[prometheus.Observer]

	mu     sync.Mutex // for binding and closing; counting takes no lock
	closed bool
	users  int // guarded by Metrics.mu
}

// Lane returns the handle of a trigger, both names as namespace/name. Calls
// with the same names share one handle, and each call is paired with one
// Close: a trigger made again under its old name does not lose its series to
// the end of the old one.
func (m *Metrics) Lane(broker, trigger string) *Lane {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := laneKey{broker, trigger}
	l := m.lanes[key]
	if l == nil {
		l = &Lane{m: m, key: key}
		l.namespace, l.name, _ = strings.Cut(broker, "/")
		namespace, name, _ := strings.Cut(trigger, "/")
		l.destination = "trigger:" + name + "." + namespace
		m.lanes[key] = l
	}
	l.users++
	return l
}

// Close gives the handle back. With the last user gone the series are
// deleted, and whoever still counts with the handle counts nothing.
func (l *Lane) Close() {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.users--; l.users != 0 {
		return
	}
	delete(l.m.lanes, l.key)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	names := []string{l.key.broker, l.key.trigger}
	for _, outcome := range outcomeLabels {
		l.m.deliveries.DeleteLabelValues(l.key.broker, l.key.trigger, outcome)
	}
	l.m.duration.DeleteLabelValues(names...)
	l.m.age.DeleteLabelValues(names...)
	l.m.replies.DeleteLabelValues(names...)
	l.m.sinkFailed.DeleteLabelValues(names...)
	l.m.knative.DeletePartialMatch(prometheus.Labels{
		"kn_broker_namespace": l.namespace, "kn_broker_name": l.name, "messaging_destination_name": l.destination})
}

// Count adds n deliveries with an outcome.
func (l *Lane) Count(o Outcome, n uint64) {
	l.totals[o].Add(n)
	if c := l.outcomes[o].Load(); c != nil {
		(*c).Add(float64(n))
		return
	}
	l.bind(func() {
		c := l.m.deliveries.WithLabelValues(l.key.broker, l.key.trigger, o.String())
		l.outcomes[o].Store(&c)
		c.Add(float64(n))
	})
}

// Total is what Count added up to since the first user came.
func (l *Lane) Total(o Outcome) uint64 { return l.totals[o].Load() }

// Attempt records one attempt: how long it took and the status it got, 0 for
// none. Its outcome is Count's matter.
func (l *Lane) Attempt(d time.Duration, code int) {
	observe(l, &l.duration, l.m.duration, d)
	if o := l.codes.get(code, l.bindCode); o != nil {
		o.Observe(d.Seconds())
	}
}

// Age records how old an event was when it was delivered.
func (l *Lane) Age(d time.Duration) { observe(l, &l.age, l.m.age, d) }

// Reply counts a reply that was stored.
func (l *Lane) Reply() {
	l.bind(func() { l.m.replies.WithLabelValues(l.key.broker, l.key.trigger).Inc() })
}

// SinkFailed counts a dead letter that the dead letter sink did not take.
func (l *Lane) SinkFailed() {
	l.bind(func() { l.m.sinkFailed.WithLabelValues(l.key.broker, l.key.trigger).Inc() })
}

// bind runs f, which touches the trigger's series, unless they are deleted.
func (l *Lane) bind(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		f()
	}
}

func (l *Lane) bindCode(code int, label string) (o prometheus.Observer) {
	l.bind(func() {
		o = l.codes.put(code, l.m.knative.WithLabelValues(l.namespace, l.name, l.destination, label))
	})
	return o
}

func observe(l *Lane, slot *atomic.Pointer[prometheus.Observer], vec *prometheus.HistogramVec, d time.Duration) {
	if o := slot.Load(); o != nil {
		(*o).Observe(d.Seconds())
		return
	}
	l.bind(func() {
		o := vec.WithLabelValues(l.key.broker, l.key.trigger)
		slot.Store(&o)
		o.Observe(d.Seconds())
	})
}
