// Package telemetry holds the instruments: Prometheus metrics, the log
// handler and the W3C trace context check. Its metrics answer the operator's
// question: is my event late, lost, or delivered twice?
//
// It promises that the number of series depends on the brokers and triggers
// that exist and on nothing a sender or a subscriber can choose: there is no
// label for an event's type, source or id, and unknown status codes share one
// series. Handles (Broker, Lane) hold plain integers, which become series when
// somebody scrapes: counting is a few atomic additions, takes no lock and
// formats no label. It does not export anything by itself: the caller brings
// the registry and serves it.
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

// syncBounds are in seconds. families.go has the bounds of what is of one
// broker or trigger.
var syncBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30}

// Metrics are all instruments of one process.
type Metrics struct {
	reg prometheus.Registerer

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
	m := &Metrics{
		reg:   reg,
		lanes: make(map[laneKey]*Lane),

		sync: f.NewHistogram(prometheus.HistogramOpts{Name: "penstock_sync_duration_seconds",
			Help: "Duration of making appended events durable: one sync of the write-ahead log.", Buckets: syncBounds}),
		connections: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_ingress_connections",
			Help: "Open connections of senders."}),
		bodyBytes: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_ingress_body_bytes",
			Help: "Memory held for request bodies that are being received or stored."}),
		refused: f.NewCounterVec(prometheus.CounterOpts{Name: "penstock_ingress_connections_refused_total",
			Help: "Connections refused at a bound: total, or client (one address has too many)."}, []string{"bound"}),
		scrubBytes: f.NewCounter(prometheus.CounterOpts{Name: "penstock_scrub_bytes_total",
			Help: "Stored bytes that the scrubber has read and found as they were written."}),
		scrubDamage: f.NewCounter(prometheus.CounterOpts{Name: "penstock_scrub_damage_total",
			Help: "Segments that the scrubber found not as they were written. More than 0 means that the disk loses data."}),
		scrubComplete: f.NewGauge(prometheus.GaugeOpts{Name: "penstock_scrub_last_complete_timestamp_seconds",
			Help: "When the scrubber had last read all that is sealed, as Unix time; 0 before the first time."}),
	}
	if reg != nil {
		reg.MustRegister(newFamilies(m))
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
