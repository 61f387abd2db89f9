package history_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
)

func check(t testing.TB, parts ...[]byte) *history.Verdict {
	t.Helper()
	readers := make([]io.Reader, len(parts))
	for i, part := range parts {
		readers[i] = bytes.NewReader(part)
	}
	v, err := history.Check(readers...)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAGoodHistoryPasses(t *testing.T) {
	seed := proof.Seed(t)
	for n := range proof.Rounds(t, 100) {
		rng := proof.Rand(seed, n)
		v := check(t, generate(t, rng, 120, rng.IntN(4)))
		if err := v.Err(); err != nil {
			t.Fatalf("round %d:\n%v", n, err)
		}
		f := v.Figures
		if f.Sends != 120 || f.Acked == 0 || f.Dead == 0 || f.Lost != 0 || f.AttemptsMax < 3 {
			t.Fatalf("round %d: figures are not those of the run:\n%v", n, v)
		}
		if f.Crashes == 0 && f.Duplicates != 0 {
			t.Fatalf("round %d: %d duplicates without a crash", n, f.Duplicates)
		}
	}
}

func TestEachAilmentIsNoticedByItsInvariantAndNoOther(t *testing.T) {
	seed := proof.Seed(t)
	for _, a := range history.Ailments() {
		t.Run(a.Name, func(t *testing.T) {
			for n := range proof.Rounds(t, 4) {
				rng := proof.Rand(seed, n)
				good := generate(t, rng, 150, n%3)
				bad, err := history.Doctor(bytes.NewReader(good), a, rng)
				if err != nil {
					t.Fatal(err)
				}
				v := check(t, bad)
				if got := v.Violated(); !slices.Equal(got, []string{a.Invariant}) {
					t.Fatalf("round %d: noticed by %v, want %s\n%v", n, got, a.Invariant, v)
				}
			}
		})
	}
}

// The checker's own idea of the least wait is the broker's without jitter.
func TestLeastWaitIsThePolicysWithoutJitter(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		p := deliver.Policy{
			Retry: 1000, Backoff: deliver.Backoff(rng.IntN(2)),
			Delay:      time.Duration(rng.Int64N(int64(time.Minute))) * time.Duration(rng.IntN(2)),
			BackoffMax: time.Duration(rng.Int64N(int64(time.Hour))) * time.Duration(rng.IntN(2)),
		}
		p.RetryAfterMax = []time.Duration{0, deliver.IgnoreRetryAfter, time.Minute}[rng.IntN(3)]
		made := 1 + rng.IntN(100)
		a := history.Answer{Code: []int{0, 404, 429, 500, 503}[rng.IntN(5)], RetryAfter: time.Duration(rng.IntN(7200)) * time.Second}
		class := deliver.ClassStatus
		if a.Code == 0 {
			class = deliver.ClassTimeout
		}
		want, again := p.Next(made, &deliver.Error{Class: class, Status: a.Code, RetryAfter: a.RetryAfter}, 0)
		if got := history.LeastWait(p, made, a); !again || (got-want).Abs() > time.Duration(float64(want)*1e-9)+1 {
			t.Fatalf("%+v after %d attempts and %+v: %v, the policy says %v, %v", p, made, a, got, want, again)
		}
	}
}

func TestWhatIsNoHistoryIsAnError(t *testing.T) {
	begin := `{"t":0,"do":"begin","rules":{},"at":"2026-01-01T00:00:00Z"}` + "\n"
	for text, want := range map[string]string{
		"":                                      "no lines",
		`{"t":0,"do":"send","id":"1","sha":""}`: "begin line",
		begin + `{"t":1,"do":"sned"}`:           "sned",
		begin + `{"t":1,"do":"fault","kind":"gremlin"}`:                 "gremlin",
		begin + `{"t":1,"do":"answer","n":4,"answer":{"code":202}}`:     "belongs to no send",
		begin + `{"t":1,"do":"subscriber","n":4,"answer":{"code":202}}`: "belongs to no receipt",
		begin + `{"t":1,"do":"restored","what":"monday"}`:               "no such backup",
		begin + `{"t":1,"do":"se`:                                       "line 2",
		begin + begin:                                                   "begin line",
	} {
		_, err := history.Check(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}
