package dispatch_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestAnEventGoesToEveryTriggerThatWantsItAndToNoOther(t *testing.T) {
	inWorld(t, func(w *world) {
		orders, all, bills := w.subscribe("orders", nil), w.subscribe("all", nil), w.subscribe("bills", nil)
		w.trigger("orders", "order", "orders")
		w.trigger("all", "", "all")
		w.trigger("bills", "bill", "bills")
		w.run()
		w.send("order", 10)
		w.after(time.Second)
		if orders.count() != 10 || all.count() != 10 || bills.count() != 0 {
			t.Errorf("orders got %d, all %d, bills %d; want 10, 10, 0", orders.count(), all.count(), bills.count())
		}
		if s := w.lane("orders"); s.Delivered != 10 || s.Backlog != 0 {
			t.Errorf("orders: %d delivered, backlog %d; want 10, 0", s.Delivered, s.Backlog)
		}
		r := orders.receipts()[0]
		if r.body != "data of "+r.id {
			t.Errorf("body %q", r.body)
		}
		if r.header.Get("Prefer") != "reply" || r.header.Get("Kn-Namespace") != "default" {
			t.Errorf("headers %v: want Prefer: reply and Kn-Namespace: default", r.header)
		}
	})
}

// The waits are d, 2d, 4d with up to 20 % jitter, and the last failure makes
// a dead letter: retry+1 attempts, not one more.
func TestAFailingSubscriberIsTriedRetryTimesMoreAndThenTheEventIsDead(t *testing.T) {
	inWorld(t, func(w *world) {
		failing := w.subscribe("failing", func(_ int, _ receipt, rw http.ResponseWriter) {
			rw.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(rw, "come back later")
		})
		w.trigger("failing", "", "failing", delivery(3, "exponential", "PT2S"))
		w.run()
		w.send("order", 1)
		w.after(time.Minute)
		got := failing.receipts()
		if len(got) != 4 {
			t.Fatalf("%d attempts, want 4", len(got))
		}
		for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second} {
			gap := got[i+1].at - got[i].at
			if gap < want || gap > want*12/10 {
				t.Errorf("wait %d is %v, want %v to %v", i+1, gap, want, want*12/10)
			}
		}
		letters := w.letters("failing")
		if len(letters) != 1 {
			t.Fatalf("%d dead letters, want 1", len(letters))
		}
		l := letters[0]
		if l.Attempts != 4 || l.Code != 503 || string(l.Answer) != "come back later" || l.Destination != "http://failing" || l.Event.ID() != got[0].id {
			t.Errorf("dead letter %+v", l)
		}
		if s := w.lane("failing"); s.Backlog != 0 || s.Dead != 1 || s.Failed != 4 {
			t.Errorf("lane %+v: want nothing pending, 1 dead, 4 failed", s)
		}
	})
}

func TestARefusalThatCannotPassIsDeadAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		strict := w.subscribe("strict", status(http.StatusBadRequest))
		w.trigger("strict", "", "strict", delivery(5, "exponential", "PT1S"))
		w.run()
		w.send("order", 1)
		w.after(time.Minute)
		if strict.count() != 1 || len(w.letters("strict")) != 1 {
			t.Errorf("%d attempts, %d dead letters; want 1 and 1", strict.count(), len(w.letters("strict")))
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	inWorld(t, func(w *world) {
		busy := w.subscribe("busy", func(n int, _ receipt, rw http.ResponseWriter) {
			if n == 1 {
				rw.Header().Set("Retry-After", "30")
				rw.WriteHeader(http.StatusTooManyRequests)
			}
		})
		w.trigger("busy", "", "busy", delivery(3, "linear", "PT1S"))
		w.run()
		w.send("order", 1)
		w.after(time.Minute)
		got := busy.receipts()
		if len(got) != 2 || got[1].at-got[0].at < 30*time.Second {
			t.Errorf("attempts %v: want a second one 30 s after the first", got)
		}
	})
}

