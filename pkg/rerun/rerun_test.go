package rerun_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/rerun"
)

// die makes so many dead letters of orders.
func (w *world) die(s *subscriber, n int, attributes ...string) []string {
	w.t.Helper()
	s.set(422)
	names := w.send(n, attributes...)
	w.after(time.Second)
	s.set(200)
	return names
}

func TestRedriveDeliversDeadLettersAndThenDiscardsThem(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		dead := w.die(s, 300)
		s.fails = map[string]bool{dead[7]: true}
		job := w.ended(w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders}).ID)
		if job.State != v1.JobDone || job.Matched != 300 || job.Delivered != 299 || job.Failed != 1 || job.Discarded != 299 || job.Total != 300 || job.Seen != 300 {
			w.t.Errorf("%+v", job)
		}
		if len(job.Failures) != 1 || job.Failures[0].EventID != dead[7] || !strings.Contains(job.Failures[0].Reason, "422") {
			w.t.Errorf("failures %+v, want %s with its status", job.Failures, dead[7])
		}
		if got := w.letters("t-orders"); !slices.Equal(got, dead[7:8]) {
			w.t.Errorf("dead letters left: %v, want the one that failed again, as it was", got)
		}
		s.same(w.t, slices.Concat(dead[:7], dead[8:]), 1)
		for _, r := range s.receipts() {
			if r.mark != job.ID {
				w.t.Fatalf("mark %q, want the job's id", r.mark)
			}
		}
		for _, want := range []string{`"action":"start"`, `"action":"done"`, `"who":"tester"`, `"discarded":299`} {
			if !strings.Contains(w.auditLines(), want) {
				w.t.Errorf("the audit log lacks %s: %s", want, w.auditLines())
			}
		}
	})
}

func TestRedriveOfSomeByConditionById(t *testing.T) {
	inWorlds(t, func(w *world) {
		s, other := w.subscribe("shop"), w.subscribe("other")
		w.trigger("orders", "shop")
		w.boot()
		w.die(s, 3, "region", "eu")
		us := w.die(s, 3, "region", "us")
		preview, err := w.jobs.Preview(context.Background(), v1.JobRedrive, v1.JobRequest{Trigger: orders, Where: []string{"region=us"}})
		if err != nil || preview.Matched != 3 || preview.Seen != 6 || !preview.Whole || len(preview.Sample) != 3 {
			w.t.Errorf("preview %+v, %v", preview, err)
		}
		if n := len(s.receipts()) + len(w.letters("t-orders")); n != 6 {
			w.t.Errorf("a preview did something: %d", n)
		}
		job := w.ended(w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Where: []string{"region=us", "id <> '" + us[0] + "'"}}).ID)
		if job.Delivered != 2 || job.Skipped != 4 {
			w.t.Errorf("%+v", job)
		}
		s.same(w.t, us[1:], 1)
		log, _ := w.dispatcher.Log(brokerUID)
		letters, _, _ := log.Dead(context.Background(), "t-orders", "", 10)
		job = w.ended(w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, IDs: []string{letters[0].ID.String()}, Sink: "http://other/"}).ID)
		if job.Delivered != 1 || job.Discarded != 1 {
			w.t.Errorf("%+v", job)
		}
		other.same(w.t, []string{letters[0].Event.ID()}, 1)
		job = w.ended(w.begin(v1.JobDiscard, v1.JobRequest{Trigger: orders, Where: []string{"region=eu"}}).ID)
		if job.Discarded != 2 || job.Delivered != 0 || job.Matched != 2 {
			w.t.Errorf("discard: %+v", job)
		}
		if got := w.letters("t-orders"); !slices.Equal(got, us[:1]) {
			w.t.Errorf("left: %v, want %v", got, us[:1])
		}
	})
}

func TestLettersThatDieAfterAJobBeganAreNoPartOfIt(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		w.die(s, 20)
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 2})
		w.after(time.Second)
		w.die(s, 3)
		s.set(200)
		j := w.ended(job.ID)
		if j.Matched != 20 || len(w.letters("t-orders")) < 3 {
			w.t.Errorf("%+v; %d letters left", j, len(w.letters("t-orders")))
		}
	})
}

