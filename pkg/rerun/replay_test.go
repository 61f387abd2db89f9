package rerun_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/filter"
)

// wants gives a trigger a filter.
func wants(attribute, value string) func(*config.Object) {
	return func(o *config.Object) {
		o.Trigger.Filter = filter.Spec{Attributes: map[string]string{attribute: value}}
	}
}

func at(t time.Time) *time.Time { return &t }

func TestReplayHoldsAllOfItsTimeAndNothingElse(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop", wants("region", "eu"))
		w.boot()
		w.send(100, "region", "eu")
		w.after(time.Second)
		from := time.Now()
		want := w.send(150, "region", "eu")
		w.send(50, "region", "us")
		w.after(time.Second)
		want = append(want, w.send(50, "region", "eu")...)
		w.after(time.Second)
		to := time.Now()
		w.send(100, "region", "eu")
		w.after(time.Second)
		s.clear()
		q := v1.JobRequest{Trigger: orders, From: &from, To: &to}
		preview, err := w.jobs.Preview(context.Background(), v1.JobReplay, q)
		if err != nil || preview.Matched != 200 || !preview.Whole || len(preview.Sample) != 10 {
			w.t.Errorf("preview %+v, %v", preview, err)
		}
		job := w.ended(w.begin(v1.JobReplay, q).ID)
		if job.State != v1.JobDone || job.Matched != 200 || job.Delivered != 200 || job.Skipped != job.Seen-200 || job.Seen != job.Total {
			w.t.Errorf("%+v", job)
		}
		s.same(w.t, want, 1)
		if got := s.receipts()[0]; got.mark != job.ID {
			w.t.Errorf("mark %q, want the job's id", got.mark)
		}
		s.clear()
		q.Where = []string{"id LIKE 'e0010%'"}
		w.ended(w.begin(v1.JobReplay, q).ID)
		s.same(w.t, want[:10], 1)
	})
}

func TestReplayKeepsTheOrderOfEachKeyAlsoWhereOneFails(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop", func(o *config.Object) { retry := 3; o.Trigger.Delivery.Retry = &retry })
		w.boot()
		for range 40 { // a subject alone is spread over the shards
			for k := range 7 {
				w.send(1, "subject", fmt.Sprint(k))
				w.after(time.Millisecond)
			}
		}
		w.after(time.Second)
		s.clear()
		s.set(503)
		job := w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders})
		w.after(100 * time.Millisecond)
		s.mu.Lock()
		s.code, s.delay = 200, 20*time.Millisecond
		s.mu.Unlock()
		if j := w.ended(job.ID); j.Delivered != 280 {
			w.t.Errorf("%+v", j)
		}
		byKey := map[string][]string{}
		for _, r := range s.receipts() {
			byKey[r.key] = append(byKey[r.key], r.id)
		}
		for key, ids := range byKey {
			if len(ids) != 40 || !slices.IsSorted(ids) {
				w.t.Errorf("key %s: %d events, in order: %v", key, len(ids), slices.IsSorted(ids))
			}
		}
	})
}

func TestReplayBeyondWhatIsKeptSaysHowFarBackOneCanGo(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.retains = "1h,1Gi"
		w.trigger("orders", "shop")
		w.boot()
		w.send(4000, "padding", strings.Repeat("x", 200)) // segments, which go as a whole
		w.after(90 * time.Minute)
		w.send(40)
		w.after(time.Hour - time.Second)
		kept := w.send(4)
		w.after(time.Second)
		s.clear()
		old := w.start.Add(-time.Hour)
		_, err := w.jobs.Begin(context.Background(), v1.JobReplay, v1.JobRequest{Trigger: orders, From: &old}, "x")
		if status(err) != 400 || !strings.Contains(err.Error(), "keeps events since 2000-01-01T") {
			w.t.Errorf("%v, want 400 with the earliest time", err)
		}
		job := w.ended(w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders, From: &old, Partial: true}).ID)
		got, _ := s.ids()
		if job.State != v1.JobDone || !slices.Contains(got, kept[0]) || slices.Contains(got, "e00000") {
			w.t.Errorf("partial: %+v: %v", job, short(got))
		}
		if job = w.ended(w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders}).ID); job.State != v1.JobDone {
			w.t.Errorf("without from: %+v", job)
		}
	})
}