func TestADeadEventGoesToTheSinkWithItsReasonAndStaysWithTheBroker(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("failing", func(_ int, _ receipt, rw http.ResponseWriter) {
			rw.WriteHeader(http.StatusTeapot)
			fmt.Fprint(rw, "short and stout")
		})
		tries := 0
		graves := w.subscribe("graves", func(n int, _ receipt, rw http.ResponseWriter) {
			if tries++; n == 1 {
				rw.WriteHeader(http.StatusBadGateway)
			}
		})
		w.trigger("failing", "", "failing", delivery(2, "linear", "PT1S", sink("graves")))
		w.run()
		ids := w.send("order", 1)
		w.after(time.Minute)
		got := graves.receipts()
		if len(got) != 2 {
			t.Fatalf("the sink got %d requests, want 2: it is retried by the same rules", len(got))
		}
		h := got[1].header
		if h.Get("Ce-Id") != ids[0] || h.Get("Ce-Knativeerrordest") != "http://failing" || h.Get("Ce-Knativeerrorcode") != "418" {
			t.Errorf("sink headers %v", h)
		}
		if data, _ := base64.StdEncoding.DecodeString(h.Get("Ce-Knativeerrordata")); string(data) != "short and stout" {
			t.Errorf("knativeerrordata %q", data)
		}
		if h.Get("Prefer") != "" || h.Get("Kn-Namespace") != "default" {
			t.Errorf("sink headers %v: want no Prefer, and Kn-Namespace", h)
		}
		if len(w.letters("failing")) != 1 || w.lane("failing").Backlog != 0 {
			t.Errorf("%d dead letters, backlog %d; want 1 kept and nothing pending", len(w.letters("failing")), w.lane("failing").Backlog)
		}
	})
}

func TestASinkThatNeverTakesItLosesNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("failing", status(http.StatusBadRequest))
		graves := w.subscribe("graves", status(http.StatusServiceUnavailable))
		w.trigger("failing", "", "failing", delivery(2, "linear", "PT1S", sink("graves")))
		w.run()
		w.send("order", 3)
		w.after(time.Minute)
		if graves.count() != 9 || len(w.letters("failing")) != 3 || w.lane("failing").Backlog != 0 {
			t.Errorf("sink asked %d times, %d letters kept, backlog %d; want 9, 3, 0", graves.count(), len(w.letters("failing")), w.lane("failing").Backlog)
		}
	})
}

// The bad example of Knative's own tests: the trigger is ready, and every
// event fails and is dead.
func TestASubscriberWithAnImpossibleURLMakesDeadLetters(t *testing.T) {
	inWorld(t, func(w *world) {
		fine := w.subscribe("fine", nil)
		w.trigger("fine", "", "fine")
		w.trigger("bad", "", "fine", delivery(1, "linear", "PT1S"))
		w.objects["bad"].Trigger.Subscriber.URI = "bad://uri"
		w.run()
		w.send("order", 2)
		w.after(time.Minute)
		if fine.count() != 2 {
			t.Errorf("the good trigger got %d of 2", fine.count())
		}
		letters := w.letters("bad")
		if len(letters) != 2 || letters[0].Destination != "bad://uri" {
			t.Errorf("dead letters %+v", letters)
		}
	})
}

// Ten parked workers must go home for one to stay: each that is woken leaves
// the work to another.
func TestALowerConcurrencyLosesNoWakeUp(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", hang(time.Second))
		w.trigger("sub", "", "sub", annotate("penstock.dev/concurrency", "10"))
		w.run()
		w.send("order", 10)
		w.after(2 * time.Second) // ten workers are parked
		w.trigger("sub", "", "sub", annotate("penstock.dev/concurrency", "1"))
		w.apply()
		w.send("order", 1)
		w.after(5 * time.Minute)
		if sub.count() != 11 {
			t.Errorf("%d events delivered, want 11", sub.count())
		}
	})
}
