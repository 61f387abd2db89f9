package simulation_test

import (
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/history"
)

// A Knative Service that needs three minutes to come up costs no event an
// attempt, with a broker that is killed meanwhile, and no neighbour any time.
func TestAServiceAtZeroCostsNoAttemptAndNoNeighbour(t *testing.T) {
	for _, crash := range []bool{false, true} {
		tell(t, func(w *world) {
			cold := w.with("cold", delivery{retry: 0, knative: true})
			warm := w.with("warm", delivery{retry: 0, knative: true})
			heal := w.rec.Fault(history.Subscriber, "cold is at zero")
			cold.feel(mood{what: "at zero", code: 503})
			w.boot()
			sent := len(w.send(200))
			w.at(time.Minute)
			if lane := w.lane("cold"); lane.Window != 1 || lane.Spared == 0 || lane.Letters != 0 {
				t.Errorf("while it is at zero: %+v", lane)
			}
			if crash {
				w.crash(history.Kill, time.Second)
			}
			w.at(3 * time.Minute)
			cold.feel(mood{what: "starting", wait: 8 * time.Second})
			w.at(3*time.Minute + 10*time.Second)
			cold.feel(mood{})
			heal()
			w.settle(time.Minute)
			if n := cold.distinct(); n != sent || w.lane("cold").Letters != 0 {
				t.Errorf("%d of %d came, %+v", n, sent, w.lane("cold"))
			}
			if wasted := len(cold.receipts()) - sent; wasted > 100 {
				t.Errorf("%d requests in vain in three minutes", wasted)
			}
			for _, r := range warm.receipts() {
				if r.at > time.Second {
					t.Errorf("the warm one got an event at %v", r.at)
				}
			}
		})
	}
}

// One that never comes: five minutes are free, then every attempt counts.
func TestAServiceThatNeverComesIsGivenUp(t *testing.T) {
	tell(t, func(w *world) {
		cold := w.with("cold", delivery{retry: 3, policy: "linear", delay: "PT10S", knative: true})
		cold.feel(mood{what: "at zero", code: 503})
		w.boot()
		ids := w.send(20)
		w.at(4*time.Minute + 50*time.Second)
		if lane := w.lane("cold"); lane.Letters != 0 || lane.Failed != 0 {
			t.Errorf("within the allowance: %+v", lane)
		}
		w.settle(time.Hour)
		lane := w.lane("cold")
		if lane.Letters != 20 || lane.Failed != 80 {
			t.Errorf("after it: %+v, want 20 dead after 4 attempts each", lane)
		}
		for _, id := range ids {
			if at := cold.instants(id); at[len(at)-1] > 7*time.Minute {
				t.Errorf("the last attempt of an event came at %v", at[len(at)-1])
			}
		}
	})
}
