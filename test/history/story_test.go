package history_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// tale is a short history told by hand.
type tale struct {
	t   *testing.T
	out bytes.Buffer
	rec *history.Recorder
	now time.Time
	rng *rand.Rand
}

const till = "default/till"

func newTale(t *testing.T, rules history.Rules) *tale {
	t.Helper()
	a := &tale{t: t, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), rng: rand.New(rand.NewPCG(1, 1))}
	a.rec = history.NewRecorder(&a.out, rules, func() time.Time { return a.now })
	a.rec.Incarnation(1, 1)
	a.routes("")()
	a.wait(time.Second)
	return a
}

// routes has the one trigger want one type, or all.
func (a *tale) routes(typ string) (inForce func()) {
	tr := history.Trigger{Name: till, Policy: deliver.Policy{Retry: 3, Delay: time.Second, Timeout: 10 * time.Second}}
	if typ != "" {
		tr.Filter = filter.Spec{Filters: []filter.Dialect{{Exact: map[string]string{"type": typ}}}}
	}
	return a.rec.Routes(shop, []history.Trigger{tr})
}

func (a *tale) wait(d time.Duration) { a.now = a.now.Add(d) }

func (a *tale) event(typ string) history.Event { return history.NewEvent(a.rng).With("type", typ) }

// accept sends an event that is answered 202.
func (a *tale) accept(typ string) history.Event {
	e := a.event(typ)
	s := a.rec.Send(shop, e)
	a.wait(time.Millisecond)
	s.Answer(history.Answer{Code: 202})
	return e
}

// deliver is one attempt that takes a millisecond.
func (a *tale) deliver(e history.Event, answer history.Answer) {
	d := a.rec.Receipt(till, e)
	a.wait(time.Millisecond)
	d.Answer(answer)
}

func (a *tale) take(e history.Event) { a.deliver(e, history.Answer{Code: 200}) }

// crash kills the process after a while and starts the next.
func (a *tale) crash(kind history.Kind, after time.Duration, life int64) {
	a.wait(after)
	a.rec.Fault(kind, "")
	a.wait(time.Second)
	a.rec.Incarnation(life, uint64(life))
	a.wait(time.Second)
}

// end judges the tale and compares the invariants that it violates.
func (a *tale) end(violated ...string) *history.Verdict {
	a.t.Helper()
	if err := a.rec.Close(); err != nil {
		a.t.Fatal(err)
	}
	v := check(a.t, a.out.Bytes())
	if got := v.Violated(); !slices.Equal(got, violated) {
		a.t.Errorf("violated are %v, want %v\n%v", got, violated, v)
	}
	return v
}

func TestWhatACrashMayCost(t *testing.T) {
	for name, c := range map[string]struct {
		kind   history.Kind
		before func(a *tale)
		after  time.Duration
		want   []string
	}{
		"settled 99 ms before a kill":         {kind: history.Kill, after: 99 * time.Millisecond},
		"settled 99 ms before a power cut":    {kind: history.PowerCut, after: 99 * time.Millisecond},
		"settled 101 ms before a kill":        {kind: history.Kill, after: 101 * time.Millisecond, want: []string{"I6"}},
		"settled 1 ms before a SIGTERM":       {kind: history.Stop, after: time.Millisecond, want: []string{"I6"}},
		"settled 400 ms before, machine late": {kind: history.Kill, after: 400 * time.Millisecond, before: func(a *tale) { a.rec.Late(80 * time.Millisecond) }},
		"settled 500 ms before, machine late": {kind: history.Kill, after: 500 * time.Millisecond, before: func(a *tale) { a.rec.Late(80 * time.Millisecond) }, want: []string{"I6"}},
		"settled while the disk was full":     {kind: history.Kill, after: time.Hour, before: func(a *tale) { a.rec.Fault(history.DiskFull, "") }},
		"settled after the log had latched":   {kind: history.Kill, after: time.Hour, before: func(a *tale) { a.rec.Fault(history.SyncError, "") }},
		"settled while a subscriber was bad":  {kind: history.Kill, after: time.Hour, before: func(a *tale) { a.rec.Fault(history.Subscriber, "") }, want: []string{"I6"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			e := a.accept("a")
			if c.before != nil {
				c.before(a)
			}
			a.take(e)
			a.crash(c.kind, c.after, 2)
			a.take(e)
			v := a.end(c.want...)
			if c.want == nil && (v.Figures.Duplicates != 1 || v.Figures.MostPerCrash != 1) {
				t.Errorf("figures are %+v", v.Figures)
			}
		})
	}
}

