package e2e

import (
	"bytes"
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
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
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

// roundsPerStore is after how many ends of a process a soak begins anew: the
// checker holds a whole history in memory.
const roundsPerStore = 15

func TestKillNineUnderLoadKeepsThePromise(t *testing.T) {
	seed := proof.Seed(t)
	rounds(t, 15, 300, func(c *chaos, n int) {
		rng := proof.Rand(seed, n)
		if n%4 == 1 {
			c.edit([]string{"a", "b"}[rng.IntN(2)])
		}
		c.more(1 + rng.IntN(200))
		c.end(history.Kill)
	}, func(v *history.Verdict) {
		if f := v.Figures; f.Crashes == 0 || f.Acked == 0 || f.Dead == 0 {
			t.Errorf("the run shows nothing: %+v", f)
		}
		if v.Checked("I8") == 0 {
			t.Error("the run shows nothing of order")
		}
	})
}

func TestSIGTERMUnderLoadKeepsThePromise(t *testing.T) {
	seed := proof.Seed(t)
	rounds(t, 5, 300, func(c *chaos, n int) {
		c.more(1 + proof.Rand(seed, n).IntN(200))
		c.end(history.Stop)
	}, nil)
}

// Without a fault nothing comes twice. The history of this run, being a real
// one, is then given every ailment the doctor knows, and each is noticed by the
// invariant that forbids it.
func TestWithoutAFaultNothingComesTwiceAndEachAilmentWouldBeNoticed(t *testing.T) {
	c := startChaos(t, 200)
	c.more(200)
	v := c.finish()
	if f := v.Figures; f.Duplicates != 0 || f.Refused == 0 || f.Dead == 0 {
		t.Errorf("figures are %+v", f)
	}
	if t.Failed() {
		return
	}
	rng := rand.New(rand.NewPCG(proof.Seed(t), 0))
	for _, a := range history.Ailments() {
		bad, err := history.Doctor(bytes.NewReader(c.text()), a, rng)
		if err != nil {
			t.Error(err)
			continue
		}
		v, err := history.Check(bytes.NewReader(bad))
		if err != nil {
			t.Errorf("%s: %v", a.Name, err)
		} else if got := v.Violated(); !slices.Equal(got, []string{a.Invariant}) {
			t.Errorf("%s: noticed by %v, want %s\n%v", a.Name, got, a.Invariant, v.Err())
		}
	}
}

// rounds runs round so many times against brokers that each live through a
// number of them, and judges each broker's history.
func rounds(t *testing.T, ci int, rate float64, round func(*chaos, int), judge func(*history.Verdict)) {
	t.Helper()
	var c *chaos
	finish := func() {
		if c == nil {
			return
		}
		if v := c.finish(); judge != nil {
			judge(v)
		}
		c = nil
	}
	for n := range proof.Rounds(t, ci) {
		if n%roundsPerStore == 0 {
			finish()
			c = startChaos(t, rate)
		}
		round(c, n)
	}
	finish()
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
	broker.Await(t, "all 20 are pending after the restart", func() bool { return b.Trigger("flaky").Backlog == 20 })
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
