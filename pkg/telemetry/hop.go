package telemetry

import "github.com/prometheus/client_golang/prometheus"

// HopState counts what has gone over the hop between ingress and dispatchers,
// at one of its ends, since the process started.
type HopState struct {
	Requests                 uint64
	Stored, Refused, Unknown uint64 // appends
	Unauthorized             uint64 // requests turned away; of a dispatcher
	Queued                   int    // appends that wait for a connection; of an ingress
	Up                       int    // dispatchers that can be chosen; of an ingress
}

// WatchHop registers the counters of one end. It may be called once for each
// registry; state is called at each scrape.
func (m *Metrics) WatchHop(state func() HopState) {
	if m.reg != nil {
		m.reg.MustRegister(&hop{
			state:        state,
			requests:     prometheus.NewDesc("penstock_hop_requests_total", "Requests between ingress and dispatchers.", nil, nil),
			appends:      prometheus.NewDesc("penstock_hop_appends_total", "Appends in them, by outcome.", []string{"outcome"}, nil),
			unauthorized: prometheus.NewDesc("penstock_hop_unauthorized_total", "Requests that a dispatcher turned away.", nil, nil),
			queued:       prometheus.NewDesc("penstock_hop_queued_appends", "Appends that wait in an ingress pod.", nil, nil),
			up:           prometheus.NewDesc("penstock_hop_dispatchers", "Dispatchers that an ingress pod can choose.", nil, nil),
		})
	}
}

type hop struct {
	state                                       func() HopState
	requests, appends, unauthorized, queued, up *prometheus.Desc
}

// Describe is prometheus.Collector's.
func (h *hop) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{h.requests, h.appends, h.unauthorized, h.queued, h.up} {
		ch <- d
	}
}

// Collect is prometheus.Collector's.
func (h *hop) Collect(ch chan<- prometheus.Metric) {
	s := h.state()
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	count(h.requests, s.Requests)
	count(h.appends, s.Stored, "stored")
	count(h.appends, s.Refused, "refused")
	count(h.appends, s.Unknown, "unknown")
	count(h.unauthorized, s.Unauthorized)
	ch <- prometheus.MustNewConstMetric(h.queued, prometheus.GaugeValue, float64(s.Queued))
	ch <- prometheus.MustNewConstMetric(h.up, prometheus.GaugeValue, float64(s.Up))
}
