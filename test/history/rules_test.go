package history_test

import (
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/history"
)

// Rules that the doctor's ailments break together with others, each broken
// alone: till allows four attempts, a second and more apart.
func TestEachRuleIsNoticedAlone(t *testing.T) {
	fail := func(a *tale, e history.Event, codes ...int) {
		for _, code := range codes {
			a.deliver(e, history.Answer{Code: code})
			a.wait(9 * time.Second) // more than any wait agreed
		}
	}
	none := history.Final{Delivered: -1, Dead: -1}
	for name, c := range map[string]struct {
		rules history.Rules
		tell  func(a *tale)
		want  string
	}{
		"a fifth attempt that is taken": {tell: func(a *tale) { fail(a, a.accept("a"), 500, 500, 500, 500, 200) }, want: "I7"},
		"an attempt after death": {tell: func(a *tale) {
			e := a.accept("a")
			fail(a, e, 500)
			a.rec.Dead(till, e.ID(), history.Dead{Code: 500})
			fail(a, e, 500)
		}, want: "I7"},
		"a dead letter of five attempts": {tell: func(a *tale) {
			e := a.accept("a")
			fail(a, e, 500, 500, 500, 500)
			a.rec.Dead(till, e.ID(), history.Dead{Attempts: 5, Code: 500})
		}, want: "I7"},
		"a dead letter of fewer than came": {tell: func(a *tale) {
			e := a.accept("a")
			fail(a, e, 500, 500, 400)
			a.rec.Dead(till, e.ID(), history.Dead{Attempts: 2, Code: 400})
		}, want: "I7"},
		"a request that is no event": {tell: func(a *tale) { a.take(history.Event{}) }, want: "I2"},
		"cancelled, and not removed": {tell: func(a *tale) { f := none; f.Cancelled = 1; a.rec.Final(till, f) }, want: "I14"},
		"lost without a gap":         {tell: func(a *tale) { f := none; f.Lost = 1; a.rec.Final(till, f) }, want: "I14"},
		"expired":                    {tell: func(a *tale) { f := none; f.Expired = 1; a.rec.Final(till, f) }, want: "I14"},
		"too many descriptors": {rules: history.Rules{MaxFDs: 9}, tell: func(a *tale) { a.rec.Sample(history.Sample{FDs: 10}) },
			want: "I13"},
		"too many connections": {rules: history.Rules{MaxConns: 9}, tell: func(a *tale) { a.rec.Sample(history.Sample{Conns: 10}) },
			want: "I13"},
		"the same incarnation again": {tell: func(a *tale) { a.rec.Incarnation(1, 2) }, want: "I12"},
		"the same epoch again":       {tell: func(a *tale) { a.rec.Incarnation(2, 1) }, want: "I12"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, c.rules)
			c.tell(a)
			a.end(c.want)
		})
	}
}
