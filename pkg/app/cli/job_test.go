package cli

import (
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
)

// jobs is what the API lists.
func listJobs(t *testing.T) []v1.Job {
	t.Helper()
	var list v1.JobList
	if err := json.Unmarshal([]byte(must(t, "jobs", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// eventually asks again until a job is as it has to be.
func eventually(t *testing.T, what string, ok func(v1.Job) bool) v1.Job {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if jobs := listJobs(t); len(jobs) > 0 && ok(jobs[0]) {
			return jobs[0]
		}
	}
	t.Fatalf("no job that %s: %+v", what, listJobs(t))
	return v1.Job{}
}

// without leaves out what differs from run to run.
func without(text string) string {
	return regexp.MustCompile(`\b0?1[0-9a-v]{8}\b`).ReplaceAllString(text, "JOB")
}

func TestRedriveFromTheDryRunToTheEnd(t *testing.T) {
	openShop(t)
	if got := must(t, "deadletter", "redrive", "orders", "--dry-run"); got != "2 dead letters would be sent again (of 2 looked at)\n  1-40\n  1-41\n" {
		t.Errorf("dry run: %q", got)
	}
	if got := without(must(t, "dl", "redrive", "orders", "1-40")); got != "redrive job JOB is done: 1 delivered, 0 failed, 1 discarded\n" {
		t.Errorf("one: %q", got)
	}
	if got := without(must(t, "dl", "redrive", "orders", "--where", "type=order.created", "-o", "json")); !strings.Contains(got, `"delivered": 1`) {
		t.Errorf("all: %q", got)
	}
	if got := without(must(t, "dl", "redrive", "orders", "--wait=false")); !strings.HasPrefix(got, "redrive job JOB has begun; `penstock job show JOB`") {
		t.Errorf("without waiting: %q", got)
	}
	if n := len(listJobs(t)); n != 3 {
		t.Errorf("%d jobs, want 3", n)
	}
}

func TestRedriveThatFailsSaysWhichAndEndsWithOne(t *testing.T) {
	s := openShop(t)
	s.deliver = func(_ context.Context, id string) (dispatch.Outcome, error) {
		if id == "o-1" {
			return dispatch.Outcome{End: dispatch.Failed, Attempts: 3, Failure: deliver.Failure{Reason: "status 500"}}, nil
		}
		return dispatch.Outcome{End: dispatch.Delivered, Attempts: 1}, nil
	}
	r := penstock(t.Context(), "", "deadletter", "redrive", "orders")
	if r.code != ExitFailed || !strings.Contains(r.out, "1 delivered, 1 failed, 1 discarded") ||
		r.err != "failed: 1-40 (o-1): status 500 after 3 attempts\nError: 1 of 2 events failed\n" {
		t.Errorf("%+v", r)
	}
	id := listJobs(t)[0].ID
	show := must(t, "job", "show", id)
	for _, want := range []string{"Kind:    redrive\n", "State:   done\n", "Who:     127.0.0.1\n", "Failures:\n  1-40  o-1  status 500 after 3 attempts\n"} {
		if !strings.Contains(show, want) {
			t.Errorf("show lacks %q:\n%s", want, show)
		}
	}
}

func TestInterruptingARedriveCancelsItAndSaysHowItGoesOn(t *testing.T) {
	s := openShop(t)
	s.deliver = func(ctx context.Context, _ string) (dispatch.Outcome, error) {
		<-ctx.Done()
		return dispatch.Outcome{}, ctx.Err()
	}
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan result, 1)
	go func() { ended <- penstock(ctx, "", "deadletter", "redrive", "orders") }()
	id := eventually(t, "runs", func(j v1.Job) bool { return j.State == v1.JobRunning }).ID
	if r := penstock(t.Context(), "", "dl", "discard", "orders", "--yes"); r.code != ExitFailed || !strings.Contains(r.err, "redrive job "+id+" is under way") {
		t.Errorf("a second one: %+v", r)
	}
	interrupt()
	r := <-ended
	if r.code != ExitFailed || !strings.Contains(r.err, "`penstock job resume "+id+"` has it go on") {
		t.Errorf("%+v", r)
	}
	eventually(t, "is cancelled", func(j v1.Job) bool { return j.State == v1.JobCancelled })
	must(t, "job", "resume", id)
	if r := penstock(t.Context(), "", "job", "resume", id); r.code != ExitFailed || !strings.Contains(r.err, "is running") {
		t.Errorf("resumed twice: %+v", r)
	}
	if got := must(t, "job", "cancel", id); !strings.Contains(got, "State:   cancelled") {
		t.Errorf("cancel: %s", got)
	}
}

func TestDiscardAsksOnlyAPerson(t *testing.T) {
	openShop(t)
	r := penstock(t.Context(), "y\n", "deadletter", "discard", "orders")
	if r.code != ExitUsage || !strings.Contains(r.err, "give --yes") {
		t.Errorf("without a terminal: %+v", r)
	}
	if got := must(t, "deadletter", "discard", "orders", "--dry-run"); !strings.HasPrefix(got, "2 dead letters would be discarded") {
		t.Errorf("dry run: %q", got)
	}
	if got := without(must(t, "deadletter", "discard", "orders", "1-41", "--yes")); got != "discard job JOB is done: 1 discarded\n" {
		t.Errorf("%q", got)
	}
	if got := must(t, "deadletter", "list", "-o", "name"); got != "default/orders 1-40\n" {
		t.Errorf("left: %q", got)
	}
}

func TestReplayTakesTimesAndTellsWrongOnes(t *testing.T) {
	openShop(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{"2h": now.Add(-2 * time.Hour), "7d": now.Add(-7 * 24 * time.Hour), "2026-02-01T00:00:00Z": time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)} {
		if got, err := timeAgo("--from", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for args, want := range map[string]string{
		"replay orders --from yesterday":               `--from "yesterday": want a time such as`,
		"replay orders --from -2h":                     "--from",
		"replay orders --from 1h --to 2h":              "is not before to",
		"replay":                                       "accepts 1 arg",
		"replay orders --rate -3":                      "rate",
		"deadletter redrive orders 7":                  "SHARD-POSITION",
		"deadletter redrive orders --where type=='x'y": "where",
	} {
		if r := penstock(t.Context(), "", strings.Fields(args)...); r.code != ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want exit code 2 and %q", args, r, want)
		}
	}
	for args, want := range map[string]string{
		"replay none":                   `no trigger "default/none"`,
		"deadletter redrive orders 0-7": "no dead letter 0-7",
		"job show nothing":              `no job "nothing"`,
		"job cancel nothing":            `no job "nothing"`,
	} {
		if r := penstock(t.Context(), "", strings.Fields(args)...); r.code != ExitFailed || !strings.Contains(r.err, want) {
			t.Errorf("%s: %+v, want exit code 1 and %q", args, r, want)
		}
	}
	if got := without(must(t, "replay", "orders", "--where", "id=o-1")); !strings.HasPrefix(got, "replay job JOB is done: 0 delivered") {
		t.Errorf("%q", got)
	}
}

func TestTheBarShowsHowFarAJobIs(t *testing.T) {
	j := v1.Job{Kind: v1.JobReplay, State: v1.JobRunning, Total: 200, Seen: 50, Delivered: 49, Failed: 1}
	if got := barOf(j); got != "[######..................] 25%, 49 delivered, 1 failed" {
		t.Errorf("%q", got)
	}
	j.Seen, j.Waiting = 900, "trigger is not ready\x1b[2J"
	if got := barOf(j); got != `[########################] 99%, 49 delivered, 1 failed; waiting: trigger is not ready\x1b[2J` {
		t.Errorf("%q", got)
	}
}
