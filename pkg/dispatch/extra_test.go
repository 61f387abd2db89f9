package dispatch_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// extra is an event that no lane has pending.
func (w *world) extra(id string) dispatch.Extra {
	return dispatch.Extra{Broker: brokerUID, ID: channel.ID{Shard: 0, Position: 1}, Event: newEvent(w.t, id, "again"), Mark: dispatch.Mark{Name: "penstockreplay", Value: "j1"}}
}

func concurrency(n string) func(*config.Object) { return annotate("penstock.dev/concurrency", n) }

func TestExtraIsDeliveredWithItsMarkByTheTriggersOwnRules(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", func(n int, _ receipt, rw http.ResponseWriter) {
			if n < 3 {
				rw.WriteHeader(503)
			}
		})
		w.trigger("orders", "order", "shop", delivery(5, "exponential", "PT2S"))
		w.run()
		out, err := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
		if err != nil || out.End != dispatch.Delivered || out.Attempts != 3 {
			t.Fatalf("%+v, %v, want delivered at the third attempt", out, err)
		}
		got := s.receipts()
		if len(got) != 3 || got[1].at < 2*time.Second || got[2].at-got[1].at < 4*time.Second {
			t.Fatalf("attempts at %v, want the trigger's backoff of 2 s and 4 s between them", got)
		}
		if mark := got[2].header.Get("Ce-Penstockreplay"); mark != "j1" {
			t.Errorf("mark %q, want j1", mark)
		}
		if l := w.lane("orders"); l.Backlog != 0 || l.Letters != 0 {
			t.Errorf("the lane has %+v, want nothing of it", l)
		}
	})
}

func TestExtraThatFailsSaysWhyAndLeavesNothingBehind(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("shop", status(422))
		w.trigger("orders", "order", "shop", delivery(5, "", ""))
		w.run()
		out, err := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
		if err != nil || out.End != dispatch.Failed || out.Attempts != 1 || out.Failure.Status != 422 {
			t.Fatalf("%+v, %v, want failed with 422 after one attempt", out, err)
		}
		if n := len(w.letters("orders")); n != 0 {
			t.Errorf("%d dead letters, want none", n)
		}
	})
}

func TestExtraForAnotherSinkGoesThereAndAsksForNoReply(t *testing.T) {
	inWorld(t, func(w *world) {
		shop, other := w.subscribe("shop", nil), w.subscribe("other", nil)
		w.trigger("orders", "order", "shop")
		w.run()
		x := w.extra("e1")
		x.To = "http://other/in"
		out, err := w.dispatcher.Deliver(context.Background(), "t-orders", x)
		if err != nil || out.End != dispatch.Delivered || other.count() != 1 || shop.count() != 0 {
			t.Fatalf("%+v, %v; other got %d, shop %d", out, err, other.count(), shop.count())
		}
		if prefer := other.receipts()[0].header.Get("Prefer"); prefer != "" {
			t.Errorf("asked with Prefer: %s", prefer)
		}
	})
}

func TestExtraOfATriggerThatIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("shop", status(503))
		w.trigger("orders", "order", "shop", delivery(50, "linear", "PT10S"))
		w.run()
		ended := make(chan dispatch.Outcome, 1)
		go func() {
			out, _ := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
			ended <- out
		}()
		w.after(5 * time.Second)
		w.remove("orders")
		w.apply()
		if out := <-ended; out.End != dispatch.Gone {
			t.Errorf("removed while it waits: %+v, want gone", out)
		}
		if out, err := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e2")); err != nil || out.End != dispatch.Gone {
			t.Errorf("removed before: %+v, %v, want gone", out, err)
		}
	})
}

func TestExtraWaitsWhileItsTriggerIsHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", nil)
		w.trigger("orders", "order", "shop")
		w.run()
		orders := w.objects["orders"]
		delete(w.objects, "orders")
		w.apply()
		ended := make(chan dispatch.Outcome, 1)
		go func() {
			out, _ := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
			ended <- out
		}()
		w.after(time.Hour)
		if s.count() != 0 {
			t.Fatal("delivered to a trigger that is held")
		}
		w.objects["orders"] = orders
		w.apply()
		if out := <-ended; out.End != dispatch.Delivered || s.count() != 1 {
			t.Errorf("%+v after the trigger came back", out)
		}
	})
}

func TestExtraWaitsWhileItsTriggerIsPaused(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", nil)
		w.trigger("orders", "order", "shop", annotate("penstock.dev/paused", "true"))
		w.run()
		done := make(chan dispatch.Outcome, 1)
		go func() {
			out, _ := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
			done <- out
		}()
		w.after(time.Hour)
		if n := s.count(); n != 0 {
			t.Errorf("%d attempts while it is paused", n)
		}
		w.trigger("orders", "order", "shop")
		w.apply()
		w.after(time.Second)
		if out := <-done; out.End != dispatch.Delivered || s.count() != 1 {
			t.Errorf("%+v after %d attempts", out, s.count())
		}
	})
}

