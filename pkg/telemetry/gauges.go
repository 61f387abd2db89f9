package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Source is asked at each scrape for what is now. Its methods may be called
// at any time, by several goroutines, and must not wait for a delivery or a disk.
type Source interface {
	// Lanes calls yield for each trigger this process delivers for, until it
	// answers false.
	Lanes(yield func(LaneState) bool)
	// Channels does so for each broker whose events this process keeps.
	Channels(yield func(ChannelState) bool)
}

// LaneState is one trigger's state. Names are namespace/name.
type LaneState struct {
	Broker, Trigger string
	Backlog         uint64        // events matched and not yet in a final state
	OldestPending   time.Duration // age of the oldest of them since its acceptance; 0 for none
	InFlight        int           // attempts under way
	Waiting         int           // failed and waiting for their next attempt
	DeadLetters     uint64        // kept by the broker
	Window          int           // attempts that may be under way at once; 0 where nobody knows
	Paused          bool          // by its annotation or by a person
	CircuitOpen     bool          // the subscriber is down
}

// ChannelState is what one broker keeps.
type ChannelState struct {
	Broker    string
	Bytes     int64 // all kinds of records
	DeadBytes int64 // of these, dead letters
	MaxBytes  int64 // the bound in force, 0 for none
	Known     *KnownEvents
}

// KnownEvents is what is known of a broker with a dedup window.
type KnownEvents struct {
	Entries int
	Bytes   int64
	Window  time.Duration // in force
}

// Watch registers the gauges that src answers. It may be called once for each
// registry.
func (m *Metrics) Watch(src Source) {
	if m.reg != nil {
		m.reg.MustRegister(newGauges(src))
	}
}

type gauges struct {
	src Source

	backlog, oldest, inFlight, waiting, dead *prometheus.Desc
	window, paused, circuit                  *prometheus.Desc
	message                                  *prometheus.Desc
	bytes, deadBytes, maxBytes               *prometheus.Desc
	known, knownBytes, knownWindow           *prometheus.Desc
}

func newGauges(src Source) *gauges {
	lane := []string{"broker", "trigger"}
	broker := []string{"broker"}
	desc := func(name, help string, labels []string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &gauges{
		src:       src,
		backlog:   desc("penstock_trigger_backlog", "Events that a trigger wants and that are not in a final state.", lane),
		oldest:    desc("penstock_trigger_oldest_pending_seconds", "Age of the oldest event pending for a trigger, 0 for none.", lane),
		inFlight:  desc("penstock_trigger_in_flight", "Attempts under way.", lane),
		waiting:   desc("penstock_trigger_waiting_retries", "Events that wait for their next attempt.", lane),
		dead:      desc("penstock_dead_letters", "Dead letters kept by the broker.", lane),
		window:    desc("penstock_trigger_window", "Attempts that may be under way at once now.", lane),
		paused:    desc("penstock_trigger_paused", "1 while nothing is delivered because somebody has paused the trigger.", lane),
		circuit:   desc("penstock_trigger_circuit_open", "1 while the subscriber is down and only probes are sent.", lane),
		message:   desc("penstock_message_backlog", "Pending deliveries of this process, all triggers together: for autoscalers.", nil),
		bytes:     desc("penstock_channel_bytes", "Bytes a broker keeps, all kinds of records.", broker),
		deadBytes: desc("penstock_channel_dead_letter_bytes", "Bytes of dead letters a broker keeps.", broker),
		maxBytes:  desc("penstock_channel_max_bytes", "Bytes a broker may keep, 0 for no bound of its own.", broker),

		known:       desc("penstock_dedup_known_events", "Events that would be recognised if they were sent again, of brokers with a dedup window.", broker),
		knownBytes:  desc("penstock_dedup_bytes", "Bytes of what is known of them, beside the newest, which are in memory.", broker),
		knownWindow: desc("penstock_dedup_window_seconds", "How long an event is known for certain: less than the dedup window where a bound was reached.", broker),
	}
}

// Describe is prometheus.Collector's.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{g.backlog, g.oldest, g.inFlight, g.waiting, g.dead, g.window, g.paused, g.circuit, g.message, g.bytes, g.deadBytes, g.maxBytes, g.known, g.knownBytes, g.knownWindow} {
		ch <- d
	}
}

// Collect is prometheus.Collector's. It adds up states of the same name: a
// trigger made again while the old one winds down has two lanes for a moment,
// and a repeated series would fail the whole scrape.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	lanes := make(map[laneKey]LaneState)
	var total uint64
	for s := range g.src.Lanes {
		key := laneKey{s.Broker, s.Trigger}
		sum := lanes[key]
		sum.Backlog += s.Backlog
		sum.OldestPending = max(sum.OldestPending, s.OldestPending)
		sum.InFlight += s.InFlight
		sum.Waiting += s.Waiting
		sum.DeadLetters += s.DeadLetters
		sum.Window += s.Window
		sum.Paused = sum.Paused || s.Paused
		sum.CircuitOpen = sum.CircuitOpen || s.CircuitOpen
		lanes[key] = sum
		total += s.Backlog
	}
	gauge := func(d *prometheus.Desc, value float64, l labels) { ch <- gaugeSample(d, l, value) }
	flag := map[bool]float64{true: 1}
	for key, s := range lanes {
		of := labels{label("broker", &key.broker), label("trigger", &key.trigger)}
		gauge(g.paused, flag[s.Paused], of)
		gauge(g.circuit, flag[s.CircuitOpen], of)
		gauge(g.backlog, float64(s.Backlog), of)
		gauge(g.oldest, s.OldestPending.Seconds(), of)
		gauge(g.inFlight, float64(s.InFlight), of)
		gauge(g.waiting, float64(s.Waiting), of)
		gauge(g.dead, float64(s.DeadLetters), of)
		if s.Window > 0 {
			gauge(g.window, float64(s.Window), of)
		}
	}
	gauge(g.message, float64(total), nil)

	channels := make(map[string]ChannelState)
	for s := range g.src.Channels {
		sum := channels[s.Broker]
		sum.Bytes += s.Bytes
		sum.DeadBytes += s.DeadBytes
		sum.MaxBytes += s.MaxBytes
		if s.Known != nil {
			sum.Known = s.Known
		}
		channels[s.Broker] = sum
	}
	for name, s := range channels {
		of := labels{label("broker", &name)}
		gauge(g.bytes, float64(s.Bytes), of)
		gauge(g.deadBytes, float64(s.DeadBytes), of)
		gauge(g.maxBytes, float64(s.MaxBytes), of)
		if s.Known != nil {
			gauge(g.known, float64(s.Known.Entries), of)
			gauge(g.knownBytes, float64(s.Known.Bytes), of)
			gauge(g.knownWindow, s.Known.Window.Seconds(), of)
		}
	}
}
