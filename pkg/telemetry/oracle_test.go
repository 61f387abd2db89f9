package telemetry_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// oracle counts the same with the library's own instruments.
type oracle struct {
	received, duplicates, gaps, deliveries, replies, sinkFailed *prometheus.CounterVec
	duration, age, knative                                      *prometheus.HistogramVec
}

// The bounds that dashboards and alerts know.
var (
	durationBounds = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}
	ageBounds      = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21600, 86400}
	knativeBounds  = []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
)

func newOracle(reg *prometheus.Registry) *oracle {
	counter := func(name string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name}, labels)
		reg.MustRegister(c)
		return c
	}
	histogram := func(name string, bounds []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Buckets: bounds}, labels)
		reg.MustRegister(h)
		return h
	}
	return &oracle{
		received:   counter("penstock_events_received_total", "broker", "code"),
		duplicates: counter("penstock_events_duplicate_total", "broker"),
		gaps:       counter("penstock_gaps_total", "broker"),
		deliveries: counter("penstock_deliveries_total", "broker", "trigger", "outcome"),
		replies:    counter("penstock_replies_total", "broker", "trigger"),
		sinkFailed: counter("penstock_dead_letter_sink_failures_total", "broker", "trigger"),
		duration:   histogram("penstock_delivery_duration_seconds", durationBounds, "broker", "trigger"),
		age:        histogram("penstock_event_age_seconds", ageBounds, "broker", "trigger"),
		knative: histogram("kn_eventing_dispatch_duration_seconds", knativeBounds,
			"kn_broker_namespace", "kn_broker_name", "messaging_destination_name", "http_response_status_code"),
	}
}

// anyDuration favours bounds, and what is a nanosecond beside one.
func anyDuration(r *rand.Rand) time.Duration {
	switch r.IntN(8) {
	case 0:
		return 0
	case 1: // of a clock that went wrong
		return math.MaxInt64 - time.Duration(r.IntN(2))
	case 2, 3, 4:
		all := slices.Concat(durationBounds, ageBounds, knativeBounds)
		return time.Duration(math.Round(all[r.IntN(len(all))]*1e9)) + time.Duration(r.IntN(3)-1)
	}
	return time.Duration(1) << r.IntN(50) * time.Duration(1+r.IntN(1000)) / 1000
}

// series are the samples of the families with the names, by name and labels.
func series(t *testing.T, reg *prometheus.Registry, names map[string]bool) map[string]*dto.Metric {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*dto.Metric)
	for _, f := range families {
		if names != nil && !names[f.GetName()] {
			continue
		}
		for _, m := range f.Metric {
			var key strings.Builder
			key.WriteString(f.GetName() + " " + f.GetType().String())
			for _, l := range m.Label {
				fmt.Fprintf(&key, " %s=%s", l.GetName(), l.GetValue())
			}
			found[key.String()] = m
		}
	}
	return found
}

func TestScrapeSaysWhatTheLibrarysInstrumentsWouldSay(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			ours, theirs := prometheus.NewRegistry(), prometheus.NewRegistry()
			m, o := telemetry.New(ours), newOracle(theirs)
			codes, labels := []int{0, 200, 202, 404, 503, 999}, []string{"none", "200", "202", "404", "503", "other"}
			brokers, triggers := []string{"orders", "returns"}, []string{"billing", "audit", "idle"}
			began := time.Now()
			for range r.IntN(3000) {
				broker, trigger := brokers[r.IntN(2)], triggers[r.IntN(2)]
				b, l := m.Broker("shop/"+broker), m.Lane("shop/"+broker, "shop/"+trigger)
				m.Lane("shop/"+broker, "shop/idle")
				names := []string{"shop/" + broker, "shop/" + trigger}
				d, n, code := anyDuration(r), r.IntN(4), r.IntN(len(codes))
				switch r.IntN(9) {
				case 0, 1, 2:
					l.Attempt(d, codes[code])
					o.duration.WithLabelValues(names...).Observe(d.Seconds())
					o.knative.WithLabelValues("shop", broker, "trigger:"+trigger+".shop", labels[code]).Observe(d.Seconds())
				case 3:
					l.Age(d)
					o.age.WithLabelValues(names...).Observe(d.Seconds())
				case 4:
					outcome := telemetry.Outcome(r.IntN(7))
					l.Count(outcome, uint64(n))
					o.deliveries.WithLabelValues(append(names, outcome.String())...).Add(float64(n))
				case 5:
					b.Received(codes[code], n)
					o.received.WithLabelValues("shop/"+broker, labels[code]).Add(float64(n))
				case 6:
					b.Appended(codes[code], d)
					o.knative.WithLabelValues("shop", broker, "broker:"+broker+".shop", labels[code]).Observe(d.Seconds())
				case 7:
					l.Reply()
					o.replies.WithLabelValues(names...).Inc()
					l.SinkFailed()
					o.sinkFailed.WithLabelValues(names...).Inc()
				case 8:
					b.Gap()
					o.gaps.WithLabelValues("shop/" + broker).Inc()
					b.Duplicates(n + 1)
					o.duplicates.WithLabelValues("shop/" + broker).Add(float64(n + 1))
				}
			}
			compare(t, ours, theirs, began)
		})
	}
}

