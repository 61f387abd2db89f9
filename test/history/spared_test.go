package history_test

import (
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/test/history"
)

// What a Knative Service refuses need not count, within bounds; agreed are four
// attempts.
func TestWhatMayBeSpared(t *testing.T) {
	refuse := func(n, code int, every time.Duration) func(a *tale, e history.Event) {
		return func(a *tale, e history.Event) {
			for range n {
				a.deliver(e, history.Answer{Code: code})
				a.wait(every)
			}
		}
	}
	for name, c := range map[string]struct {
		ordinary bool
		tell     func(a *tale, e history.Event)
		want     []string
	}{
		"refused often":                {tell: refuse(50, 503, 5*time.Second)},
		"502 and 504 too":              {tell: func(a *tale, e history.Event) { refuse(20, 502, time.Second)(a, e); refuse(20, 504, time.Second)(a, e) }},
		"500 counts":                   {tell: refuse(5, 500, 10*time.Second), want: []string{"I7"}},
		"429 counts":                   {tell: refuse(5, 429, 10*time.Second), want: []string{"I7"}},
		"an ordinary one":              {ordinary: true, tell: refuse(5, 503, 10*time.Second), want: []string{"I7"}},
		"for longer than five minutes": {tell: refuse(5, 503, 6*time.Minute), want: []string{"I7"}},
		"five minutes and the retries": {tell: refuse(3+3, 503, 149*time.Second)},
		"taken, and nobody heard": {tell: func(a *tale, e history.Event) {
			refuse(3, 500, 10*time.Second)(a, e)
			heal := a.rec.Fault(history.Network, "drip")
			a.take(e)
			heal()
			a.wait(10 * time.Second)
		}},
		"of them one heard late": {tell: func(a *tale, e history.Event) {
			refuse(2, 503, 149*time.Second)(a, e)
			heal := a.rec.Fault(history.Network, "delay")
			refuse(1, 503, time.Second)(a, e)
			heal()
			a.wait(310 * time.Second)
			refuse(3, 503, 310*time.Second)(a, e)
		}},
		"and one more": {tell: refuse(3+5, 503, 149*time.Second), want: []string{"I7"}},
		"a hot loop":   {tell: refuse(3, 503, 50*time.Millisecond), want: []string{"I7"}},
		"anew after a restart": {tell: func(a *tale, e history.Event) {
			refuse(30, 503, 8*time.Second)(a, e)
			a.crash(history.Kill, time.Second, 2)
			refuse(30, 503, 8*time.Second)(a, e)
		}},
		"sooner than asked": {tell: func(a *tale, e history.Event) {
			a.deliver(e, history.Answer{Code: 503, RetryAfter: 10 * time.Second})
			a.wait(time.Second)
		}, want: []string{"I7"}},
		"given up too early": {tell: func(a *tale, e history.Event) {
			refuse(4, 503, time.Second)(a, e)
			a.rec.Dead(till, e.ID(), history.Dead{Attempts: 3, Code: 503})
		}, want: []string{"I7"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{Drain: time.Hour})
			a.rec.Routes(shop, []history.Trigger{{
				Name: till, Policy: deliver.Policy{Retry: 3, Delay: time.Second, Timeout: 10 * time.Second}, ScalesFromZero: !c.ordinary,
			}})()
			a.wait(time.Second)
			e := a.accept("a")
			c.tell(a, e)
			if len(c.want) == 0 || name != "given up too early" {
				a.take(e)
			}
			a.end(c.want...)
		})
	}
}
