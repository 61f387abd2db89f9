package telemetry

import (
	"net/http"
	"time"
)

// Broker counts what concerns one broker.
type Broker struct {
	name             string
	received         byCode[counter]
	appends          byCode[histogram]
	duplicates, gaps counter
}

// Broker returns the handle of the named broker (namespace/name, or
// UnknownBroker), made at first use. Do not keep it beyond a request: after
// DropBroker a kept handle counts nothing.
func (m *Metrics) Broker(name string) *Broker {
	if b, ok := m.brokers.Load(name); ok {
		return b.(*Broker)
	}
	b, _ := m.brokers.LoadOrStore(name, &Broker{name: name})
	return b.(*Broker)
}

// DropBroker deletes the series of a broker that is gone: no scrape knows its
// handle any more.
func (m *Metrics) DropBroker(name string) { m.brokers.Delete(name) }

// Received counts n events that were answered with code.
func (b *Broker) Received(code, n int) { b.received.get(code).add(uint64(n)) }

// Duplicates counts n events that were accepted and had been stored before.
func (b *Broker) Duplicates(n int) {
	if n > 0 {
		b.duplicates.add(uint64(n))
	}
}

// Appended records how long storing one request's events took, and the code
// it was answered with.
func (b *Broker) Appended(code int, d time.Duration) { b.appends.get(code).observe(dispatchScale, d) }

// Gap counts a range of stored events that cannot be read any more.
func (b *Broker) Gap() { b.gaps.add(1) }

// Total is the number of events received since the start, refused ones too.
func (b *Broker) Total() uint64 {
	var n uint64
	for _, c := range b.received.all() {
		n += c.n.Load()
	}
	return n
}

// Accepted is the number of events answered with 202 since the start.
func (b *Broker) Accepted() uint64 {
	for code, c := range b.received.all() {
		if code == http.StatusAccepted {
			return c.n.Load()
		}
	}
	return 0
}
