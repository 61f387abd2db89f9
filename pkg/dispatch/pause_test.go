package dispatch_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

func TestAPausedTriggerKeepsEverythingAndGoesOnByItself(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", hang(time.Second))
		other := w.subscribe("other", nil)
		w.trigger("sub", "", "sub")
		w.trigger("other", "", "other")
		w.run()
		w.send("order", 10)
		w.trigger("sub", "", "sub", annotate("penstock.dev/paused", "true"))
		time.Sleep(500 * time.Millisecond)
		w.apply()
		w.send("order", 500)
		w.after(time.Hour)
		s := w.lane("sub")
		if sub.count() != 10 || s.Delivered != 10 || s.Backlog != 500 || s.InFlight != 0 {
			t.Errorf("paused: %d requests, %+v", sub.count(), s)
		}
		if !s.Pause.Annotated || s.Waits != "paused by annotation" {
			t.Errorf("it does not say why: %+v", s)
		}
		if other.count() != 510 {
			t.Errorf("the other trigger got %d of 510", other.count())
		}
		w.trigger("sub", "", "sub")
		w.apply()
		w.after(time.Minute)
		if s := w.lane("sub"); s.Delivered != 510 || s.Backlog != 0 || s.Pause.On() || s.Waits != "" {
			t.Errorf("resumed: %+v", s)
		}
	})
}

func TestRetriesWaitForTheEndOfAPause(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(n int, _ receipt, rw http.ResponseWriter) {
			if n == 1 {
				rw.WriteHeader(503)
			}
		})
		w.trigger("sub", "", "sub", delivery(3, "linear", "PT10S"))
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		if err := w.dispatcher.Pause(context.Background(), "t-sub", time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		w.after(10 * time.Minute)
		if got := sub.receipts(); len(got) != 2 || got[1].at != 61*time.Second {
			t.Errorf("attempts %v, want the second as soon as the pause is over", got)
		}
	})
}

func TestAPersonsPauseOutlivesTheProcessAndEndsInTime(t *testing.T) {
	inWorld(t, func(w *world) {
		ctx := context.Background()
		var kept map[channel.UID]time.Time
		w.options.SavePaused = func(all map[channel.UID]time.Time) error { kept = maps.Clone(all); return nil }
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "", "sub")
		w.run()
		until := time.Now().Add(30 * time.Minute)
		if err := w.dispatcher.Pause(ctx, "t-sub", until); err != nil {
			t.Fatal(err)
		}
		w.send("order", 100)
		w.after(10 * time.Minute)
		if s := w.lane("sub"); sub.count() != 0 || s.Backlog != 100 || s.Waits != "paused until 2000-01-01T00:30:00Z" || !s.Pause.Until.Equal(until) {
			t.Errorf("%d requests, %+v", sub.count(), s)
		}
		w.shutdown()
		w.options.Paused = kept
		w.run()
		w.after(time.Until(until) - time.Second)
		if sub.count() != 0 {
			t.Errorf("%d requests after the restart, before the pause was over", sub.count())
		}
		w.after(2 * time.Second)
		if s := w.lane("sub"); s.Delivered != 100 || s.Pause.On() {
			t.Errorf("after it: %+v", s)
		}
	})
}