// TestLabelsComeInOrder: the registry would put them right, by copying each.
func TestLabelsComeInOrder(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	l := m.Lane("shop/orders", "shop/billing")
	l.Attempt(time.Second, 200)
	l.Age(time.Second)
	l.Count(telemetry.Delivered, 1)
	l.Reply()
	m.Broker("shop/orders").Received(202, 1)
	m.Broker("shop/orders").Appended(202, time.Second)
	ch := make(chan prometheus.Metric, 100)
	reg.Collect(ch)
	close(ch)
	for s := range ch {
		var m dto.Metric
		if err := s.Write(&m); err != nil {
			t.Fatal(err)
		}
		if !slices.IsSortedFunc(m.Label, func(a, b *dto.LabelPair) int { return strings.Compare(a.GetName(), b.GetName()) }) {
			t.Errorf("%s: %v", s.Desc(), m.Label)
		}
	}
}

func compare(t *testing.T, ours, theirs *prometheus.Registry, began time.Time) {
	names := make(map[string]bool)
	described := make(chan *prometheus.Desc, 100)
	theirs.Describe(described)
	close(described)
	for d := range described {
		names[strings.Split(d.String(), `"`)[1]] = true
	}
	if len(names) != 9 {
		t.Fatalf("%d families: %v", len(names), names)
	}
	got, want := series(t, ours, names), series(t, theirs, nil)
	for key := range got {
		if want[key] == nil {
			t.Errorf("%s: a series that should not be", key)
		}
	}
	for key, w := range want {
		g := got[key]
		if g == nil {
			t.Errorf("%s: no such series", key)
			continue
		}
		if w.Counter != nil {
			if g.Counter.GetValue() != w.Counter.GetValue() {
				t.Errorf("%s: %v, want %v", key, g.Counter.GetValue(), w.Counter.GetValue())
			}
			if at := g.Counter.CreatedTimestamp.AsTime(); at.Before(began) || at.After(time.Now()) {
				t.Errorf("%s: created %v", key, at)
			}
			continue
		}
		gh, wh := g.Histogram, w.Histogram
		if gh.GetSampleCount() != wh.GetSampleCount() || math.Abs(gh.GetSampleSum()-wh.GetSampleSum()) > 1e-9*wh.GetSampleSum() {
			t.Errorf("%s: count %d, sum %v, want %d, %v", key, gh.GetSampleCount(), gh.GetSampleSum(), wh.GetSampleCount(), wh.GetSampleSum())
		}
		if len(gh.Bucket) != len(wh.Bucket) {
			t.Errorf("%s: %d buckets, want %d", key, len(gh.Bucket), len(wh.Bucket))
			continue
		}
		for i, b := range gh.Bucket {
			if b.GetUpperBound() != wh.Bucket[i].GetUpperBound() || b.GetCumulativeCount() != wh.Bucket[i].GetCumulativeCount() {
				t.Errorf("%s: le %v: %d, want le %v: %d", key, b.GetUpperBound(), b.GetCumulativeCount(), wh.Bucket[i].GetUpperBound(), wh.Bucket[i].GetCumulativeCount())
			}
		}
		if at := gh.CreatedTimestamp.AsTime(); at.Before(began) || at.After(time.Now()) {
			t.Errorf("%s: created %v", key, at)
		}
	}
}
