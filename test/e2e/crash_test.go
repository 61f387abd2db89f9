package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// trigger is one Trigger of default/default as YAML.
func trigger(name, filters, subscriber, delivery string) string {
	text := "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: " + name + "}\nspec:\n  broker: default\n" +
		"  subscriber: {uri: \"" + subscriber + "\"}\n"
	if filters != "" {
		text += "  filters: " + filters + "\n"
	}
	if delivery != "" {
		text += "  delivery: " + delivery + "\n"
	}
	return text
}

// two is a file with a Trigger for everything and one for the type a.
func two(t *testing.T, s *sink.Sink) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "two.yaml"),
		trigger("everything", "", s.URL("/everything"), "")+trigger("only-a", "[{exact: {type: a}}]", s.URL("/only-a"), ""))
}

// complete checks that all that was accepted came to the Triggers of two, and
// nothing to the wrong one.
func complete(t *testing.T, b *broker.Broker, s *sink.Sink, accepted map[string][]string) {
	t.Helper()
	s.Await("/everything", slices.Concat(accepted["a"], accepted["b"])...)
	s.Await("/only-a", accepted["a"]...)
	b.AwaitSettled("everything", "only-a")
	for id, r := range s.Got("/only-a") {
		if r.Event.Type() != "a" {
			t.Errorf("/only-a got %s of type %s", id, r.Event.Type())
		}
	}
	for id, r := range s.Got("/everything") {
		if string(r.Event.Data()) != "data of "+id {
			t.Errorf("event %s arrived with the data %q", id, r.Event.Data())
		}
	}
	if dead := b.Trigger("everything").Dead + b.Trigger("only-a").Dead; dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
}

func TestSIGTERMUnderLoadExitsWith0AndTheNextStartCarriesOn(t *testing.T) {
	// The subscriber fails at first, so that there are retries to carry over.
	var up atomic.Bool
	s := sink.Start(t, func(*http.Request) int {
		if up.Load() {
			return http.StatusNoContent
		}
		return http.StatusServiceUnavailable
	})
	b := start(t, two(t, s))
	l := startLoad(t, b.Default(), "a", "b")
	l.more(200)
	if code := b.Stop(); code != 0 {
		t.Errorf("exit code is %d\n%s", code, b.Log())
	}
	up.Store(true)
	b.Restart()
	l.more(200)
	if code := b.Stop(); code != 0 {
		t.Errorf("exit code is %d\n%s", code, b.Log())
	}
	b.Restart()
	l.more(10)
	complete(t, b, s, l.stop())
}

func TestKillNineUnderLoadLosesNothingThatWasAccepted(t *testing.T) {
	s := sink.Start(t, nil)
	b := start(t, two(t, s))
	l := startLoad(t, b.Default(), "a", "b")
	for range 8 {
		l.more(1 + rand.IntN(300))
		b.Kill()
		b.Restart()
	}
	l.more(1)
	accepted := l.stop()
	t.Logf("%d events", l.total())
	complete(t, b, s, accepted)
}

// A subscriber that is gone for a while is not forgotten, and the wait for the
// next attempt survives the death of the broker.
func TestRetriesSurviveKillNine(t *testing.T) {
	var up atomic.Bool
	var attempts atomic.Int64
	s := sink.Start(t, func(*http.Request) int {
		attempts.Add(1)
		if up.Load() {
			return http.StatusOK
		}
		return http.StatusServiceUnavailable
	})
	b := start(t, write(t, filepath.Join(t.TempDir(), "t.yaml"),
		trigger("flaky", "", s.URL("/flaky"), "{retry: 50, backoffPolicy: linear, backoffDelay: PT0.05S}")))
	var ids []string
	for n := range 20 {
		id := fmt.Sprint(n)
		if status, _ := post(b.Default(), id, "a", "x"); status != http.StatusAccepted {
			t.Fatalf("status is %d", status)
		}
		ids = append(ids, id)
	}
	broker.Await(t, "some attempts", func() bool { return attempts.Load() > 40 })
	b.Kill()
	b.Restart()
	if pending := b.Trigger("flaky").Backlog; pending != 20 {
		t.Errorf("%d events are pending after the restart, want 20", pending)
	}
	up.Store(true)
	s.Await("/flaky", ids...)
	b.AwaitSettled("flaky")
}

// Attempts that were made before a crash count after it: an event does not
// get all its retries anew. The last one before the crash may be made twice,
// for progress is written a tenth of a second later.
func TestAttemptsBeforeKillNineCount(t *testing.T) {
	var attempts atomic.Int64
	s := sink.Start(t, func(*http.Request) int {
		attempts.Add(1)
		return http.StatusServiceUnavailable
	})
	b := start(t, write(t, filepath.Join(t.TempDir(), "t.yaml"),
		trigger("down", "", s.URL("/down"), "{retry: 3, backoffPolicy: linear, backoffDelay: PT0.4S}")))
	if status, _ := post(b.Default(), "1", "a", "x"); status != http.StatusAccepted {
		t.Fatalf("status is %d", status)
	}
	broker.Await(t, "three attempts", func() bool { return attempts.Load() == 3 })
	b.Kill()
	b.Restart()
	broker.Await(t, "the event is dead", func() bool { return b.Trigger("down").Dead == 1 })
	if n := attempts.Load(); n != 4 && n != 5 {
		t.Errorf("%d attempts were made, want 4, or 5 with one made twice", n)
	}
	var list v1.DeadLetterList
	b.Get("/api/v1/deadletters", &list)
	if d := list.Items[0]; d.Attempts != 4 || d.Code != http.StatusServiceUnavailable || d.EventID != "1" {
		t.Errorf("dead letter is %+v", d)
	}
	b.AwaitSettled("down")
}
