package telemetry

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Bounds in seconds. Durations of one attempt reach up to its timeout, 5
// minutes by default; an event's age includes its retries and outages.
var (
	durationBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	ageBounds      = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400}

	// knativeBounds are those of Knative Eventing's own instrument of the name,
	// so that one dashboard serves both.
	knativeBounds = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
)

// The scales of the handles' histograms.
var (
	dispatchScale = newScale(durationBounds, knativeBounds)
	ageScale      = newScale(ageBounds)
)

// families tells a scrape what the handles have counted. It asks all of them
// in one go, so that what two families say of one attempt agrees, and takes no
// lock that counting needs: counting needs none.
type families struct {
	m *Metrics

	received, duplicates, gaps      *prometheus.Desc
	deliveries, replies, sinkFailed *prometheus.Desc
	duration, age, knative          histogramFamily

	// Labels that do not depend on a handle.
	outcomes            [outcomes]*dto.LabelPair
	codes, knativeCodes map[int]*dto.LabelPair
}

func newFamilies(m *Metrics) *families {
	desc := prometheus.NewDesc
	broker, lane := []string{"broker"}, []string{"broker", "trigger"}
	f := &families{
		m:            m,
		codes:        make(map[int]*dto.LabelPair),
		knativeCodes: make(map[int]*dto.LabelPair),

		received: desc("penstock_events_received_total",
			"Events received, by the status code they were answered with. A request refused before its body was understood counts as one.",
			[]string{"broker", "code"}, nil),
		duplicates: desc("penstock_events_duplicate_total",
			"Events answered 202 that were not stored, for they had been within the broker's dedup window.",
			broker, nil),
		gaps: desc("penstock_gaps_total",
			"Ranges of stored events that could not be read any more. More than 0 means events were lost.",
			broker, nil),
		deliveries: desc("penstock_deliveries_total",
			"Deliveries by outcome: failed counts attempts; delivered, dead, cancelled and expired count events in their final state.",
			[]string{"broker", "trigger", "outcome"}, nil),
		replies: desc("penstock_replies_total",
			"Replies of subscribers that were stored as new events.",
			lane, nil),
		sinkFailed: desc("penstock_dead_letter_sink_failures_total",
			"Dead letters that the dead letter sink did not take. The broker keeps them.",
			lane, nil),
		duration: newHistogramFamily(desc("penstock_delivery_duration_seconds",
			"Duration of one attempt, from the request to the end of the answer.",
			lane, nil), dispatchScale, durationBounds),
		age: newHistogramFamily(desc("penstock_event_age_seconds",
			"Age of events when they were delivered, counted from their acceptance.",
			lane, nil), ageScale, ageBounds),
		knative: newHistogramFamily(desc("kn_eventing_dispatch_duration_seconds",
			"Duration of dispatching one event, as Knative Eventing measures it: to the channel (destination broker:...) or to a subscriber (destination trigger:...).",
			[]string{"kn_broker_namespace", "kn_broker_name", "messaging_destination_name", "http_response_status_code"}, nil), dispatchScale, knativeBounds),
	}
	for o := range outcomes {
		f.outcomes[o] = label("outcome", &outcomeLabels[o])
	}
	for code := range allCodes {
		value := codeLabel(code)
		f.codes[code], f.knativeCodes[code] = label("code", &value), label("http_response_status_code", &value)
	}
	return f
}

// Describe is prometheus.Collector's.
func (f *families) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.received, f.duplicates, f.gaps, f.deliveries, f.replies, f.sinkFailed, f.duration.desc, f.age.desc, f.knative.desc} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (f *families) Collect(ch chan<- prometheus.Metric) {
	for _, b := range f.m.brokers.Range {
		f.broker(ch, b.(*Broker))
	}
	for _, l := range f.m.allLanes() {
		f.lane(ch, l)
	}
}

func (f *families) broker(ch chan<- prometheus.Metric, b *Broker) {
	broker := label("broker", &b.name)
	for code, c := range b.received.all() {
		count(ch, f.received, c, labels{broker, f.codes[code]})
	}
	count(ch, f.duplicates, &b.duplicates, labels{broker})
	count(ch, f.gaps, &b.gaps, labels{broker})

	knative := knativeLabels(b.name, "broker", b.name)
	for code, h := range b.appends.all() {
		r := h.read()
		f.knative.tell(ch, &r, append(labels{f.knativeCodes[code]}, knative...))
	}
}

func (f *families) lane(ch chan<- prometheus.Metric, l *Lane) {
	broker, trigger := label("broker", &l.key.broker), label("trigger", &l.key.trigger)
	lane := labels{broker, trigger}
	for o := range outcomes {
		count(ch, f.deliveries, &l.outcomes[o], labels{broker, f.outcomes[o], trigger})
	}
	count(ch, f.replies, &l.replies, lane)
	count(ch, f.sinkFailed, &l.sinkFailed, lane)
	if h := l.age.Load(); h != nil {
		r := h.read()
		f.age.tell(ch, &r, lane)
	}

	var attempts reading
	var knative labels
	for code, h := range l.attempts.all() {
		if knative == nil {
			knative = knativeLabels(l.key.broker, "trigger", l.key.trigger)
		}
		r := h.read()
		f.knative.tell(ch, &r, append(labels{f.knativeCodes[code]}, knative...))
		attempts.add(&r)
	}
	f.duration.tell(ch, &attempts, lane)
}

// knativeLabels are those that follow the code's: names as Knative writes
// them, with a destination as in broker:name.namespace.
func knativeLabels(broker, kind, key string) labels {
	namespace, name, _ := strings.Cut(broker, "/")
	within, last, _ := strings.Cut(key, "/")
	destination := kind + ":" + last + "." + within
	return labels{label("kn_broker_name", &name), label("kn_broker_namespace", &namespace), label("messaging_destination_name", &destination)}
}

// histogramFamily has the bounds of one family.
type histogramFamily struct {
	desc   *prometheus.Desc
	bounds []float64
	last   []int // of each bound, the last bucket below it
}

func newHistogramFamily(desc *prometheus.Desc, s *scale, bounds []float64) histogramFamily {
	f := histogramFamily{desc: desc, bounds: bounds}
	for _, b := range bounds {
		f.last = append(f.last, s.bucket(nanoseconds(b)))
	}
	return f
}

// tell makes a sample of what was read, with the family's own, coarser buckets.
func (f *histogramFamily) tell(ch chan<- prometheus.Metric, r *reading, l labels) {
	if r.born == 0 {
		return
	}
	below := make([]uint64, len(f.bounds))
	var n uint64
	next := 0
	for i, last := range f.last {
		for ; next <= last; next++ {
			n += r.buckets[next]
		}
		below[i] = n
	}
	for ; next < len(r.buckets); next++ {
		n += r.buckets[next]
	}
	ch <- histogramSample(f.desc, l, r.born, n, r.seconds(), f.bounds, below)
}

func count(ch chan<- prometheus.Metric, desc *prometheus.Desc, c *counter, l labels) {
	if born := c.born.Load(); born != 0 {
		ch <- counterSample(desc, l, born, float64(c.n.Load()))
	}
}
