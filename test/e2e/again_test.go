package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// tell runs penstock, whatever its exit code.
func tell(t *testing.T, b *broker.Broker, args ...string) (code int, out, errOut string) {
	t.Helper()
	cmd := exec.Command(penstock, args...)
	cmd.Env = append(os.Environ(), "PENSTOCK_API="+b.API, "PENSTOCK_URL=http://"+b.Listen)
	return broker.Run(t, cmd)
}

// A mistake at the subscriber: events die, somebody looks what happened to one,
// mends the subscriber and sends all again. The broker is killed in the middle,
// and nothing is forgotten: not the story, not the job, not a dead letter.
func TestAfterTheFirstFailureEverythingCanBeSentAgain(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	var mu sync.Mutex
	times := make(map[string]int)
	s := sink.Start(t, func(r *http.Request) int {
		if broken.Load() {
			return http.StatusUnprocessableEntity
		}
		mu.Lock()
		defer mu.Unlock()
		times[r.Header.Get("Ce-Id")]++
		return http.StatusOK
	})
	b := start(t, write(t, filepath.Join(t.TempDir(), "t.yaml"), trigger("orders", "[{prefix: {type: order.}}]", s.URL("/orders"), "{retry: 0}")))
	const events = 60
	var ids []string
	for n := range events {
		id := fmt.Sprintf("order-%d", n)
		if status, _ := post(b.Default(), id, "order.created", "x"); status != http.StatusAccepted {
			t.Fatalf("status is %d", status)
		}
		ids = append(ids, id)
	}
	broker.Await(t, "all are dead", func() bool { return b.Trigger("orders").Dead == events })
	if groups := ask(t, b, "deadletter", "list", "--group"); !strings.Contains(groups, "status 422") || !strings.Contains(groups, fmt.Sprint(events)) {
		t.Errorf("the groups are\n%s", groups)
	}

	// The journal is written a moment after what it tells of: each attempt and
	// each death has its reason in it.
	broker.Await(t, "the journal is written", func() bool {
		files, err := filepath.Glob(filepath.Join(b.Data, "journal", "*"))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, f := range files {
			n += strings.Count(read(t, f), "status 422")
		}
		return n >= 2*events
	})
	b.Kill()
	b.Restart()
	// The story is there after kill -9, to the sender's id.
	if story := ask(t, b, "event", "order-7"); !strings.Contains(story, "Trigger default/orders: dead") || !strings.Contains(story, "422") {
		t.Errorf("the story is\n%s", story)
	}

	// Mistakes cost a sentence and nothing else.
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"event", "no-such-event"}, 1, `no event "no-such-event" is known`},
		{[]string{"event", "0-4711"}, 1, `no event "0-4711" is known`},
		{[]string{"deadletter", "redrive", "orders", "--where", "type = "}, 2, "syntax error"},
		{[]string{"deadletter", "redrive", "nobody"}, 1, "no trigger"},
		{[]string{"replay", "orders", "--from", "yesterday"}, 2, "--from"},
		{[]string{"job", "resume", "nonsense"}, 1, "no job"},
		{[]string{"deadletter", "discard", "orders"}, 2, "--yes"},
	} {
		if code, _, errOut := tell(t, b, c.args...); code != c.code || !strings.Contains(errOut, c.want) {
			t.Errorf("%q: exit code %d, want %d, with %q:\n%s", c.args, code, c.code, c.want, errOut)
		}
	}
	if n := b.Trigger("orders").Dead; n != events {
		t.Fatalf("%d dead letters are left", n)
	}

	broken.Store(false)
	var job v1.Job
	if err := json.Unmarshal([]byte(ask(t, b, "deadletter", "redrive", "orders", "--rate", "20", "--wait=false", "-o", "json")), &job); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := tell(t, b, "deadletter", "redrive", "orders"); code != 1 || !strings.Contains(errOut, job.ID) {
		t.Errorf("a second redrive: exit code %d, %s", code, errOut)
	}
	delivered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(times)
	}
	broker.Await(t, "some are sent again", func() bool { return delivered() > 5 })
	b.Kill()
	b.Restart()
	broker.Await(t, "the job has gone on by itself and is done", func() bool {
		b.Get("/api/v1/jobs/"+job.ID, &job)
		return job.State == v1.JobDone
	})
	if n := b.Trigger("orders").Dead; n != 0 || delivered() != events {
		t.Errorf("%d dead letters are left, %d events were delivered of %d: %+v", n, delivered(), events, job)
	}
	mu.Lock()
	for _, id := range ids {
		if times[id] != 1 {
			t.Logf("%s came %d times", id, times[id]) // in flight at the kill: at least once
		}
	}
	clear(times)
	mu.Unlock()
	if story := ask(t, b, "event", "order-7"); !strings.Contains(story, "Trigger default/orders: delivered") || !strings.Contains(story, job.ID) {
		t.Errorf("the story is now\n%s", story)
	}
	if audit := read(t, filepath.Join(b.Data, "audit.log")); !strings.Contains(audit, job.ID) {
		t.Errorf("the audit says nothing of it:\n%s", audit)
	}

	// The past, once more: also what was dead in between.
	out := ask(t, b, "replay", "orders")
	if delivered() != events {
		t.Errorf("the replay brought %d events, want %d:\n%s", delivered(), events, out)
	}
}

// A producer that repeats itself is told so, also by a broker that was killed
// in between.
func TestAnEventIsStoredOnceThroughKillNine(t *testing.T) {
	s := sink.Start(t, nil)
	b := start(t, write(t, filepath.Join(t.TempDir(), "t.yaml"),
		"apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default, annotations: {penstock.dev/dedup-window: 1h}}\n"+
			trigger("all", "", s.URL("/all"), "")))
	events := make(map[string]bool) // by the link that each 202 has
	for round := range 3 {
		for n := range 20 {
			req, err := http.NewRequest(http.MethodPost, b.Default(), strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Ce-Id": fmt.Sprint(n), "Ce-Source": "/shop", "Ce-Type": "a", "Ce-Specversion": "1.0"} {
				req.Header.Set(name, value)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			known := resp.Header.Get("Penstock-Duplicate") == "true"
			if resp.StatusCode != http.StatusAccepted || resp.Header.Get("Penstock-Event") == "" || known != (round > 0) {
				t.Fatalf("round %d, %d: %s, %v", round, n, resp.Status, resp.Header)
			}
			events[resp.Header.Get("Penstock-Event")] = true
		}
		b.AwaitSettled("all")
		b.Kill()
		b.Restart()
	}
	if len(events) != 20 {
		t.Errorf("%d events were stored, want 20", len(events))
	}
}
