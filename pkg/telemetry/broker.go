package telemetry

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Broker counts what concerns one broker.
type Broker struct {
	m               *Metrics
	label           string
	namespace, name string

	codes    byCode[prometheus.Counter]
	appends  byCode[prometheus.Observer]
	copies   atomic.Pointer[prometheus.Counter]
	total    atomic.Uint64
	accepted atomic.Uint64

	mu     sync.Mutex
	closed bool
}

// Broker returns the handle of the named broker (namespace/name, or
// UnknownBroker), made at first use. Do not keep it beyond a request: after
// DropBroker a kept handle counts nothing.
func (m *Metrics) Broker(name string) *Broker {
	if b, ok := m.brokers.Load(name); ok {
		return b.(*Broker)
	}
	b := &Broker{m: m, label: name}
	b.namespace, b.name, _ = strings.Cut(name, "/")
	actual, _ := m.brokers.LoadOrStore(name, b)
	return actual.(*Broker)
}

// DropBroker deletes the series of a broker that is gone.
func (m *Metrics) DropBroker(name string) {
	v, ok := m.brokers.LoadAndDelete(name)
	if !ok {
		return
	}
	b := v.(*Broker)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	label := prometheus.Labels{"broker": name}
	m.received.DeletePartialMatch(label)
	m.gaps.DeletePartialMatch(label)
	m.duplicates.DeletePartialMatch(label)
	m.knative.DeletePartialMatch(prometheus.Labels{"messaging_destination_name": b.destination()})
}

// Received counts n events that were answered with code.
func (b *Broker) Received(code, n int) {
	b.total.Add(uint64(n))
	if code == http.StatusAccepted {
		b.accepted.Add(uint64(n))
	}
	if c := b.codes.get(code, b.bindCode); c != nil {
		c.Add(float64(n))
	}
}

// Duplicates counts n events that were accepted and had been stored before.
func (b *Broker) Duplicates(n int) {
	if n == 0 {
		return
	}
	c := b.copies.Load()
	if c == nil {
		if c = b.bindDuplicates(); c == nil {
			return
		}
	}
	(*c).Add(float64(n))
}

func (b *Broker) bindDuplicates() *prometheus.Counter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	c := b.m.duplicates.WithLabelValues(b.label)
	b.copies.Store(&c)
	return &c
}

// Appended records how long storing one request's events took, and the code
// it was answered with.
func (b *Broker) Appended(code int, d time.Duration) {
	if o := b.appends.get(code, b.bindAppend); o != nil {
		o.Observe(d.Seconds())
	}
}

// Gap counts a range of stored events that cannot be read any more.
func (b *Broker) Gap() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.m.gaps.WithLabelValues(b.label).Inc()
	}
}

// Total is the number of events received since the start, refused ones too.
func (b *Broker) Total() uint64 { return b.total.Load() }

// Accepted is the number of events answered with 202 since the start.
func (b *Broker) Accepted() uint64 { return b.accepted.Load() }

func (b *Broker) bindCode(code int, label string) prometheus.Counter {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	return b.codes.put(code, b.m.received.WithLabelValues(b.label, label))
}

func (b *Broker) bindAppend(code int, label string) prometheus.Observer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	return b.appends.put(code, b.m.knative.WithLabelValues(b.namespace, b.name, b.destination(), label))
}

// destination is Knative's form, broker:name.namespace.
func (b *Broker) destination() string { return "broker:" + b.name + "." + b.namespace }