func TestRateSpreadsARedrive(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		w.die(s, 50)
		began := time.Now()
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 5})
		w.after(5 * time.Second)
		if n := len(s.receipts()); n < 20 || n > 30 {
			w.t.Errorf("%d events after 5 s, want about 25", n)
		}
		w.ended(job.ID)
		if took := time.Since(began); took < 9*time.Second || took > 12*time.Second {
			w.t.Errorf("50 events at 5 a second took %v", took)
		}
	})
}

func TestKilledRedriveGoesOnByItselfAndLosesNothing(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		dead := w.die(s, 1000)
		s.delay = 100 * time.Millisecond
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 100})
		for range 3 {
			w.after(2500 * time.Millisecond)
			w.kill()
			if j := w.job(job.ID); j.State != v1.JobRunning {
				w.t.Fatalf("after the restart it is %+v", j)
			}
		}
		j := w.ended(job.ID)
		if j.State != v1.JobDone || len(w.letters("t-orders")) != 0 {
			w.t.Errorf("%+v; %d letters left", j, len(w.letters("t-orders")))
		}
		s.same(w.t, dead, 4)
		if n := len(s.receipts()); n > 1000+3*150 {
			w.t.Errorf("%d deliveries of 1000: more than what was under way was done again", n)
		}
	})
}

func TestRedriveCutShortAtAnyPointOfAPageLeavesNothingOut(t *testing.T) {
	inWorld(t, "memory", func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		dead := w.die(s, 100) // of which a page holds 32
		slow := dead[20]
		s.mu.Lock()
		s.stuck = slow
		s.mu.Unlock()
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders})
		w.after(3 * time.Second) // all the others are done, and that is written down
		if n := len(w.letters("t-orders")); n != 1 {
			w.t.Errorf("%d letters left, want the one that hangs", n)
		}
		s.mu.Lock()
		s.stuck = ""
		s.mu.Unlock()
		w.kill()
		if j := w.ended(job.ID); j.State != v1.JobDone {
			w.t.Errorf("%+v", j)
		}
		s.same(w.t, dead, 2)
	})
}

func TestCancelledRedriveStopsSoonAndIsResumed(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		dead := w.die(s, 200)
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 20})
		w.after(3 * time.Second)
		began := time.Now()
		j, err := w.jobs.Cancel(context.Background(), job.ID, "somebody")
		if err != nil || j.State != v1.JobCancelled || time.Since(began) > 5*time.Second {
			w.t.Fatalf("%v after %v: %+v", err, time.Since(began), j)
		}
		n := len(s.receipts())
		w.after(time.Minute)
		if got := len(s.receipts()); got != n || n == 0 || len(w.letters("t-orders")) != 200-n {
			w.t.Errorf("%d delivered at the cancel, %d later, %d letters left", n, got, len(w.letters("t-orders")))
		}
		w.restart()
		if j := w.job(job.ID); j.State != v1.JobCancelled {
			w.t.Errorf("after a restart it is %s", j.State)
		}
		if _, err := w.jobs.Resume(context.Background(), job.ID, "somebody"); err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.jobs.Resume(context.Background(), job.ID, "somebody"); status(err) != 409 || !strings.Contains(err.Error(), "is running") {
			w.t.Errorf("resuming it again: %v", err)
		}
		if j := w.ended(job.ID); j.State != v1.JobDone || j.Delivered != 200 {
			w.t.Errorf("%+v", j)
		}
		s.same(w.t, dead, 1)
		if _, err := w.jobs.Resume(context.Background(), job.ID, "somebody"); status(err) != 409 {
			w.t.Errorf("resuming what is done: %v", err)
		}
		if _, err := w.jobs.Cancel(context.Background(), job.ID, "somebody"); status(err) != 409 {
			w.t.Errorf("cancelling what is done: %v", err)
		}
		if _, err := w.jobs.Cancel(context.Background(), "nonsense", "somebody"); status(err) != 404 {
			w.t.Errorf("cancelling what is not: %v", err)
		}
	})
}

