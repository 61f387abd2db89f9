package simulation_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/history"
)

// F13: a process that is stopped for two minutes owns its directory still, and
// goes on where it was.
func TestABrokerThatIsPausedLosesNothingAndKeepsItsDirectory(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 5, delay: "PT1S", timeout: "PT30S"})
		sub.feel(mood{wait: 5 * time.Second})
		w.boot()
		w.busy.Go(func() { w.send(10) })
		w.at(2 * time.Second)

		const paused = 2 * time.Minute
		heal := w.rec.Fault(history.Pause, front)
		w.stall.Store(int64(2*time.Second + paused))
		for _, peer := range []string{"sub", "shop"} {
			w.net.Link(front, peer).Cut()
		}
		w.at(time.Minute)
		var locked *disk.LockedError
		if _, err := disk.Open(dataDir, disk.Options{FS: w.fs}); !errors.As(err, &locked) {
			t.Errorf("a second owner: %v, want that the directory has one", err)
		}
		w.at(2*time.Second + paused)
		for _, peer := range []string{"sub", "shop"} {
			w.net.Link(front, peer).Heal()
		}
		heal()
		w.settle(10 * time.Minute)
		if lane := w.lane("sub"); lane.Delivered < 10 || lane.Backlog != 0 || lane.Letters != 0 || sub.distinct() != 10 {
			t.Errorf("lane %+v, %d different events; want 10 delivered", lane, sub.distinct())
		}
	})
}

// F24: the sink is down and there is no room for dead letters: nothing leaves
// its lane, and when both are back every dead event is kept and the sink has it.
func TestDeadEventsWaitForRoomAndForTheirSink(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 60, delay: "PT1S", backoffMax: "1m", sink: "graves"})
		sub.feel(mood{code: 500})
		up, taken := false, make(map[string]bool)
		l, err := w.net.Listen("graves")
		if err != nil {
			t.Fatal(err)
		}
		w.sink = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.mu.Lock()
			defer w.mu.Unlock()
			if !up {
				rw.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			taken[r.Header.Get("Ce-Id")] = true
		})}
		go func() { _ = w.sink.Serve(l) }()
		w.boot()
		heal := w.rec.Fault(history.DiskFull, "")
		accepted := w.send(30)
		w.fill(true)
		for range 20 {
			time.Sleep(5 * time.Second)
			accepted = append(accepted, w.send(20)...)
		}
		refused := 30 + 20*20 - len(accepted)
		sub.feel(mood{code: 400}) // final: from here on all of them die
		w.at(10 * time.Minute)
		held := w.lane("sub")
		w.fill(false)
		heal()
		w.at(20 * time.Minute)
		w.mu.Lock()
		up = true
		w.mu.Unlock()
		w.settle(2 * time.Hour)
		lane := w.lane("sub")
		t.Logf("%d accepted, %d refused; %d letters while the disk was full, %d at the end", len(accepted), refused, held.Letters, lane.Letters)
		if refused == 0 || held.Backlog == 0 || held.Letters == uint64(len(accepted)) {
			t.Errorf("the disk was not full enough for a story: %d refused, lane %+v", refused, held)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if int(lane.Letters) != len(accepted) || len(taken) != len(accepted) || lane.Backlog != 0 {
			t.Errorf("%d accepted; %d letters, %d at the sink, %d pending", len(accepted), lane.Letters, len(taken), lane.Backlog)
		}
	})
}

// F12: a wall clock that goes mad changes no wait, and costs no event.
func TestAMadWallClockChangesNoWait(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 3, policy: "linear", delay: "PT10S"})
		sub.pick = func(id string) mood {
			if sub.calls[id] == 1 {
				return mood{code: 500}
			}
			return mood{}
		}
		w.boot()
		var ids []string
		for i, by := range []time.Duration{years, -2 * years, years, -time.Second, time.Hour} {
			w.at(time.Duration(i) * 3 * time.Second)
			ids = append(ids, w.send(1)...)
			w.jump(by)
		}
		w.settle(time.Hour)
		for _, id := range ids {
			at := sub.instants(id)
			if len(at) != 2 || at[1]-at[0] < 10*time.Second || at[1]-at[0] > 12*time.Second {
				t.Errorf("attempts at %v, want two, 10 to 12 s apart", at)
			}
		}
	})
}

// F9: while the disk takes 20 seconds for each operation a change of a Trigger
// waits for it. Deliveries of what is stored do not.
func TestASlowDiskHoldsUpChangesAndNotDeliveries(t *testing.T) {
	tell(t, func(w *world) {
		sub := w.with("sub", delivery{retry: 3, delay: "PT5S"})
		sub.feel(mood{code: 500})
		w.boot()
		ids := w.send(1)
		w.at(time.Second)
		heal := w.rec.Fault(history.SlowDisk, "20s")
		w.slow.Store(int64(20 * time.Second))
		sub.feel(mood{})
		w.edit("sub", func(o *config.Object) { o.Trigger.Filter = filter.Spec{Attributes: map[string]string{"type": "a"}} })
		w.at(10 * time.Second)
		if at := sub.instants(ids[0]); len(at) != 2 || at[1] > 6*time.Second {
			t.Errorf("attempts at %v: the second waited for the disk", at)
		}
		w.at(2 * time.Minute)
		w.slow.Store(0)
		time.Sleep(20 * time.Second)
		heal()
		w.settle(time.Hour)
	})
}

// fragile is a log that panics at one event.
type fragile struct {
	channel.Log
	at string
}

func (l fragile) Append(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
	if events[0].ID() == l.at {
		panic("what nobody thought of")
	}
	return l.Log.Append(ctx, uid, events)
}

// F27: a panic while a request is answered costs that request its answer:
// its sender must take it for unknown. All others go on. (One in an attempt is
// a story of pkg/dispatch.)
func TestAPanicAtTheFrontDoorCostsOneRequestItsAnswer(t *testing.T) {
	poison := history.NewEvent(rand.New(rand.NewPCG(1, 3)))
	breaks := mutant{log: func(l channel.Log) channel.Log { return fragile{l, poison.ID()} }}
	verdict, refusal := inWorld(t, 1, breaks, func(w *world) {
		w.broker("default", nil)
		w.with("sub", delivery{})
		w.boot()
		if n := len(w.send(5)); n != 5 {
			t.Errorf("%d of 5 accepted before", n)
		}
		if code := w.sender("shop", "default").Send(context.Background(), poison); code != 0 {
			t.Errorf("answered %d, want nothing", code)
		}
		if n := len(w.send(5)); n != 5 {
			t.Errorf("%d of 5 accepted after", n)
		}
		w.settle(time.Minute)
		if lane := w.lane("sub"); lane.Delivered != 10 {
			t.Errorf("lane %+v, want 10 delivered", lane)
		}
	})
	if err := errors.Join(refusal, verdict.Err()); err != nil {
		t.Errorf("%v\n%v", err, verdict)
	}
}
