// Package telemetry holds the instruments: Prometheus metrics, the log
// handler and the W3C trace context check. Its metrics answer the operator's
// question: is my event late, lost, or delivered twice?
//
// It promises that the number of series depends on the brokers and triggers
// that exist and on nothing a sender or a subscriber can choose: there is no
// label for an event's type, source or id, and unknown status codes share one
// series. Handles (Broker, Lane) are bound to their series, so that counting
// costs a few atomic operations and formats no label. It does not export
// anything by itself: the caller brings the registry and serves it.
//
// Everything here may be called by any number of goroutines.
package telemetry

import (
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// UnknownBroker is the broker label of requests that name no broker we have.
// A broker's name has a slash, so it cannot be one.
const UnknownBroker = "unknown"

// Bounds in seconds. Durations of one attempt reach up to its timeout, 5
// minutes by default; an event's age includes its retries and outages.
var (
	durationBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	ageBounds      = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400}
	syncBounds     = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30}

	// knativeBounds are those of Knative Eventing's own instrument of the name,
	// so that one dashboard serves both.
	knativeBounds = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
)

// Metrics are all instruments of one process.
type Metrics struct {
	reg prometheus.Registerer

	received    *prometheus.CounterVec
	duplicates  *prometheus.CounterVec
	deliveries  *prometheus.CounterVec
	replies     *prometheus.CounterVec
	sinkFailed  *prometheus.CounterVec
	gaps        *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	age         *prometheus.HistogramVec
	knative     *prometheus.HistogramVec
	sync        prometheus.Histogram
	connections prometheus.Gauge
	bodyBytes   prometheus.Gauge
	refused     *prometheus.CounterVec

	scrubBytes, scrubDamage prometheus.Counter
	scrubComplete           prometheus.Gauge

	brokers sync.Map // name -> *Broker

	mu    sync.Mutex // guards what follows; never held while an instrument is collected
	lanes map[laneKey]*Lane
}

type laneKey struct{ broker, trigger string }

// New makes the instruments and registers them with reg. A nil reg registers
// nothing: the instruments count all the same, which is what tests and
// commands without a metrics port want. It panics where reg already holds
// them: one process has one Metrics.
func New(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, bounds []float64, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: bounds}, labels)
	}
	m := &Metrics{
		reg:   reg,
		lanes: make(map[laneKey]*Lane),

		received: counter("penstock_events_received_total",
			"Events received, by the status code they were answered with. A request refused before its body was understood counts as one.",
			"broker", "code"),
		duplicates: counter("penstock_events_duplicate_total",
			"Events answered 202 that were not stored, for they had been within the broker's dedup window.",
			"broker"),
		deliveries: counter("penstock_deliveries_total",
			"Deliveries by outcome: failed counts attempts; delivered, dead, cancelled and expired count events in their final state.",
			"broker", "trigger", "outcome"),
		replies: counter("penstock_replies_total",
			"Replies of subscribers that were stored as new events.",
			"broker", "trigger"),
		sinkFailed: counter("penstock_dead_letter_sink_failures_total",
			"Dead letters that the dead letter sink did not take. The broker keeps them.",
			"broker", "trigger"),
		gaps: counter("penstock_gaps_total",
			"Ranges of stored events that could not be read any more. More than 0 means events were lost.",
			"broker"),
		duration: histogram("penstock_delivery_duration_seconds",
			"Duration of one attempt, from the request to the end of the answer.",
			durationBounds, "broker", "trigger"),
		age: histogram("penstock_event_age_seconds",
			"Age of events when they were delivered, counted from their acceptance.",
			ageBounds, "broker", "trigger"),
		knative: histogram("kn_eventing_dispatch_duration_seconds",
			"Duration of dispatching one event, as Knative Eventing measures it: to the channel (destination broker:...) or to a subscriber (destination trigger:...).",
			knativeBounds, "kn_broker_namespace", "kn_broker_name", "messaging_destination_name", "http_response_status_code"),
		sync: f.NewHistogram(prometheus.HistogramOpts{Name: "penstock_sync_duration_seconds",
			Help: "Duration of making appended events durable: one sync of the write-ahead log.", Buckets: syncBounds}),
		connections: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_ingress_connections",
			Help: "Open connections of senders."}),
		bodyBytes: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_ingress_body_bytes",
			Help: "Memory held for request bodies that are being received or stored."}),
		refused: counter("penstock_ingress_connections_refused_total",
			"Connections refused at a bound: total, or client (one address has too many).",
			"bound"),
		scrubBytes: f.NewCounter(prometheus.CounterOpts{Name: "penstock_scrub_bytes_total",
			Help: "Stored bytes that the scrubber has read and found as they were written."}),
		scrubDamage: f.NewCounter(prometheus.CounterOpts{Name: "penstock_scrub_damage_total",
			Help: "Segments that the scrubber found not as they were written. More than 0 means that the disk loses data."}),
		scrubComplete: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_scrub_last_complete_timestamp_seconds",
			Help: "When the scrubber had last read all that is sealed, as Unix time; 0 before the first time."}),
	}
	version, revision := Build()
	f.NewGauge(prometheus.GaugeOpts{Name: "penstock_build_info",
		Help:        "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "go_version": runtime.Version()},
	}).Set(1)
	return m
}

// Build is the version and the source revision of this binary, "unknown"
// where the Go command did not write them into it.
func Build() (version, revision string) {
	version, revision = "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version, revision
	}
	if info.Main.Version != "" {
		version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value
		}
	}
	return version, revision
}

// Synced records how long one sync of the write-ahead log took.
func (m *Metrics) Synced(d time.Duration) { m.sync.Observe(d.Seconds()) }

// Scrubbed counts bytes of sealed segments that were read and are good.
func (m *Metrics) Scrubbed(bytes int64) { m.scrubBytes.Add(float64(bytes)) }

// Damaged counts a segment that is not as it was written.
func (m *Metrics) Damaged() { m.scrubDamage.Inc() }

// Completed records the end of a whole pass of the scrubber.
func (m *Metrics) Completed(at time.Time) { m.scrubComplete.Set(float64(at.UnixMilli()) / 1000) }

// Connection counts a sender's connection in (+1) or out (-1).
func (m *Metrics) Connection(delta int) { m.connections.Add(float64(delta)) }

// BodyBytes counts memory taken (above 0) or given back for request bodies.
func (m *Metrics) BodyBytes(delta int64) { m.bodyBytes.Add(float64(delta)) }

// Bound names a bound on connections.
type Bound string

// The bounds that refuse connections.
const (
	BoundTotal  Bound = "total"
	BoundClient Bound = "client"
)

// ConnectionRefused counts a connection refused at a bound.
func (m *Metrics) ConnectionRefused(b Bound) { m.refused.WithLabelValues(string(b)).Inc() }
