package dispatch_test

import (
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// downUntil is a subscriber that fails until a moment of the story.
func downUntil(end time.Duration, code int) func(int, receipt, http.ResponseWriter) {
	return func(_ int, r receipt, rw http.ResponseWriter) {
		if r.at < end {
			rw.WriteHeader(code)
		}
	}
}

// attemptsOf counts the requests of each event.
func (s *subscriber) attemptsOf() map[string]int {
	n := make(map[string]int)
	for _, r := range s.receipts() {
		n[r.id]++
	}
	return n
}

// The claim of the circuit: an hour of outage costs each event one attempt and a
// tenth at most, and each ends exactly once.
func TestAnHourOfOutageCostsLittleMoreThanOneAttemptAnEvent(t *testing.T) {
	for name, c := range map[string]struct {
		change    func(*config.Object)
		events    int
		delivered uint64
	}{
		"that outlasts the retries": {delivery(10, "exponential", "PT0.2S"), 10_000, 0},
		"that the retries outlast":  {delivery(20, "exponential", "PT1S"), 3000, 3000},
		"without any retry":         {delivery(0, "", ""), 3000, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				events := c.events
				sub := w.subscribe("sub", downUntil(time.Hour, 503))
				w.trigger("sub", "", "sub", c.change)
				w.run()
				for range 10 {
					w.send("order", events/10)
					w.after(time.Second)
				}
				w.after(time.Hour - w.sinceStart())
				down := sub.count()
				if down > events*11/10 {
					t.Errorf("%d attempts while the subscriber was down, want at most 1.1 an event", down)
				}
				w.after(12 * time.Hour)
				s := w.lane("sub")
				if s.Delivered+s.Dead != uint64(events) || s.Backlog != 0 {
					t.Errorf("%d delivered and %d dead of %d, %d pending", s.Delivered, s.Dead, events, s.Backlog)
				}
				if s.Delivered < c.delivered {
					t.Errorf("%d delivered, want %d", s.Delivered, c.delivered)
				}
				if up := sub.count() - down; uint64(up) != s.Delivered {
					t.Errorf("%d attempts after it was up again, %d delivered", up, s.Delivered)
				}
				t.Logf("%d attempts while down, %d delivered, %d dead", down, s.Delivered, s.Dead)
			})
		})
	}
}

func (w *world) sinceStart() time.Duration { return time.Since(w.start) }

func TestAnOpenCircuitProbesWithOneEventAtATime(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", downUntil(4*time.Minute, 503))
		w.trigger("sub", "", "sub", delivery(10, "exponential", "PT0.2S"))
		w.run()
		w.send("order", 1000)
		w.after(time.Second)
		s := w.lane("sub")
		if s.Circuit.State != dispatch.CircuitOpen || s.Circuit.Since.IsZero() || s.Circuit.Reason != "status 503" || s.Circuit.Failures < 32 {
			t.Fatalf("circuit %+v", s.Circuit)
		}
		if !strings.HasPrefix(s.Waits, "circuit open: status 503 since ") || !strings.Contains(s.Waits, ", next probe at ") {
			t.Errorf("waits: %q", s.Waits)
		}
		opened := sub.count()
		w.after(4*time.Minute - w.sinceStart() - time.Millisecond)
		var at []time.Duration
		for _, r := range sub.receipts()[opened:] {
			at = append(at, r.at)
		}
		gaps := []time.Duration{2, 4, 8, 16, 30, 30, 30, 30, 30}
		for i := range len(at) - 1 {
			want := gaps[min(i, len(gaps)-1)] * time.Second
			if gap := at[i+1] - at[i]; gap < want || gap > min(30*time.Second, want*12/10) {
				t.Errorf("probe %d comes %v after the one before, want %d s and up to a fifth more", i+2, gap, gaps[i])
			}
		}
		if len(at) < 8 {
			t.Errorf("%d probes in four minutes", len(at))
		}
		w.after(time.Minute)
		if s := w.lane("sub"); s.Delivered != 1000 || s.Circuit.State != dispatch.CircuitClosed || s.Waits != "" {
			t.Errorf("up again: %+v", s)
		}
	})
}