// What a slow disk had not saved when a sync failed nobody saved any more, though
// the disk was fast again long before the power went.
func TestWhatASlowDiskHeldWhenTheLogLatchedMayComeAgain(t *testing.T) {
	for slow, want := range map[bool][]string{true: nil, false: {"I6"}} {
		a := newTale(t, history.Rules{})
		e := a.accept("a")
		heal := func() {}
		if slow {
			heal = a.rec.Fault(history.SlowDisk, "60ms")
		}
		a.take(e)
		a.wait(130 * time.Millisecond)
		a.rec.Fault(history.SyncError, "")
		a.wait(30 * time.Second)
		heal()
		a.crash(history.PowerCut, 30*time.Second, 2)
		a.take(e)
		a.end(want...)
	}
}

// What a process had sent before it died may be read after the next has begun.
func TestAnAttemptOfADeadProcessThatIsReadLateHoldsUpNothing(t *testing.T) {
	for late, want := range map[time.Duration][]string{500 * time.Millisecond: nil, 2 * time.Second: {"I7"}} {
		a := newTale(t, history.Rules{})
		e := a.accept("a")
		a.wait(time.Second)
		a.rec.Fault(history.Kill, "")
		a.wait(100 * time.Millisecond)
		a.rec.Incarnation(2, 2)
		a.wait(late)
		a.deliver(e, history.Answer{Code: 503, Gone: true})
		a.wait(30 * time.Millisecond)
		a.take(e)
		a.end(want...)
	}
}

func TestAnAttemptCutOffIsMadeAgainAndNotCounted(t *testing.T) {
	for _, kind := range []history.Kind{history.Kill, history.Stop} {
		a := newTale(t, history.Rules{})
		e := a.accept("a")
		for life := range int64(6) { // more often than there are retries
			a.rec.Receipt(till, e)
			a.crash(kind, 3*time.Second, life+2)
		}
		a.take(e)
		a.end()
	}
}

// Over a bad network an answer may be under way for as long as an attempt may
// take. Until then the end of the process cuts the attempt off, and after that
// it counts.
func TestAnAnswerUnderWayWhenTheProcessEndsIsNoAttempt(t *testing.T) {
	for until, want := range map[time.Duration][]string{9 * time.Second: nil, 11 * time.Second: {"I7"}} {
		for _, kind := range []history.Kind{history.Kill, history.Stop} {
			a := newTale(t, history.Rules{})
			a.rec.Routes(shop, []history.Trigger{{Name: till, Policy: deliver.Policy{Timeout: 10 * time.Second}}})()
			a.wait(time.Second)
			e := a.accept("a")
			heal := a.rec.Fault(history.Network, "drip")
			a.take(e)
			a.crash(kind, until, 2)
			heal()
			a.take(e)
			a.end(want...)
		}
	}
}

// A subscriber is down for the broker as long as no answer comes through, however
// many events it takes. One that was heard to take an event is not.
func TestWhatNobodyHearsOfASubscriberDoesNotSpeakForIt(t *testing.T) {
	for deaf, want := range map[bool][]string{true: nil, false: {"I7"}} {
		a := newTale(t, history.Rules{})
		first, second := a.accept("a"), a.accept("a")
		heal := func() {}
		if deaf {
			heal = a.rec.Fault(history.Network, "delay")
		}
		a.take(first)
		a.wait(20 * time.Second)
		a.deliver(second, history.Answer{Code: 503})
		a.wait(10 * time.Second)
		a.rec.Dead(till, second.ID(), history.Dead{Attempts: 1, Code: 503, Reason: "status 503 (last attempt: the circuit is open)"})
		heal()
		if deaf {
			a.take(first)
		}
		a.end(want...)
	}
}