func TestResumeEndsAPersonsPauseAndSaysWhereTheAnnotationHolds(t *testing.T) {
	inWorld(t, func(w *world) {
		ctx := context.Background()
		var full error
		var kept map[channel.UID]time.Time
		w.options.SavePaused = func(all map[channel.UID]time.Time) error {
			if full == nil {
				kept = maps.Clone(all)
			}
			return full
		}
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "", "sub")
		w.run()
		d := w.dispatcher
		if err := d.Resume(ctx, "t-sub"); !errors.Is(err, dispatch.ErrNotPaused) {
			t.Errorf("resume what runs: %v", err)
		}
		if err := d.Pause(ctx, "t-nobody", time.Time{}); !errors.Is(err, dispatch.ErrNoLane) {
			t.Errorf("pause what is not there: %v", err)
		}
		if err := d.Pause(ctx, "t-sub", time.Now()); !errors.Is(err, dispatch.ErrPast) {
			t.Errorf("pause until now: %v", err)
		}
		full = errors.New("no space left on device")
		if err := d.Pause(ctx, "t-sub", time.Time{}); !errors.Is(err, full) || w.lane("sub").Pause.On() {
			t.Errorf("a pause that cannot be kept: %v, %+v", err, w.lane("sub").Pause)
		}
		full = nil
		if err := d.Pause(ctx, "t-sub", time.Time{}); err != nil {
			t.Error(err)
		}
		w.send("order", 1)
		w.after(24 * time.Hour)
		if sub.count() != 0 || w.lane("sub").Waits != "paused until it is resumed" {
			t.Errorf("%d requests, waits %q", sub.count(), w.lane("sub").Waits)
		}
		w.trigger("sub", "", "sub", annotate("penstock.dev/paused", "true"))
		w.apply()
		for range 2 {
			if err := d.Resume(ctx, "t-sub"); !errors.Is(err, dispatch.ErrAnnotation) {
				t.Errorf("resume what the annotation holds: %v", err)
			}
		}
		if len(kept) != 0 {
			t.Errorf("kept %v: the person's own pause is over", kept)
		}
		w.trigger("sub", "", "sub")
		w.apply()
		w.after(time.Second)
		if sub.count() != 1 {
			t.Errorf("%d requests, want 1", sub.count())
		}
		if err := d.Pause(ctx, "t-sub", time.Time{}); err != nil {
			t.Error(err)
		}
		w.remove("sub")
		w.apply()
		if len(kept) != 0 {
			t.Errorf("kept %v: the trigger is gone", kept)
		}
	})
}

func TestASubscriberGetsNoMoreThanItsRate(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", func(n int, _ receipt, rw http.ResponseWriter) {
			if n%3 == 0 {
				rw.WriteHeader(http.StatusConflict)
			}
		})
		w.trigger("sub", "", "sub", delivery(50, "linear", "PT0.2S"), annotate("penstock.dev/rate", "20"))
		w.run()
		w.send("order", 400)
		w.after(5 * time.Second)
		if s := w.lane("sub"); s.Rate != 20 || s.Waits != "rate 20/s" {
			t.Errorf("rate %v, waits %q", s.Rate, s.Waits)
		}
		w.after(25 * time.Second)
		got := sub.receipts()
		if s := w.lane("sub"); s.Delivered != 400 || len(got) != 599 {
			t.Errorf("%d requests, %+v", len(got), s)
		}
		for i := range got {
			// A bucket of a tenth of a second: two tokens.
			if allowed := got[i].at.Seconds()*20 + 2.001; float64(i+1) > allowed {
				t.Fatalf("request %d at %v: at most %.0f by then", i+1, got[i].at, allowed)
			}
		}
		if end := got[len(got)-1].at; end > 31*time.Second {
			t.Errorf("the last came at %v: the rate is not used", end)
		}
		w.trigger("sub", "", "sub", delivery(50, "linear", "PT0.2S"))
		w.apply()
		w.send("order", 400)
		w.after(time.Second)
		if s := w.lane("sub"); s.Delivered < 700 {
			t.Errorf("without a rate: %+v", s)
		}
	})
}

func TestAScheduleSaysWhenEachAttemptIs(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(500))
		w.trigger("sub", "", "sub", annotate("penstock.dev/retry-schedule", "1s,PT10S,1m"))
		w.run()
		w.send("order", 1)
		w.after(time.Hour)
		got := sub.receipts()
		if len(got) != 4 || len(w.letters("sub")) != 1 {
			t.Fatalf("%d attempts, %d letters", len(got), len(w.letters("sub")))
		}
		for i, least := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
			if gap := got[i+1].at - got[i].at; gap < least || gap > least*12/10 {
				t.Errorf("wait %d is %v, want %v and up to a fifth more", i+1, gap, least)
			}
		}
	})
}
