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
		stats.Paths[name.(string)] = PathStats{
			Events: p.events.Load(), Duplicates: p.again.Load(),
			P50: p.latency.Quantile(0.5), P99: p.latency.Quantile(0.99), Max: p.latency.Quantile(1),
		}
		return true
	})
	return stats
}

// Reset forgets everything. No event may be under way.
func (s *Sink) Reset() {
	s.bad.Store(0)
	s.paths.Range(func(_, value any) bool {
		p := value.(*path)
		p.ids.Store(new(tally.Bitset))
		p.events.Store(0)
		p.again.Store(0)
		p.latency.Reset()
		return true
	})
}

// Control is for the other port: GET /stats answers Stats as JSON, GET
// /ids?path=P the ids that came in on P (tally.Bitset.WriteTo), POST /reset
// forgets.
func (s *Sink) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Stats())
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
