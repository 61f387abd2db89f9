package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestAnEventThatIsSentTwiceIsStoredOnce(t *testing.T) {
	s := open(t, world{window: time.Hour})
	first := s.send("order-1")
	if again := s.send("order-1"); again[0] != first[0]+"*" {
		t.Errorf("stored as %s, and then as %s", first[0], again[0])
	}
	s.wantHeld(1)
}

func TestAnIdentityIsSourceAndId(t *testing.T) {
	s := open(t, world{window: time.Hour})
	for _, pair := range [][2]string{{"/till", "1"}, {"/tills", "1"}, {"/till", "11"}, {"/till1", "1"}, {"/til", "l1"}, {strings.Repeat("/till", 30), "1"}} {
		stored, err := s.Append(t.Context(), "b", []event.Event{sent(t, pair[0], pair[1])})
		if err != nil || stored[0].Duplicate {
			t.Errorf("%q from %q: %v, %v", pair[1], pair[0], told(stored), err)
		}
	}
}

func TestWithoutAWindowEveryEventIsStored(t *testing.T) {
	s := open(t, world{})
	s.send("order-1")
	s.send("order-1", "order-1")
	s.wantHeld(3)
	if s.stats().Entries != 0 {
		t.Error("something is remembered")
	}
}

func TestAnEventThatIsInOneBatchTwiceIsStoredOnce(t *testing.T) {
	s := open(t, world{window: time.Hour})
	got := s.send("order-1", "order-2", "order-1", "order-1")
	if got[2] != got[0]+"*" || got[3] != got[0]+"*" || strings.HasSuffix(got[1], "*") {
		t.Errorf("stored as %v", got)
	}
	many := s.send(append(ids(100, 140), ids(100, 140)...)...)
	for i := range 40 {
		if many[40+i] != many[i]+"*" {
			t.Errorf("%d: %s, then %s", i, many[i], many[40+i])
		}
	}
	s.wantHeld(42)
}

func TestABatchStoresWhatIsNewInIt(t *testing.T) {
	s := open(t, world{window: time.Hour})
	first := s.send("order-1", "order-2")
	got := s.send("order-3", "order-2", "order-4", "order-1")
	if got[1] != first[1]+"*" || got[3] != first[0]+"*" || strings.HasSuffix(got[0]+got[2], "*") {
		t.Errorf("stored as %v, before as %v", got, first)
	}
	s.wantKnown([]string{got[0], got[2]}, []string{"order-3", "order-4"})
	s.wantHeld(4)
}

// gate is a log whose answers wait, and may be others.
type gate struct {
	channel.Appender
	came chan struct{}
	open chan error // what the next append is answered with; nil asks the log
}

func (g *gate) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	g.came <- struct{}{}
	if err := <-g.open; err != nil {
		return nil, err
	}
	return g.Appender.Append(ctx, uid, events)
}

func gated(t *testing.T, w world) (*shop, *gate) {
	g := &gate{came: make(chan struct{}, 10), open: make(chan error, 10)}
	w.between = func(a channel.Appender) channel.Appender {
		g.Appender = a
		return g
	}
	return open(t, w), g
}

var errFull = &channel.Refused{Err: channel.ErrFull, RetryAfter: time.Second}

func TestOfTwoAtOnceOneIsStoredAndTheOtherHearsOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			first  error // the answer to the first
			stored int   // appends that the log sees
		}{{nil, 1}, {errFull, 2}, {fmt.Errorf("%w: sync failed", channel.ErrUnknown), 2}} {
			s, g := gated(t, world{window: time.Hour})
			type outcome struct {
				stored []channel.Stored
				err    error
			}
			outcomes := make(chan outcome, 2)
			send := func() {
				stored, err := s.Append(t.Context(), "b", []event.Event{sent(t, "/till", "order-1")})
				outcomes <- outcome{stored, err}
			}
			go send()
			synctest.Wait()
			go send()
			synctest.Wait()
			if len(g.came) != 1 {
				t.Fatalf("%v: %d reached the log at once", c.first, len(g.came))
			}
			g.open <- c.first
			g.open <- nil
			first, second := <-outcomes, <-outcomes
			if (c.first == nil) != (first.err == nil) || !errors.Is(first.err, c.first) || second.err != nil {
				t.Errorf("%v: first %v, second %v", c.first, first.err, second.err)
			}
			if got := len(g.came); got != c.stored || second.stored[0].Duplicate != (c.first == nil) {
				t.Errorf("%v: %d appends, and the second is %v", c.first, got, told(second.stored))
			}
			s.wantHeld(1)
			s.stop()
		}
	})
}

func TestTwoBatchesThatOverlapDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := gated(t, world{window: time.Hour})
		for range 3 {
			g.open <- nil
		}
		done := make(chan []string, 2)
		go func() { done <- s.send("order-1", "order-2", "order-3") }()
		go func() { done <- s.send("order-3", "order-2", "order-1", "order-4") }()
		<-done
		<-done
		s.wantHeld(4)
		s.stop()
	})
}

func TestWhoWaitsForAnotherCanGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := gated(t, world{window: time.Hour})
		go s.send("order-1")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := s.Append(ctx, "b", []event.Event{sent(t, "/till", "order-1")})
		if refused := (*channel.Refused)(nil); !errors.As(err, &refused) || !errors.Is(err, channel.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		g.open <- nil
		synctest.Wait()
		s.wantHeld(1)
		s.stop()
	})
}

func TestWhatWasRefusedIsNotRemembered(t *testing.T) {
	s, g := gated(t, world{window: time.Hour})
	g.open <- errFull
	if _, err := s.Append(t.Context(), "b", []event.Event{sent(t, "/till", "order-1"), sent(t, "/till", "order-2")}); !errors.Is(err, channel.ErrFull) {
		t.Fatal(err)
	}
	g.open <- nil
	if got := s.send("order-2", "order-1"); strings.Contains(strings.Join(got, ""), "*") {
		t.Errorf("refused, and then known: %v", got)
	}
	s.wantHeld(2)
}

// brittle is a log that panics once.
type brittle struct {
	channel.Appender
	broken bool
}

func (b *brittle) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if !b.broken {
		b.broken = true
		panic("what nobody thought of")
	}
	return b.Appender.Append(ctx, uid, events)
}

func TestAPanicInTheLogLeavesNobodyWaiting(t *testing.T) {
	s := open(t, world{window: time.Hour, between: func(a channel.Appender) channel.Appender { return &brittle{Appender: a} }})
	func() {
		defer func() { _ = recover() }()
		s.send("order-1")
	}()
	if got := s.send("order-1"); strings.HasSuffix(got[0], "*") {
		t.Errorf("nothing was stored, and it is known: %v", got)
	}
}

func TestAWindowEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, window := range []time.Duration{10 * time.Second, 10 * time.Minute, 3 * time.Hour} {
			s := open(t, world{window: window})
			first := s.send("order-1")
			time.Sleep(window - time.Second)
			if got := s.send("order-1"); got[0] != first[0]+"*" {
				t.Errorf("%v: not known a second before the end: %v", window, got)
			}
			time.Sleep(3 * time.Second)
			second := s.send("order-1")
			if second[0] == first[0]+"*" || strings.HasSuffix(second[0], "*") {
				t.Errorf("%v: known two seconds after the end: %v", window, second)
			}
			if got := s.send("order-1"); got[0] != second[0]+"*" {
				t.Errorf("%v: stored again as %v, then %v", window, second, got)
			}
			time.Sleep(2 * window)
			time.Sleep(10 * time.Minute)
			if st := s.stats(); st.Entries != 0 || st.Bytes != 0 {
				t.Errorf("%v: long after the end %d events are known, in %d bytes", window, st.Entries, st.Bytes)
			}
			s.stop()
		}
	})
}

func TestAWindowThatIsChangedHoldsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, world{window: time.Hour})
		s.send("order-1")
		time.Sleep(10 * time.Minute)
		s.set(5 * time.Minute)
		if got := s.send("order-1"); strings.HasSuffix(got[0], "*") {
			t.Errorf("known after 10 minutes: %v", got)
		}
		s.set(0)
		s.send("order-1")
		s.wantHeld(3)
		s.set(time.Hour)
		if got := s.send("order-1"); strings.HasSuffix(got[0], "*") {
			t.Errorf("what came before the window began is known: %v", got)
		}
		s.stop()
	})
}

// Nothing that came within the window is forgotten while generations become
// tables, and tables one table, and nothing beyond it is known.
func TestWhatIsKnownIsWhatCameWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, world{window: 20 * time.Minute, options: small})
		type copies struct {
			at time.Time
			id string
		}
		last := make(map[string]copies)
		// Each order comes again after a while that is another for each.
		for i := range 6000 {
			id := fmt.Sprint("order-", i*i%4099)
			got := s.send(id)[0]
			before, ok := last[id]
			age := time.Since(before.at)
			switch {
			case ok && age <= 20*time.Minute-2*time.Second && got != before.id+"*":
				t.Fatalf("%d: %s came %v ago as %s, and is %s", i, id, age, before.id, got)
			case (!ok || age > 20*time.Minute+2*time.Second) && strings.HasSuffix(got, "*"):
				t.Fatalf("%d: %s came %v ago, and is %s", i, id, age, got)
			case !strings.HasSuffix(got, "*"):
				last[id] = copies{time.Now(), got}
			}
			time.Sleep(time.Duration(1+i%3) * 400 * time.Millisecond)
		}
		s.stop()
	})
}

func TestABrokerThatIsGoneIsForgotten(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour})
	s.send("order-1")
	if len(files(t, dir, "")) == 0 {
		t.Fatal("there are no files")
	}
	if err := s.Remove("b"); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir, ""); len(left) != 0 || s.Knows("b") {
		t.Errorf("left: %v", left)
	}
}

func TestFoldersOfBrokersThatNobodyKnowsGoAtTheStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, world{dir: dir, window: time.Hour})
	s.send("order-1")
	s.stop()
	again := open(t, world{dir: dir, window: time.Hour})
	if err := again.Keep([]channel.UID{"b"}); err != nil || len(files(t, dir, "")) == 0 {
		t.Errorf("%v, %v", err, files(t, dir, ""))
	}
	if err := again.Keep(nil); err != nil || len(files(t, dir, "")) != 0 {
		t.Errorf("%v, %v", err, files(t, dir, ""))
	}
}

func TestAppendsThatCannotBeKnownEndAsTheyWouldWithoutUs(t *testing.T) {
	s := open(t, world{window: time.Hour})
	if stored, err := s.Append(t.Context(), "b", nil); err != nil || len(stored) != 0 {
		t.Errorf("%v, %v", stored, err)
	}
	if _, err := s.Append(t.Context(), "b", make([]event.Event, 2)); err == nil {
		t.Error("empty events are taken")
	}
	if _, err := s.Append(t.Context(), "nobody", []event.Event{sent(t, "/till", "1")}); !errors.Is(err, channel.ErrNoBroker) {
		t.Errorf("%v", err)
	}
}

func TestManySendersOfTheSameEventsStoreEachOnce(t *testing.T) {
	s := open(t, world{window: time.Hour})
	const senders = 8
	all := ids(0, 200)
	answers := make(chan []string, senders)
	for n := range senders {
		go func() {
			mine := slices.Clone(all)
			if n%2 == 1 {
				slices.Reverse(mine)
			}
			for i := 0; i < len(mine); i += 5 {
				s.send(mine[i : i+5]...)
			}
			answers <- s.send(all...)
		}()
	}
	want := <-answers
	for range senders - 1 {
		if got := <-answers; !slices.Equal(got, want) {
			t.Errorf("%v, and %v", got, want)
		}
	}
	s.wantHeld(len(all))
}
