package telemetry

import "github.com/prometheus/client_golang/prometheus"

// JournalState is how the journal is.
type JournalState struct {
	Bytes   int64  // of its files
	Dropped uint64 // entries that were not written, since the process started
}

// WatchJournal registers the journal's figures. It may be called once for each
// registry; state is called at each scrape.
func (m *Metrics) WatchJournal(state func() JournalState) {
	if m.reg == nil {
		return
	}
	m.reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "penstock_journal_bytes", Help: "Bytes of the journal."},
			func() float64 { return float64(state().Bytes) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "penstock_journal_dropped_total", Help: "Entries that the journal did not write."},
			func() float64 { return float64(state().Dropped) }),
	)
}