// Where more attempts were made than arrived, the last one may be any time after
// those that did: long after the subscriber was last heard of, or while it took
// events all along.
func TestTheLastAttemptAtASubscriberThatIsDownNeedNotArrive(t *testing.T) {
	for name, c := range map[string]struct {
		takes bool
		want  []string
	}{"down": {}, "up": {takes: true, want: []string{"I7"}}} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			a.take(a.accept("a"))
			a.wait(20 * time.Second)
			e := a.accept("a")
			a.deliver(e, history.Answer{Code: 503})
			for range 10 {
				a.wait(time.Minute)
				if c.takes {
					a.take(a.accept("a"))
				}
			}
			a.rec.Dead(till, e.ID(), history.Dead{Attempts: 3, Reason: "no such host (last attempt: the circuit is open)"})
			a.end(c.want...)
		})
	}
}

// An owner that finds not even room to say that it is there may leave its epoch to
// the next, if it has acknowledged nothing.
func TestAnEpochIsTakenTwiceOnlyFromAnOwnerWithoutRoom(t *testing.T) {
	for name, c := range map[string]struct {
		full, acked bool
		epoch       uint64
		want        []string
	}{
		"full":                 {full: true, epoch: 2},
		"full, and goes back":  {full: true, epoch: 1, want: []string{"I12"}},
		"full, and took event": {full: true, acked: true, epoch: 2, want: []string{"I12"}},
		"not full":             {epoch: 2, want: []string{"I12"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			a.take(a.accept("a"))
			heal := func() {}
			if c.full {
				heal = a.rec.Fault(history.DiskFull, "")
			}
			a.crash(history.Kill, time.Second, 2)
			if c.acked {
				a.take(a.accept("a"))
				a.wait(time.Second)
			}
			a.rec.Fault(history.PowerCut, "")
			a.wait(time.Second)
			a.rec.Incarnation(3, c.epoch)
			a.wait(time.Second)
			heal()
			a.take(a.accept("a"))
			a.end(c.want...)
		})
	}
}

func TestAnAnswerThatNobodyHeardSettlesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(a *tale, d history.Receipt)
		want   []string
	}{
		"heard":            {func(_ *tale, d history.Receipt) { d.Answer(history.Answer{Code: 200}) }, []string{"I6"}},
		"final":            {func(_ *tale, d history.Receipt) { d.Answer(history.Answer{Code: 400}) }, []string{"I7"}},
		"not answered":     {func(*tale, history.Receipt) {}, nil},
		"hung up":          {func(_ *tale, d history.Receipt) { d.Answer(history.Answer{Code: 200, Gone: true}) }, nil},
		"malformed reply":  {func(_ *tale, d history.Receipt) { d.Answer(history.Answer{Code: 200, Failed: true}) }, nil},
		"near the timeout": {func(a *tale, d history.Receipt) { a.wait(8 * time.Second); d.Answer(history.Answer{Code: 200}) }, nil},
		"cut": {func(a *tale, d history.Receipt) {
			heal := a.rec.Fault(history.Network, "")
			d.Answer(history.Answer{Code: 200})
			heal()
		}, nil},
		"paused": {func(a *tale, d history.Receipt) {
			heal := a.rec.Fault(history.Pause, "")
			a.wait(time.Second)
			d.Answer(history.Answer{Code: 200})
			heal()
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			e := a.accept("a")
			d := a.rec.Receipt(till, e)
			a.wait(time.Millisecond)
			c.answer(a, d)
			a.wait(5 * time.Second)
			a.take(e)
			a.end(c.want...)
		})
	}
}

func TestAnEventUnderWayWhileRoutesChangeMayGoEitherWay(t *testing.T) {
	for name, c := range map[string]struct {
		during, taken bool
		want          []string
	}{
		"during, taken":     {during: true, taken: true},
		"during, not taken": {during: true},
		"after, taken":      {taken: true, want: []string{"I5"}},
		"after, not taken":  {},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			inForce := a.routes("b")
			a.wait(time.Millisecond)
			if !c.during {
				inForce()
				inForce = func() {}
				a.wait(time.Millisecond)
			}
			e := a.accept("a")
			inForce()
			if c.taken {
				a.take(e)
			}
			a.end(c.want...)
		})
	}
}