func status(err error) int {
	if e, ok := errors.AsType[*rerun.Error](err); ok {
		return e.Code
	}
	return 0
}

func TestTwoRedrivesOfATriggerAtOnceAreRefused(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		w.die(s, 10)
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 1})
		for _, kind := range []string{v1.JobRedrive, v1.JobDiscard} {
			_, err := w.jobs.Begin(context.Background(), kind, v1.JobRequest{Trigger: orders}, "x")
			if status(err) != 409 || !strings.Contains(err.Error(), job.ID) {
				w.t.Errorf("a %s beside it: %v, want 409 that names %s", kind, err, job.ID)
			}
		}
		w.ended(job.ID)
		w.ended(w.begin(v1.JobDiscard, v1.JobRequest{Trigger: orders}).ID)
	})
}

func TestRedriveOfATriggerThatIsGone(t *testing.T) {
	inWorlds(t, func(w *world) {
		s := w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		w.die(s, 10)
		job := w.begin(v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: 1})
		w.after(3 * time.Second)
		w.remove("orders")
		j := w.ended(job.ID)
		if j.State != v1.JobFailed || !strings.Contains(j.Error, "trigger default/orders is gone") {
			w.t.Errorf("%+v", j)
		}
		if _, err := w.jobs.Resume(context.Background(), job.ID, "x"); status(err) != 409 || !strings.Contains(err.Error(), "is gone") {
			w.t.Errorf("resume: %v", err)
		}
		if _, err := w.jobs.Begin(context.Background(), v1.JobRedrive, v1.JobRequest{Trigger: orders}, "x"); status(err) != 404 {
			w.t.Errorf("another redrive: %v", err)
		}
		if j := w.ended(w.begin(v1.JobDiscard, v1.JobRequest{Trigger: orders}).ID); j.State != v1.JobDone || len(w.letters("")) != 0 {
			w.t.Errorf("discarding what it left: %+v, %d left", j, len(w.letters("")))
		}
		if _, err := w.jobs.Begin(context.Background(), v1.JobDiscard, v1.JobRequest{Trigger: orders}, "x"); status(err) != 404 {
			w.t.Errorf("and again: %v", err)
		}
	})
}

func TestRequestsThatMakeNoSenseAreToldWhy(t *testing.T) {
	inWorld(t, "memory", func(w *world) {
		w.subscribe("shop")
		w.trigger("orders", "shop")
		w.boot()
		now := time.Now()
		for _, c := range []struct {
			kind string
			q    v1.JobRequest
			code int
			says string
		}{
			{v1.JobRedrive, v1.JobRequest{Trigger: "orders"}, 400, "NAMESPACE/NAME"},
			{v1.JobRedrive, v1.JobRequest{Trigger: "default/none"}, 404, "no trigger"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, Where: []string{"type = "}}, 400, `where "type = "`},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, IDs: []string{"7"}}, 400, "SHARD-POSITION"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, IDs: []string{"0-7"}}, 404, "no dead letter 0-7"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, IDs: []string{"0-7"}, Where: []string{"type=x"}}, 400, "together"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, Rate: -1}, 400, "rate"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, Sink: "shop"}, 400, "http://"},
			{v1.JobRedrive, v1.JobRequest{Trigger: orders, From: &now}, 400, "from has no meaning"},
			{v1.JobDiscard, v1.JobRequest{Trigger: orders, Rate: 1}, 400, "rate has no meaning"},
			{v1.JobReplay, v1.JobRequest{Trigger: orders, From: &now, To: &now}, 400, "not before"},
		} {
			_, err := w.jobs.Begin(context.Background(), c.kind, c.q, "x")
			if status(err) != c.code || !strings.Contains(err.Error(), c.says) {
				w.t.Errorf("%s %+v: %v, want %d with %q", c.kind, c.q, err, c.code, c.says)
			}
		}
		if len(w.jobs.List()) != 0 {
			w.t.Errorf("jobs were made: %+v", w.jobs.List())
		}
	})
}
