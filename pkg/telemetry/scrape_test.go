package telemetry_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

func TestEveryScrapeAddsUpWhileOthersCountAndTriggersComeAndGo(t *testing.T) {
	const goroutines, each, took = 4, 3000, 30 * time.Millisecond
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	l := m.Lane("shop/orders", "shop/billing")
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				l.Attempt(took, []int{200, 202, 503}[i%3])
				l.Age(took)
				l.Count(telemetry.Delivered, 1)
				m.Broker("shop/orders").Received(202, 1)
				m.Broker("shop/orders").Appended(202, took)

				passing := m.Lane("shop/passing", "shop/passing")
				passing.Attempt(took, 200)
				passing.Close()
				m.Broker("shop/passing").Gap()
				m.DropBroker("shop/passing")
			}
		})
	}
	counted := make(chan struct{})
	go func() { wg.Wait(); close(counted) }()

	last := make(map[string]*dto.Metric)
	for end := false; !end; {
		select {
		case <-counted:
			end = true
		default:
		}
		var attempts, byCode uint64
		now := series(t, reg, nil)
		for key, s := range now {
			if strings.Contains(key, "passing") {
				continue
			}
			h := s.Histogram
			if h == nil {
				if s.Counter.GetValue() < last[key].GetCounter().GetValue() {
					t.Fatalf("%s fell to %v", key, s.Counter.GetValue())
				}
				continue
			}
			if strings.HasPrefix(key, "penstock_delivery_duration") {
				attempts += h.GetSampleCount()
			}
			if strings.Contains(key, "trigger:billing.shop") {
				byCode += h.GetSampleCount()
			}
			before := last[key].GetHistogram()
			if h.GetSampleCount() < before.GetSampleCount() || h.GetSampleSum() < before.GetSampleSum() {
				t.Fatalf("%s fell to %d, %v s", key, h.GetSampleCount(), h.GetSampleSum())
			}
			if most := float64(h.GetSampleCount()) * took.Seconds(); h.GetSampleSum() > most*(1+1e-9) {
				t.Fatalf("%s: %v s in %d observations that make %v", key, h.GetSampleSum(), h.GetSampleCount(), most)
			}
			for _, b := range h.Bucket {
				want := uint64(0)
				if b.GetUpperBound() >= took.Seconds() {
					want = h.GetSampleCount()
				}
				if b.GetCumulativeCount() != want {
					t.Fatalf("%s: le %v: %d, want %d", key, b.GetUpperBound(), b.GetCumulativeCount(), want)
				}
			}
		}
		if attempts != byCode {
			t.Fatalf("%d attempts, and %d by code in the same scrape", attempts, byCode)
		}
		last = now
	}
	want(t, scrape(t, reg),
		`penstock_delivery_duration_seconds_count{broker="shop/orders",trigger="shop/billing"} 12000`,
		`penstock_delivery_duration_seconds_sum{broker="shop/orders",trigger="shop/billing"} 360`,
		`penstock_event_age_seconds_sum{broker="shop/orders",trigger="shop/billing"} 360`,
		`kn_eventing_dispatch_duration_seconds_sum{http_response_status_code="503",kn_broker_name="orders",kn_broker_namespace="shop",messaging_destination_name="trigger:billing.shop"} 120`,
		`kn_eventing_dispatch_duration_seconds_count{http_response_status_code="202",kn_broker_name="orders",kn_broker_namespace="shop",messaging_destination_name="broker:orders.shop"} 12000`,
	)
}

func TestStalledScrapeDelaysNobodyWhoCounts(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	for _, trigger := range []string{"shop/billing", "shop/audit"} {
		m.Lane("shop/orders", trigger).Count(telemetry.Delivered, 1)
		m.Lane("shop/orders", trigger).Attempt(time.Second, 200)
	}
	ch := make(chan prometheus.Metric)
	go func() { reg.Collect(ch); close(ch) }()
	for s := range ch {
		if strings.Contains(s.Desc().String(), `"penstock_deliveries_total"`) {
			break // with the second trigger still to tell of, and nobody who listens
		}
	}

	l := m.Lane("shop/orders", "shop/billing")
	l.Attempt(time.Second, 503)
	l.Age(time.Second)
	l.Count(telemetry.Dead, 1)
	l.Reply()
	l.SinkFailed()
	m.Lane("shop/orders", "shop/new").Close()
	b := m.Broker("shop/orders")
	b.Received(202, 1)
	b.Appended(202, time.Second)
	b.Gap()
	m.DropBroker("shop/orders")

	for range ch {
	}
	want(t, scrape(t, reg), `penstock_delivery_duration_seconds_count{broker="shop/orders",trigger="shop/billing"} 2`)
}

func TestTriggerMadeAnewStartsAtZero(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	old := m.Lane("shop/orders", "shop/billing")
	old.Count(telemetry.Delivered, 5)
	old.Attempt(time.Second, 200)
	old.Close()
	anew := m.Lane("shop/orders", "shop/billing")
	if strings.Contains(scrape(t, reg), "billing") {
		t.Error("a trigger that delivered nothing has series")
	}
	anew.Count(telemetry.Delivered, 1)
	anew.Attempt(time.Second, 200)
	old.Count(telemetry.Delivered, 1) // of an attempt that was still under way
	old.Attempt(time.Second, 200)
	want(t, scrape(t, reg),
		`penstock_deliveries_total{broker="shop/orders",outcome="delivered",trigger="shop/billing"} 1`,
		`penstock_delivery_duration_seconds_count{broker="shop/orders",trigger="shop/billing"} 1`)
}