func TestAnEventWithoutAnAnswerMayBeDeliveredAndNeedNotBe(t *testing.T) {
	for _, code := range []int{0, 500, 502} {
		a := newTale(t, history.Rules{})
		for n := range 2 {
			e := a.event("a")
			a.rec.Send(shop, e).Answer(history.Answer{Code: code})
			if n == 0 {
				a.take(e)
			}
		}
		if f := a.end().Figures; f.Indeterminate != 2 || f.Delivered != 1 || f.Pairs != 0 {
			t.Errorf("figures are %+v", f)
		}
	}
}

func TestAnEventPostedTwiceMayComeTwiceAndNotThrice(t *testing.T) {
	for times, want := range map[int][]string{2: nil, 3: {"I6"}} {
		a := newTale(t, history.Rules{})
		e := a.event("a")
		a.rec.Send(shop, e) // no answer: the sender tries again
		a.rec.Send(shop, e).Answer(history.Answer{Code: 202})
		for range times {
			a.take(e)
		}
		a.end(want...)
	}
}

// A Broker at its quota takes no reply either: the delivery that brought it has
// failed. Only one that has refused somebody for want of room may do so, and only
// what it did not take after all.
func TestAReplyThatABrokerHasNoRoomForIsAFailedAttempt(t *testing.T) {
	for name, c := range map[string]struct {
		refuses, taken bool
		want           []string
	}{
		"full":               {refuses: true},
		"not full":           {want: []string{"I7", "I14"}},
		"full, and taken it": {refuses: true, taken: true, want: []string{"I7", "I14"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			a.rec.Routes(shop, []history.Trigger{{Name: till, Policy: deliver.Policy{Timeout: 10 * time.Second}}})()
			a.wait(time.Second)
			e, reply := a.accept("a"), a.event("b")
			a.rec.Send(shop, reply)
			a.deliver(e, history.Answer{Code: 200, Reply: reply.ID()})
			a.rec.Dead(till, e.ID(), history.Dead{Attempts: 1, Reason: "store the reply: refused: storage quota is used up"})
			if c.taken {
				a.take(reply)
			}
			if c.refuses {
				a.rec.Send(shop, a.event("c")).Answer(history.Answer{Code: 507})
			}
			delivered := int64(0)
			if c.taken {
				delivered++
			}
			a.wait(time.Second)
			a.rec.Final(till, history.Final{Delivered: delivered, Dead: 1})
			a.end(c.want...)
		})
	}
}

func TestAReplyIsOwedOnceItsAnswerIsTheLastWord(t *testing.T) {
	for name, c := range map[string]struct {
		fault history.Kind
		want  []string
	}{
		"all well":         {want: []string{"I1"}},
		"disk full":        {fault: history.DiskFull},
		"subscriber's bad": {fault: history.Subscriber, want: []string{"I1"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			e, reply := a.accept("a"), a.event("r")
			if c.fault != "" {
				a.rec.Fault(c.fault, "")
			}
			a.rec.Send(shop, reply)
			a.deliver(e, history.Answer{Code: 200, Reply: reply.ID()})
			a.end(c.want...) // the reply never comes to till, which wants everything
		})
	}
}

func TestWhatTheBrokerOwnsUpToIsNotLost(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(a *tale)
		want []string
	}{
		"silence":            {func(*tale) {}, []string{"I1"}},
		"pending":            {func(a *tale) { a.rec.Final(till, history.Final{Pending: 1}) }, nil},
		"pending for long":   {func(a *tale) { a.wait(time.Hour); a.rec.Final(till, history.Final{Pending: 1}) }, []string{"I9"}},
		"one pending of two": {func(a *tale) { a.accept("a"); a.rec.Final(till, history.Final{Pending: 1}) }, []string{"I1"}},
		"a declared gap":     {func(a *tale) { a.rec.Gap(shop, 1) }, nil},
		"a gap elsewhere":    {func(a *tale) { a.rec.Gap("default/other", 1) }, []string{"I1"}},
		"a trigger removed":  {func(a *tale) { a.rec.Cancelled(till) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			a.accept("a")
			c.say(a)
			a.end(c.want...)
		})
	}
}

