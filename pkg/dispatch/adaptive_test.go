package dispatch_test

import (
	"net/http"
	"testing"
	"time"
)

// A subscriber that takes 16 at once and refuses the rest with 429: the lane
// finds out, and refusals count as attempts.
func TestALaneSendsWhatItsSubscriberTakes(t *testing.T) {
	for _, adaptive := range []bool{true, false} {
		inWorld(t, func(w *world) {
			sub := w.subscribe("sub", nil)
			refused := 0
			sub.answer = func(_ int, _ receipt, rw http.ResponseWriter) {
				sub.mu.Lock()
				tooMany := sub.open > 16
				if tooMany {
					refused++
				}
				sub.mu.Unlock()
				if tooMany {
					rw.WriteHeader(429)
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			change := annotate("penstock.dev/adaptive", "true")
			if !adaptive {
				change = annotate("penstock.dev/adaptive", "false")
			}
			w.trigger("sub", "", "sub", delivery(100, "linear", "PT0.1S"), annotate("penstock.dev/backoff-max", "1s"), change)
			w.run()
			w.send("order", 600)
			w.after(5 * time.Second)
			s := w.lane("sub")
			if adaptive && (s.Window > 32 || s.Window < 4) || !adaptive && s.Window != 64 {
				t.Errorf("adaptive %v: window %d", adaptive, s.Window)
			}
			w.after(5 * time.Minute)
			if s := w.lane("sub"); s.Delivered != 600 || int(s.Failed) != refused || s.Spared != 0 {
				t.Errorf("adaptive %v: %d refused, %+v", adaptive, refused, s)
			}
			if share := float64(refused) / 600; adaptive && share > 0.25 || !adaptive && share < 1 {
				t.Errorf("adaptive %v: %.2f refusals an event", adaptive, share)
			}
			t.Logf("adaptive %v: %d refusals", adaptive, refused)
		})
	}
}
