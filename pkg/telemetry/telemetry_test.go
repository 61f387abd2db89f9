package telemetry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// scrape is what Prometheus would read.
func scrape(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	rec := httptest.NewRecorder()
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("scrape: status %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func want(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("scrape has no line %q in:\n%s", line, ours(text))
		}
	}
}

// ours leaves out comments and bucket lines.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "_bucket{") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestWhatIsCountedIsScraped(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)

	b := m.Broker("shop/orders")
	b.Received(202, 3)
	b.Received(202, 1)
	b.Received(429, 1)
	b.Appended(202, 20*time.Millisecond)
	b.Gap()
	if got := b.Accepted(); got != 4 {
		t.Errorf("accepted %d, want 4", got)
	}

	l := m.Lane("shop/orders", "shop/billing")
	l.Count(telemetry.Delivered, 2)
	l.Count(telemetry.Delivered, 1)
	l.Count(telemetry.Dead, 1)
	l.Attempt(30*time.Millisecond, 200)
	l.Attempt(2*time.Second, 0)
	l.Age(90 * time.Second)
	l.Age(90 * time.Second)
	l.Reply()
	l.SinkFailed()
	if got := l.Total(telemetry.Delivered); got != 3 {
		t.Errorf("delivered %d, want 3", got)
	}
	m.Synced(3 * time.Millisecond)
	m.Connection(+1)
	m.BodyBytes(4096)
	m.ConnectionRefused(telemetry.BoundClient)

	want(t, scrape(t, reg),
		`penstock_events_received_total{broker="shop/orders",code="202"} 4`,
		`penstock_events_received_total{broker="shop/orders",code="429"} 1`,
		`penstock_gaps_total{broker="shop/orders"} 1`,
		`penstock_deliveries_total{broker="shop/orders",outcome="delivered",trigger="shop/billing"} 3`,
		`penstock_deliveries_total{broker="shop/orders",outcome="dead",trigger="shop/billing"} 1`,
		`penstock_delivery_duration_seconds_count{broker="shop/orders",trigger="shop/billing"} 2`,
		`penstock_delivery_duration_seconds_sum{broker="shop/orders",trigger="shop/billing"} 2.03`,
		`penstock_event_age_seconds_sum{broker="shop/orders",trigger="shop/billing"} 180`,
		`penstock_replies_total{broker="shop/orders",trigger="shop/billing"} 1`,
		`penstock_dead_letter_sink_failures_total{broker="shop/orders",trigger="shop/billing"} 1`,
		`kn_eventing_dispatch_duration_seconds_count{http_response_status_code="202",kn_broker_name="orders",kn_broker_namespace="shop",messaging_destination_name="broker:orders.shop"} 1`,
		`kn_eventing_dispatch_duration_seconds_count{http_response_status_code="200",kn_broker_name="orders",kn_broker_namespace="shop",messaging_destination_name="trigger:billing.shop"} 1`,
		`kn_eventing_dispatch_duration_seconds_count{http_response_status_code="none",kn_broker_name="orders",kn_broker_namespace="shop",messaging_destination_name="trigger:billing.shop"} 1`,
		`penstock_sync_duration_seconds_count 1`,
		`penstock_ingress_connections 1`,
		`penstock_ingress_body_bytes 4096`,
		`penstock_ingress_connections_refused_total{bound="client"} 1`,
	)
	if text := scrape(t, reg); !strings.Contains(text, "penstock_build_info{") {
		t.Error("scrape does not say what is running")
	}
}

func TestSubscriberThatAnswersEveryCodeMakesNoMoreSeriesThanHTTPDefines(t *testing.T) {
	reg := prometheus.NewRegistry()
	l := telemetry.New(reg).Lane("shop/orders", "shop/billing")
	for code := range 1100 {
		l.Attempt(time.Millisecond, code)
	}
	text := scrape(t, reg)
	if n := strings.Count(text, "\nkn_eventing_dispatch_duration_seconds_count{"); n > 70 {
		t.Errorf("%d series, want at most 70", n)
	}
	if !strings.Contains(text, `http_response_status_code="other"`) {
		t.Error("undefined codes are not counted")
	}
}

func TestIdleTriggersCostNoSeries(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	for i := range 1000 {
		m.Lane("shop/orders", fmt.Sprintf("shop/t%d", i))
	}
	if text := scrape(t, reg); strings.Contains(text, "shop/t") {
		t.Error("a trigger that delivered nothing has series")
	}
}

func TestSeriesOfADeletedTriggerGoAndStayAway(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	use := func(l *telemetry.Lane) {
		l.Count(telemetry.Delivered, 1)
		l.Attempt(time.Second, 200)
		l.Age(time.Second)
		l.Reply()
		l.SinkFailed()
	}
	gone, stays := m.Lane("shop/orders", "shop/gone"), m.Lane("shop/orders", "shop/stays")
	use(gone)
	use(stays)
	gone.Close()
	use(gone) // an attempt that was still under way
	gone.Count(telemetry.Expired, 1)
	gone.Attempt(time.Second, 503)

	text := scrape(t, reg)
	if strings.Contains(text, "gone") {
		t.Errorf("series of a deleted trigger in:\n%s", ours(text))
	}
	want(t, text, `penstock_deliveries_total{broker="shop/orders",outcome="delivered",trigger="shop/stays"} 1`)
}

