package sink

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/test/bench/tally"
)

// Stats are what a sink has seen since the last reset.
type Stats struct {
	Paths map[string]PathStats `json:"paths"`
	Bad   uint64               `json:"bad"` // requests that were not understood
}

// PathStats are what came in on one path. Durations are nanoseconds in JSON.
type PathStats struct {
	Events     uint64        `json:"events"`
	Duplicates uint64        `json:"duplicates"` // events whose id had come before
	P50        time.Duration `json:"p50"`        // from the time an event was due to be sent until it was here
	P99        time.Duration `json:"p99"`
	Max        time.Duration `json:"max"`
}

// Stats counts now.
func (s *Sink) Stats() Stats {
	stats := Stats{Paths: map[string]PathStats{}, Bad: s.bad.Load()}
	s.paths.Range(func(name, value any) bool {
		p := value.(*path)
		fresh, again := p.fresh.Load(), p.again.Load()
		stats.Paths[name.(string)] = PathStats{
			Events: fresh + again, Duplicates: again,
			P50: p.latency.Quantile(0.5), P99: p.latency.Quantile(0.99), Max: p.latency.Quantile(1),
		}
		return true
	})
	return stats
}

// Counts are how many different events have come on each path: cheaper than
// Stats, for whoever waits.
func (s *Sink) Counts() map[string]uint64 {
	counts := map[string]uint64{}
	s.paths.Range(func(name, value any) bool {
		counts[name.(string)] = value.(*path).fresh.Load()
		return true
	})
	return counts
}

// Reset forgets everything, delays too. No event may be under way.
func (s *Sink) Reset() {
	s.bad.Store(0)
	s.paths.Range(func(_, value any) bool {
		p := value.(*path)
		p.ids.Store(new(tally.Bitset))
		p.fresh.Store(0)
		p.again.Store(0)
		p.delay.Store(0)
		p.latency.Reset()
		return true
	})
}

// Control is for the other port: GET /stats and GET /counts answer Stats and
// Counts as JSON, GET /ids?path=P the ids that came in on P
// (tally.Bitset.WriteTo), POST /reset forgets, POST /delay?path=P&delay=20ms
// makes answers wait.
func (s *Sink) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Stats())
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Counts())
	})
	mux.HandleFunc("POST /delay", func(w http.ResponseWriter, r *http.Request) {
		d, err := time.ParseDuration(r.URL.Query().Get("delay"))
		if err != nil || d < 0 {
			http.Error(w, "delay: want a duration such as 20ms", http.StatusBadRequest)
			return
		}
		s.Delay(r.URL.Query().Get("path"), d)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /ids", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = s.path([]byte(r.URL.Query().Get("path"))).ids.Load().WriteTo(w)
	})
	mux.HandleFunc("POST /reset", func(w http.ResponseWriter, _ *http.Request) {
		s.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	return mux
}