func TestKilledReplayLosesNothing(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		want := w.send(1500)
		w.after(time.Second)
		s.clear()
		job := w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders, Rate: 150})
		for range 3 {
			w.after(2300 * time.Millisecond)
			w.kill()
		}
		w.after(100 * time.Millisecond)
		w.restart()
		w.send(20) // after it began: no part of it, but live
		w.after(time.Second)
		if j := w.ended(job.ID); j.State != v1.JobDone {
			w.t.Errorf("%+v", j)
		}
		var got []string
		for _, r := range s.receipts() {
			if r.mark != "" {
				got = append(got, r.id)
			}
		}
		if len(got) > 1500+4*300 {
			w.t.Errorf("%d deliveries of 1500", len(got))
		}
		slices.Sort(got)
		if got = slices.Compact(got); !slices.Equal(got, want) {
			w.t.Errorf("%d events were replayed, want %d", len(got), len(want))
		}
	})
}

func TestReplayOfAShardWhoseEndIsGone(t *testing.T) {
	inWorlds(t, func(w *world) {
		w.retains = "0"
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		w.send(50)
		w.after(time.Minute)
		s.clear()
		if job := w.ended(w.begin(v1.JobReplay, v1.JobRequest{Trigger: orders}).ID); job.State != v1.JobDone {
			w.t.Errorf("%+v", job)
		}
		_, err := w.jobs.Begin(context.Background(), v1.JobReplay, v1.JobRequest{Trigger: orders, From: at(w.start)}, "x")
		if err != nil && !strings.Contains(err.Error(), "keeps") {
			w.t.Errorf("%v", err)
		}
	})
}

func TestNewTriggerStartsWithThePastAndMissesNothingAtTheBorder(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("first", "nobody")
		w.boot()
		past := w.send(500)
		w.trigger("orders", "shop", annotate("penstock.dev/start", "earliest"))
		sending := make(chan []string)
		go func() {
			var names []string
			for range 50 {
				names = append(names, w.send(1)...)
				time.Sleep(time.Millisecond)
			}
			sending <- names
		}()
		time.Sleep(20 * time.Millisecond)
		w.apply()
		past = append(past, <-sending...)
		past = append(past, w.send(10)...)
		w.after(10 * time.Second)
		jobs := w.jobs.List()
		if len(jobs) != 1 || jobs[0].Kind != v1.JobStart || jobs[0].State != v1.JobDone {
			w.t.Errorf("jobs %+v", jobs)
		}
		s.same(w.t, past, 1)
		w.restart()
		w.apply()
		w.after(10 * time.Second)
		s.same(w.t, past, 1)
	})
}

func TestStartByTimeAndItsFailuresAreDeadLetters(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("first", "nobody")
		w.boot()
		w.send(30)
		w.after(time.Hour)
		want := w.send(30)
		w.after(10 * time.Minute)
		s.fails = map[string]bool{want[3]: true}
		w.trigger("orders", "shop", annotate("penstock.dev/start", "30m"))
		w.apply()
		w.after(10 * time.Second)
		s.same(w.t, slices.Concat(want[:3], want[4:]), 1)
		if got := w.letters("t-orders"); !slices.Equal(got, want[3:4]) {
			w.t.Errorf("dead letters %v, want %v", got, want[3:4])
		}
		w.restart()
		w.after(time.Minute)
		s.same(w.t, slices.Concat(want[:3], want[4:]), 1)
	})
}

func TestKilledStartGoesOn(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		s.delay = time.Second
		w.trigger("first", "nobody")
		w.boot()
		past := w.send(400)
		w.trigger("orders", "shop", annotate("penstock.dev/start", "earliest"))
		w.apply()
		for range 3 {
			w.after(1500 * time.Millisecond)
			w.kill()
		}
		w.after(time.Minute)
		if jobs := w.jobs.List(); len(jobs) != 1 || jobs[0].State != v1.JobDone {
			w.t.Errorf("jobs %+v", jobs)
		}
		s.same(w.t, past, 4)
	})
}

func TestStartThatACrashLeftWithoutItsBorderFindsIt(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("first", "nobody")
		w.boot()
		past := w.send(100)
		w.trigger("orders", "shop", annotate("penstock.dev/start", "earliest"))
		w.mute = true
		w.apply()
		past = append(past, w.send(10)...)
		w.after(time.Minute)
		if n := len(s.receipts()); n != 10 {
			w.t.Errorf("%d events before the crash, want the 10 live ones", n)
		}
		w.kill()
		w.after(10 * time.Second)
		if jobs := w.jobs.List(); len(jobs) != 1 || jobs[0].State != v1.JobDone {
			w.t.Errorf("jobs %+v", jobs)
		}
		s.same(w.t, past, 2)
	})
}
