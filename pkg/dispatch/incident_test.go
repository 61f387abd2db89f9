package dispatch_test

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/dispatch"
)

// A subscriber is down for a while and some of its events die: three things
// to hear of, whatever the number of events.
func TestAnOutageIsToldOfOnceAndSoIsItsEnd(t *testing.T) {
	inWorld(t, func(w *world) {
		var mu sync.Mutex
		var told []string
		w.options.Incident = func(i dispatch.Incident) {
			mu.Lock()
			defer mu.Unlock()
			kind := map[dispatch.IncidentKind]string{dispatch.Failing: "failing", dispatch.Recovered: "recovered", dispatch.DeadLettered: "dead"}[i.Kind]
			told = append(told, fmt.Sprintf("%s %s %q %d", kind, i.Trigger, i.Reason, i.Status))
		}
		up := w.start.Add(5 * time.Minute)
		w.subscribe("flaky", func(_ int, _ receipt, rw http.ResponseWriter) {
			if time.Now().Before(up) {
				rw.WriteHeader(http.StatusInternalServerError)
			}
		})
		w.subscribe("healthy", nil)
		w.trigger("flaky", "a", "flaky")
		w.trigger("healthy", "a", "healthy")
		w.run()
		for range 60 {
			w.send("a", 5)
			w.after(10 * time.Second)
		}
		mu.Lock()
		defer mu.Unlock()
		want := []string{
			`dead default/flaky "status 500" 500`,
			`failing default/flaky "status 500" 500`,
			`recovered default/flaky "" 0`,
		}
		slices.Sort(told)
		if !slices.Equal(told, want) {
			t.Errorf("told\n%q, want\n%q", told, want)
		}
	})
}