// Each event has one attempt, and so dies of the probe it makes. When those that
// were read at once are all dead the next one probes, though by its age its own
// time is yet to come.
func TestWhatIsLeftInTheLogProbesWhereNothingElseCan(t *testing.T) {
	inWorld(t, func(w *world) {
		up := 5 * time.Second
		w.subscribe("sub", downUntil(up, 503))
		w.trigger("sub", "", "sub", delivery(0, "", ""))
		w.run()
		n := 0
		send := func() { n++; w.append(w.keyed("one", n)) } // all to one shard
		for w.lane("sub").Circuit.State == dispatch.CircuitClosed {
			send()
			w.after(10 * time.Millisecond)
		}
		send()
		send() // the first is there to probe, the second is read when that is dead
		for w.lane("sub").Backlog > 1 {
			w.after(100 * time.Millisecond)
		}
		send() // and this one is left in the log
		for w.lane("sub").Backlog > 1 {
			w.after(100 * time.Millisecond)
		}
		if at := w.sinceStart(); at > up {
			t.Fatalf("two probes took %v", at)
		}
		w.after(time.Minute)
		if s := w.lane("sub"); s.Backlog != 0 || s.Delivered != 1 {
			t.Errorf("%d pending, %d delivered a minute later, %+v", s.Backlog, s.Delivered, s.Circuit)
		}
	})
}

func TestWhateverShowsThatTheSubscriberIsThereClosesTheCircuit(t *testing.T) {
	for code, open := range map[int]bool{200: false, 202: false, 400: false, 404: false, 301: false, 408: true, 425: true, 429: true, 500: true} {
		inWorld(t, func(w *world) {
			var now atomic.Int64
			now.Store(503)
			w.subscribe("sub", func(_ int, _ receipt, rw http.ResponseWriter) { rw.WriteHeader(int(now.Load())) })
			w.trigger("sub", "", "sub", delivery(50, "linear", "PT0.2S"))
			w.run()
			w.send("order", 1000)
			w.after(500 * time.Millisecond)
			if w.lane("sub").Circuit.State != dispatch.CircuitOpen {
				t.Fatal("it did not open")
			}
			now.Store(int64(code))
			w.after(2 * time.Second)
			if is := w.lane("sub").Circuit.State != dispatch.CircuitClosed; is != open {
				t.Errorf("%d: open is %v, want %v", code, is, open)
			}
		})
	}
}

// A few events that fail have the retries of their delivery spec and no circuit.
func TestFewEventsOpenNoCircuit(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(503))
		w.trigger("sub", "", "sub", delivery(10, "linear", "PT1S"))
		w.run()
		w.send("order", 30)
		w.after(2 * time.Minute)
		if s := w.lane("sub"); s.Dead != 30 || sub.count() != 330 || s.Circuit.State != dispatch.CircuitClosed {
			t.Errorf("%d attempts, %+v", sub.count(), s)
		}
	})
}

// All that is in flight when a subscriber restarts fails at once: that is no outage.
func TestABurstOfFailuresOpensNoCircuit(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", downUntil(50*time.Millisecond, 503))
		w.trigger("sub", "", "sub", delivery(3, "linear", "PT1S"))
		w.run()
		w.send("order", 64) // a full window
		w.after(3 * time.Second)
		if s := w.lane("sub"); s.Delivered != 64 || sub.count() != 128 {
			t.Errorf("%d attempts, %+v", sub.count(), s)
		}
	})
}

// A subscriber that never comes back: each event is held for five minutes, then
// tried a last time in order of acceptance, and dies of the circuit.
func TestADeadLetterSinkStillWorksBehindAnOpenCircuit(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(503))
		graves := w.subscribe("graves", nil)
		w.trigger("sub", "", "sub", delivery(3, "linear", "PT1S", sink("graves")))
		w.run()
		w.send("order", 1000)
		w.after(time.Minute)
		if n := w.lane("sub").Dead; n > 20 {
			t.Errorf("%d dead within a minute: only probes may be", n)
		}
		w.send("late", 10)
		w.after(dispatch.LeastHeld - 30*time.Second)
		if s := w.lane("sub"); s.Dead < 1000 || s.Backlog > 10 || s.Backlog < 1 {
			t.Errorf("when the first are due: %+v", s)
		}
		w.after(time.Minute)
		if s := w.lane("sub"); s.Dead != 1010 || s.Backlog != 0 || graves.count() != 1010 {
			t.Errorf("at the end: %+v, %d in the sink", s, graves.count())
		}
		named := 0
		for _, l := range w.letters("sub") {
			if l.Reason == "status 503 (last attempt: the circuit is open)" && l.Code == 503 {
				named++
			}
		}
		if named < 900 {
			t.Errorf("%d dead letters of the first 1000 name the circuit", named)
		}
		for id, n := range sub.attemptsOf() {
			if n > 4 {
				t.Errorf("%d attempts of %s: its policy allows 4", n, id)
			}
		}
	})
}