// All that the lane had is dead, and its circuit is open still. Whoever mends
// the subscriber sends the dead letters again: the first of them finds out.
func TestExtraIsTheProbeWhereTheLaneHasNone(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", downUntil(20*time.Minute, 503))
		w.trigger("orders", "order", "shop", delivery(0, "", ""))
		w.run()
		for range 2 {
			w.send("order", 100)
			w.after(time.Second)
		}
		w.after(10 * time.Minute)
		if l := w.lane("orders"); l.Backlog != 0 || l.Circuit.State == dispatch.CircuitClosed {
			t.Fatalf("the lane is %+v", l)
		}
		down := s.count()
		outs := make(chan dispatch.Outcome, 40)
		send := func() {
			for range cap(outs) / 2 {
				go func() {
					out, _ := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e1"))
					outs <- out
				}()
			}
		}
		send()
		w.after(5 * time.Minute)
		if n := s.count() - down; n < 1 || n > 12 {
			t.Errorf("%d extras were tried in five minutes of outage, want one each 30 s", n)
		}
		w.after(10 * time.Minute)
		send()
		w.after(time.Minute)
		delivered := 0
		for range cap(outs) {
			if out := <-outs; out.End == dispatch.Delivered {
				delivered++
			}
		}
		if l := w.lane("orders"); l.Circuit.State != dispatch.CircuitClosed || delivered < cap(outs)/2 {
			t.Errorf("%d were delivered, the lane is %+v", delivered, l)
		}
	})
}

func TestExtrasAndLiveEventsTogetherKeepTheConcurrency(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", func(int, receipt, http.ResponseWriter) { time.Sleep(time.Second) })
		w.trigger("orders", "order", "shop", concurrency("8"))
		w.run()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if out, err := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("old")); err != nil || out.End != dispatch.Delivered {
					t.Errorf("%+v, %v", out, err)
				}
			})
		}
		w.after(500 * time.Millisecond)
		if s.now() != 6 {
			t.Errorf("%d extras at once on an idle lane of 8, want 6: a quarter is free for live events", s.now())
		}
		w.send("order", 40)
		w.after(100 * time.Millisecond)
		if s.now() != 8 {
			t.Errorf("%d attempts at once, want 8: live events take what is free at once", s.now())
		}
		w.after(3 * time.Second)
		live, old := 0, 0
		for _, r := range s.receipts() {
			if r.at < 1500*time.Millisecond || r.at > 3*time.Second {
				continue
			}
			if r.id == "old" {
				old++
			} else {
				live++
			}
		}
		if old == 0 || old*3 > live {
			t.Errorf("while both had work: %d live events and %d extras, want three to one and some of both", live, old)
		}
		wg.Wait()
		w.after(10 * time.Second)
		if s.most != 8 || s.count() != 140 {
			t.Errorf("%d attempts in all, %d at once, want 140 and 8", s.count(), s.most)
		}
	})
}

func TestExtrasOfALaneThatTakesOneAtATimeTakeTurns(t *testing.T) {
	inWorld(t, func(w *world) {
		s := w.subscribe("shop", func(int, receipt, http.ResponseWriter) { time.Sleep(time.Second) })
		w.trigger("orders", "order", "shop", concurrency("1"))
		w.run()
		w.send("order", 20)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { _, _ = w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("old")) })
		}
		wg.Wait()
		w.after(30 * time.Second)
		if s.most != 1 || s.count() != 30 {
			t.Errorf("%d attempts, %d at once, want 30 one at a time", s.count(), s.most)
		}
	})
}

func TestWhoGivesUpAnExtraIsToldSoon(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("shop", hang(time.Hour))
		w.trigger("orders", "order", "shop")
		w.run()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := w.dispatcher.Deliver(ctx, "t-orders", w.extra("e1"))
		if took := time.Since(w.start); !errors.Is(err, context.DeadlineExceeded) || took > time.Minute+5*time.Second {
			t.Errorf("%v after %v", err, took)
		}
		synctest.Wait()
		w.send("order", 1) // the place is free again
		w.after(time.Second)
		if l := w.lane("orders"); l.InFlight != 1 {
			t.Errorf("%d in flight, want the live event", l.InFlight)
		}
		go func() { time.Sleep(time.Second); w.stop() }()
		if _, err := w.dispatcher.Deliver(context.Background(), "t-orders", w.extra("e2")); !errors.Is(err, channel.ErrClosed) {
			t.Errorf("cut off by a stop: %v, want closed", err)
		}
	})
}

func TestExtraOfAFirstDeliveryThatFailsIsADeadLetterAndGoesToTheSink(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("shop", status(422))
		dls := w.subscribe("sink", nil)
		w.trigger("orders", "order", "shop", delivery(0, "", "", sink("sink")))
		w.run()
		w.send("other", 4) // positions for the extra to stand at
		x := w.extra("e1")
		x.Bury, x.Accepted = true, time.Now()
		out, err := w.dispatcher.Deliver(context.Background(), "t-orders", x)
		if err != nil || out.End != dispatch.Failed {
			t.Fatalf("%+v, %v", out, err)
		}
		w.after(time.Second)
		if l := w.letters("orders"); len(l) != 1 || l[0].ID != x.ID || l[0].Code != 422 {
			t.Errorf("dead letters %+v, want one of %s", l, x.ID)
		}
		if dls.count() != 1 || w.lane("orders").Backlog != 0 {
			t.Errorf("the sink got %d, the lane has %d pending, want 1 and 0", dls.count(), w.lane("orders").Backlog)
		}
		log, _ := w.dispatcher.Log(brokerUID)
		for _, lane := range log.Progress(0).Lanes {
			if lane.Trigger == "t-orders" && lane.Added.GetCardinality() > 0 {
				t.Errorf("the log has %v pending, want nothing", lane.Added)
			}
		}
	})
}

// now is how many requests a subscriber has open.
func (s *subscriber) now() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}