func TestATriggerOfAnotherBrokerGetsNothing(t *testing.T) {
	a := newTale(t, history.Rules{})
	e := a.event("a")
	a.rec.Send("other/shop", e).Answer(history.Answer{Code: 202})
	a.take(e)
	a.end("I5")
}

func TestAPausedOwnerThatWakesUpMustNotAcknowledge(t *testing.T) {
	a := newTale(t, history.Rules{})
	a.rec.Incarnation(2, 2)
	a.wait(time.Second)
	e := a.event("a")
	s := a.rec.Send(shop, e)
	a.wait(time.Millisecond)
	s.Answer(history.Answer{Code: 202, By: 1})
	a.take(e)
	a.end("I12")
}

func TestUnderOverloadOnlyRefusalsAreAnswered(t *testing.T) {
	for code, want := range map[int][]string{202: nil, 429: nil, 503: nil, 404: {"I13"}, 500: {"I13"}} {
		a := newTale(t, history.Rules{})
		over := a.rec.Fault(history.Overload, "")
		e := a.event("a")
		a.rec.Send(shop, e).Answer(history.Answer{Code: code})
		over()
		if code == 202 {
			a.take(e)
		}
		a.end(want...)
	}
}

// Monday's backup is restored after more has happened. What was accepted before it
// must be there, what was settled long before it must not come again, what came
// later is unknown to it.
func TestARestoredBackupIsItsTimeAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		settled, recent, pending, later bool // comes after the restore
		want                            []string
	}{
		"as it should":             {recent: true, pending: true},
		"progress was quick":       {pending: true},
		"one is missing":           {recent: true, want: []string{"I15"}},
		"one comes again":          {settled: true, recent: true, pending: true, want: []string{"I15"}},
		"one is from the future":   {recent: true, pending: true, later: true, want: []string{"I15"}},
		"all of it goes wrong too": {settled: true, later: true, want: []string{"I15"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newTale(t, history.Rules{})
			settled, recent, pending := a.accept("a"), a.accept("a"), a.accept("a")
			a.take(settled)
			a.wait(time.Second)
			a.take(recent)
			done := a.rec.Backup("monday")
			during := a.accept("a")
			a.wait(time.Second)
			done()
			a.take(pending) // which the backup does not know
			a.take(during)
			later := a.accept("a")
			a.take(later)
			before := a.end()
			if before.Figures.Delivered != 5 {
				t.Fatalf("figures are %+v", before.Figures)
			}

			b := newTale(t, history.Rules{})
			b.out.Reset()
			b.now = a.now.Add(time.Hour)
			b.rec = history.NewRecorder(&b.out, history.Rules{}, func() time.Time { return b.now })
			b.rec.Restored("monday")
			b.rec.Incarnation(2, 2)
			b.routes("")()
			for e, comes := range map[*history.Event]bool{&settled: c.settled, &recent: c.recent, &pending: c.pending, &later: c.later} {
				if b.wait(time.Second); comes {
					b.take(*e)
				}
			}
			if err := b.rec.Close(); err != nil {
				t.Fatal(err)
			}
			v := check(t, a.out.Bytes(), b.out.Bytes())
			if got := v.Violated(); !slices.Equal(got, c.want) {
				t.Errorf("violated are %v, want %v\n%v", got, c.want, v)
			}
			if v.Figures.Sends != 4 {
				t.Errorf("%d events are known to the backup, want 4 with the one sent during it", v.Figures.Sends)
			}
		})
	}
}

func TestTheReportNamesLineEventAndTrigger(t *testing.T) {
	a := newTale(t, history.Rules{})
	e := a.accept("a")
	err := a.end("I1").Err()
	want := "line 5: event " + e.ID() + ": trigger default/till: acknowledged, and neither delivered nor dead"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want one with %q", err, want)
	}
}