func TestAProbeKeepsToRetryAfter(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(_ int, _ receipt, rw http.ResponseWriter) {
			rw.Header().Set("Retry-After", strconv.Itoa(90))
			rw.WriteHeader(503)
		})
		w.trigger("sub", "", "sub", delivery(10, "linear", "PT0.2S", timeout("PT10S")), annotate("penstock.dev/backoff-max", "1m"))
		w.run()
		w.send("order", 100)
		w.after(time.Second)
		w.send("order", 1000)
		w.after(time.Second)
		opened := sub.count()
		if w.lane("sub").Circuit.State != dispatch.CircuitOpen {
			t.Fatal("it did not open")
		}
		w.after(57 * time.Second)
		if n := sub.count() - opened; n != 0 {
			t.Errorf("%d probes within the minute that the subscriber asked for", n)
		}
		w.after(5 * time.Second)
		if n := sub.count() - opened; n != 1 {
			t.Errorf("%d probes after it, want 1", n)
		}
	})
}

// What has gathered does not fall upon a subscriber that has just come up.
func TestTheWindowIsSmallAfterTheCircuit(t *testing.T) {
	inWorld(t, func(w *world) {
		var at []time.Duration
		sub := w.subscribe("sub", nil)
		sub.answer = func(_ int, r receipt, rw http.ResponseWriter) {
			if r.at < 10*time.Second {
				rw.WriteHeader(502)
				return
			}
			sub.mu.Lock()
			at = append(at, time.Duration(sub.open))
			sub.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
		}
		w.trigger("sub", "", "sub", delivery(10, "exponential", "PT0.2S"))
		w.run()
		w.send("order", 2000)
		w.after(time.Minute)
		if s := w.lane("sub"); s.Delivered != 2000 || s.Window != 64 {
			t.Errorf("%+v", s)
		}
		for i, n := range at[:20] {
			if n > time.Duration(8+i) {
				t.Errorf("request %d after the outage is one of %d at once", i, n)
			}
		}
	})
}

// Another address is another subscriber: what was down says nothing of it.
func TestAnotherSubscriberStartsWithAClosedCircuit(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("down", status(503))
		w.subscribe("up", nil)
		w.trigger("sub", "", "down", delivery(10, "exponential", "PT0.2S"))
		w.run()
		w.send("order", 1000)
		w.after(time.Second)
		if w.lane("sub").Circuit.State != dispatch.CircuitOpen {
			t.Fatal("it did not open")
		}
		w.trigger("sub", "", "up", delivery(10, "exponential", "PT0.2S"))
		w.apply()
		w.after(time.Second)
		if s := w.lane("sub"); s.Delivered != 1000 || s.Circuit.State != dispatch.CircuitClosed {
			t.Errorf("%+v", s)
		}
	})
}

func TestAHangingSubscriberIsDownToo(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", hang(time.Hour))
		w.trigger("sub", "", "sub", delivery(10, "linear", "PT5M", timeout("PT1S")))
		w.run()
		w.send("order", 1000)
		w.after(30 * time.Second)
		s := w.lane("sub")
		if s.Circuit.State == dispatch.CircuitClosed || s.Circuit.Reason != "timeout after 1s" {
			t.Errorf("circuit %+v after %d attempts", s.Circuit, sub.count())
		}
		w.after(time.Minute)
		if s := w.lane("sub"); s.Circuit.State != dispatch.CircuitHalfOpen && s.InFlight > 1 {
			t.Errorf("%d probes at once, %+v", s.InFlight, s.Circuit)
		}
	})
}