func TestTriggerMadeAgainKeepsCountingWhenTheOldOneEnds(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	before := m.Lane("shop/orders", "shop/billing")
	before.Count(telemetry.Delivered, 1)
	after := m.Lane("shop/orders", "shop/billing")
	before.Close()
	after.Count(telemetry.Delivered, 1)
	want(t, scrape(t, reg), `penstock_deliveries_total{broker="shop/orders",outcome="delivered",trigger="shop/billing"} 2`)
	after.Close()
	if strings.Contains(scrape(t, reg), "shop/billing") {
		t.Error("series remain after the last user is gone")
	}
}

func TestSeriesOfADroppedBrokerGoUntilItIsMadeAgain(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	old := m.Broker("shop/orders")
	for _, b := range []*telemetry.Broker{old, m.Broker("shop/ordersx")} {
		b.Received(202, 1)
		b.Appended(202, time.Second)
		b.Gap()
	}
	m.DropBroker("shop/orders")
	m.DropBroker("shop/never-was")
	old.Received(503, 1)
	old.Appended(503, time.Second)
	old.Gap()
	text := scrape(t, reg)
	if strings.Contains(text, `"shop/orders"`) || strings.Contains(text, "broker:orders.shop") {
		t.Errorf("series of a dropped broker in:\n%s", ours(text))
	}
	want(t, text, `penstock_events_received_total{broker="shop/ordersx",code="202"} 1`)

	m.Broker("shop/orders").Received(202, 1)
	want(t, scrape(t, reg), `penstock_events_received_total{broker="shop/orders",code="202"} 1`)
}

type source struct {
	lanes    []telemetry.LaneState
	channels []telemetry.ChannelState
}

func (s source) Lanes(yield func(telemetry.LaneState) bool) {
	for _, l := range s.lanes {
		if !yield(l) {
			return
		}
	}
}

func (s source) Channels(yield func(telemetry.ChannelState) bool) {
	for _, c := range s.channels {
		if !yield(c) {
			return
		}
	}
}

func TestGaugesSayWhatIsNowAndAddUpLanesOfOneName(t *testing.T) {
	reg := prometheus.NewRegistry()
	telemetry.New(reg).Watch(source{
		lanes: []telemetry.LaneState{
			{Broker: "shop/orders", Trigger: "shop/billing", Backlog: 5, OldestPending: 90 * time.Second, InFlight: 2, Waiting: 3, DeadLetters: 1},
			{Broker: "shop/orders", Trigger: "shop/billing", Backlog: 1, OldestPending: time.Second, InFlight: 1},
			{Broker: "shop/orders", Trigger: "shop/audit", Backlog: 7, Window: 8},
		},
		channels: []telemetry.ChannelState{{Broker: "shop/orders", Bytes: 1000, DeadBytes: 10, MaxBytes: 5000}},
	})
	want(t, scrape(t, reg),
		`penstock_trigger_backlog{broker="shop/orders",trigger="shop/billing"} 6`,
		`penstock_trigger_oldest_pending_seconds{broker="shop/orders",trigger="shop/billing"} 90`,
		`penstock_trigger_in_flight{broker="shop/orders",trigger="shop/billing"} 3`,
		`penstock_trigger_waiting_retries{broker="shop/orders",trigger="shop/billing"} 3`,
		`penstock_dead_letters{broker="shop/orders",trigger="shop/billing"} 1`,
		`penstock_trigger_window{broker="shop/orders",trigger="shop/audit"} 8`,
		`penstock_trigger_backlog{broker="shop/orders",trigger="shop/audit"} 7`,
		`penstock_message_backlog 13`,
		`penstock_channel_bytes{broker="shop/orders"} 1000`,
		`penstock_channel_dead_letter_bytes{broker="shop/orders"} 10`,
		`penstock_channel_max_bytes{broker="shop/orders"} 5000`,
	)
}

func TestCountingFromManyGoroutinesMissesNothing(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := telemetry.New(reg)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			l := m.Lane("shop/orders", "shop/billing")
			for i := range 500 {
				m.Broker("shop/orders").Received([]int{202, 400, 429}[i%3], 1)
				l.Count(telemetry.Outcome(i%5), 1)
				l.Attempt(time.Millisecond, 200+i%3)
				l.Age(time.Millisecond)
			}
		})
	}
	wg.Wait()
	want(t, scrape(t, reg),
		`penstock_deliveries_total{broker="shop/orders",outcome="failed",trigger="shop/billing"} 800`,
		`penstock_event_age_seconds_count{broker="shop/orders",trigger="shop/billing"} 4000`,
		`penstock_events_received_total{broker="shop/orders",code="202"} 1336`,
	)
}

func TestCountingDoesNotAllocate(t *testing.T) {
	m := telemetry.New(nil)
	l := m.Lane("shop/orders", "shop/billing")
	count := func() {
		b := m.Broker("shop/orders")
		b.Received(202, 1)
		b.Appended(202, time.Millisecond)
		l.Count(telemetry.Delivered, 1)
		l.Attempt(time.Millisecond, 200)
		l.Age(time.Millisecond)
	}
	count()
	if n := testing.AllocsPerRun(100, count); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkCounting(b *testing.B) {
	m := telemetry.New(nil)
	l := m.Lane("shop/orders", "shop/billing")
	b.ReportAllocs()
	for b.Loop() {
		m.Broker("shop/orders").Received(202, 1)
		l.Count(telemetry.Delivered, 1)
		l.Attempt(time.Millisecond, 200)
		l.Age(time.Millisecond)
	}
}
