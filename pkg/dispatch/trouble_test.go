package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/telemetry"
)

// troubled is a log that misbehaves as far as the contract lets it.
type troubled struct {
	channel.Log
	forgets   atomic.Bool  // progress is lost, as that of the last moments before a crash
	readDelay atomic.Int64 // nanoseconds
	getDelay  atomic.Int64
	noDead    atomic.Pointer[error]
	noRoutes  atomic.Pointer[error]
	noSave    atomic.Pointer[error]
	strange   atomic.Bool  // a stored filter that no longer compiles
	most      atomic.Int64 // lanes and retries that SaveProgress takes at once; 0 for any number
}

type troubledBroker struct {
	channel.BrokerLog
	of *troubled
}

func (l *troubled) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := l.Log.Broker(ctx, info)
	return &troubledBroker{b, l}, err
}

func (b *troubledBroker) SaveProgress(ctx context.Context, changes []channel.ShardProgress) error {
	if err := b.of.noSave.Load(); err != nil {
		return *err
	}
	var size int64
	for _, c := range changes {
		for _, l := range c.Lanes {
			size += 1 + int64(len(l.Retries))
		}
	}
	if most := b.of.most.Load(); most > 0 && size > most {
		return &channel.Refused{Err: channel.ErrTooLarge}
	}
	if b.of.forgets.Load() {
		return nil
	}
	return b.BrokerLog.SaveProgress(ctx, changes)
}

func (b *troubledBroker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	if err := b.of.noDead.Load(); err != nil {
		return *err
	}
	return b.BrokerLog.AppendDead(ctx, letters)
}

func (b *troubledBroker) SetRoutes(ctx context.Context, change channel.Routes) (channel.Routes, error) {
	if err := b.of.noRoutes.Load(); err != nil {
		return channel.Routes{}, *err
	}
	return b.BrokerLog.SetRoutes(ctx, change)
}

func (b *troubledBroker) Routes() []channel.Routes {
	changes := b.BrokerLog.Routes()
	if b.of.strange.Load() {
		foreign := channel.Route{Trigger: "t-foreign", Name: "default/foreign", Filter: []byte(`{"filters":[{"telepathy":{}}]}`)}
		changes = append(changes, channel.Routes{Set: []channel.Route{foreign}})
	}
	return changes
}

func (b *troubledBroker) Read(ctx context.Context, shard channel.ShardID, from channel.Position, buf []channel.Record) ([]channel.Record, channel.Position, error) {
	time.Sleep(time.Duration(b.of.readDelay.Load()))
	return b.BrokerLog.Read(ctx, shard, from, buf)
}

func (b *troubledBroker) Get(ctx context.Context, shard channel.ShardID, positions []channel.Position, buf []channel.Record) ([]channel.Record, error) {
	time.Sleep(time.Duration(b.of.getDelay.Load()))
	return b.BrokerLog.Get(ctx, shard, positions, buf)
}

func (w *world) trouble() *troubled {
	l := &troubled{Log: w.log}
	w.log = l
	return l
}

// pendingInLog is what the log takes for pending.
func (w *world) pendingInLog() (n uint64, retries []channel.Retry) {
	log, _ := w.dispatcher.Log(brokerUID)
	for _, shard := range log.Shards() {
		for _, l := range log.Progress(shard).Lanes {
			n += l.Added.GetCardinality()
			retries = append(retries, l.Retries...)
		}
	}
	return n, retries
}

func TestADeadLetterOfATriggerThatIsGonePinsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("late", func(_ int, _ receipt, rw http.ResponseWriter) {
			time.Sleep(10 * time.Second)
			rw.WriteHeader(http.StatusBadRequest)
		})
		w.trigger("late", "", "late")
		w.run()
		w.send("order", 3)
		w.after(time.Second)
		w.remove("late")
		w.apply()
		w.after(time.Minute)
		if n, _ := w.pendingInLog(); n != 0 {
			t.Errorf("%d events are pending in the log for a trigger that is gone", n)
		}
		if n := len(w.letters("late")); n != 0 {
			t.Errorf("%d dead letters for a trigger that is gone: nobody will look at them", n)
		}
	})
}

func TestAStopDoesNotWaitForRoomForADeadLetter(t *testing.T) {
	inWorld(t, func(w *world) {
		full := error(&channel.Refused{Err: channel.ErrQuota, RetryAfter: time.Second})
		log := w.trouble()
		log.noDead.Store(&full)
		failing := w.subscribe("failing", status(http.StatusBadRequest))
		w.trigger("failing", "", "failing")
		w.run()
		w.send("order", 3)
		w.after(time.Minute)
		before := time.Now()
		w.shutdown()
		if took := time.Since(before); took > 2*time.Second {
			t.Errorf("the stop took %v", took)
		}
		log.noDead.Store(nil)
		w.run()
		w.after(time.Minute)
		if failing.count() != 6 || len(w.letters("failing")) != 3 {
			t.Errorf("%d attempts, %d letters; want 6 and 3: each is tried again after the restart", failing.count(), len(w.letters("failing")))
		}
	})
}

func TestAWorkerThatCannotStoreADeadLetterEndsWithItsTrigger(t *testing.T) {
	inWorld(t, func(w *world) {
		full := error(&channel.Refused{Err: channel.ErrQuota, RetryAfter: time.Second})
		log := w.trouble()
		log.noDead.Store(&full)
		w.subscribe("failing", status(http.StatusBadRequest))
		w.trigger("failing", "", "failing")
		w.run()
		w.send("order", 3)
		w.after(time.Second)
		w.remove("failing")
		w.apply()
		w.after(time.Minute)
		log.noDead.Store(nil)
		w.after(time.Minute)
		if n := len(w.letters("failing")); n != 0 {
			t.Errorf("%d dead letters: workers of the trigger were still there", n)
		}
	})
}

func TestEventsAroundADeadOneAreNotPassedOverAfterACrash(t *testing.T) {
	t.Run("no sink", func(t *testing.T) { crashAroundADeadOne(t, false) })
	t.Run("a slow sink", func(t *testing.T) { crashAroundADeadOne(t, true) })
}

// crashAroundADeadOne loses the progress of the last moments, but not the dead
// letter: what was accepted before it is unscanned, it is not.
func crashAroundADeadOne(t *testing.T, sunk bool) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		broken := atomic.Bool{}
		broken.Store(true)
		sub := w.subscribe("sub", func(_ int, r receipt, rw http.ResponseWriter) {
			switch {
			case r.id == "dead":
				rw.WriteHeader(http.StatusBadRequest)
			case broken.Load():
				time.Sleep(time.Hour)
			}
		})
		more := []func(*config.DeliverySpec){timeout("PT2H")}
		if sunk {
			w.subscribe("graves", hang(10*time.Second))
			more = append(more, sink("graves"))
		}
		w.options.DrainTimeout = time.Second
		w.trigger("sub", "", "sub", delivery(0, "", "", more...))
		w.run()
		keyed := func(id string) event.Event {
			e, err := event.Edit(newEvent(t, id, "order")).Set(event.ExtPartition, "one").Build()
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		w.append(keyed("saved"))
		w.after(time.Second)
		log.forgets.Store(true)
		for _, id := range []string{"a", "b", "c", "dead"} {
			w.append(keyed(id))
		}
		w.after(time.Second)
		w.shutdown()
		log.forgets.Store(false)
		broken.Store(false)
		before := sub.count()
		log.readDelay.Store(int64(1500 * time.Millisecond))
		log.getDelay.Store(int64(time.Second))
		w.run()
		w.after(time.Minute)
		got := map[string]int{}
		for _, r := range sub.receipts()[before:] {
			got[r.id]++
		}
		if fmt.Sprint(got) != "map[a:1 b:1 c:1 saved:1]" || w.lane("sub").Backlog != 0 {
			t.Errorf("delivered after the crash: %v, backlog %d", got, w.lane("sub").Backlog)
		}
	})
}

func TestTheSinkHasItsOwnAttemptsAfterARestart(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("failing", status(http.StatusInternalServerError))
		graves := w.subscribe("graves", func(n int, _ receipt, rw http.ResponseWriter) {
			switch n {
			case 1:
				time.Sleep(time.Hour)
			case 2, 3:
				rw.WriteHeader(http.StatusServiceUnavailable)
			}
		})
		w.options.DrainTimeout = time.Second
		w.trigger("failing", "", "failing", delivery(3, "linear", "PT1S", sink("graves"), timeout("PT2H")))
		w.run()
		w.send("order", 1)
		w.after(time.Minute)
		w.shutdown()
		w.run()
		w.after(time.Hour)
		if graves.count() != 4 {
			t.Errorf("the sink was tried %d times, want once before the restart and until it took the event after it", graves.count())
		}
	})
}

func TestADeadEventStaysDeadWhateverIsSavedLate(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		failing := w.subscribe("failing", status(http.StatusServiceUnavailable))
		w.subscribe("graves", hang(time.Hour))
		w.options.DrainTimeout = time.Second
		w.trigger("failing", "", "failing", delivery(1, "", "", sink("graves"), timeout("PT2H")))
		w.run()
		w.send("order", 1) // attempts at 0 and 50 ms: dead before progress is saved
		w.after(time.Second)
		if _, retries := w.pendingInLog(); len(retries) != 1 || !retries[0].Dead {
			t.Errorf("retries in the log: %+v, want one that is dead", retries)
		}
		log.forgets.Store(true)
		w.shutdown()
		log.forgets.Store(false)
		w.run()
		w.after(time.Minute)
		if failing.count() != 2 || len(w.letters("failing")) != 1 {
			t.Errorf("%d attempts, %d letters; want 2 and 1", failing.count(), len(w.letters("failing")))
		}
	})
}

func TestProgressThatIsRefusedForAnyReasonIsSavedLater(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		away := error(&channel.Refused{Err: channel.ErrUnavailable, RetryAfter: time.Second})
		w.subscribe("failing", status(http.StatusServiceUnavailable))
		w.trigger("failing", "", "failing", delivery(50, "linear", "PT10M"))
		w.run()
		log.noSave.Store(&away)
		w.send("order", 10)
		w.after(time.Second)
		log.noSave.Store(nil)
		w.send("order", 1)
		w.after(time.Second)
		if n, _ := w.pendingInLog(); n != 11 {
			t.Errorf("%d events are pending in the log, want 11: what is not is lost in a crash", n)
		}
	})
}

func TestProgressThatIsTooLargeForTheLogIsSavedInParts(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		log.most.Store(3)
		w.subscribe("failing", status(http.StatusServiceUnavailable))
		w.trigger("one", "", "failing", delivery(50, "linear", "PT10M"))
		w.trigger("two", "", "failing", delivery(50, "linear", "PT10M"))
		w.run()
		w.send("order", 40)
		w.after(time.Second)
		if n, retries := w.pendingInLog(); n != 80 || len(retries) != 80 {
			t.Errorf("%d events pending in the log, %d with retries; want 80 and 80", n, len(retries))
		}
		broker, _ := w.dispatcher.Log(brokerUID)
		for _, shard := range broker.Shards() {
			if _, next := broker.Range(shard); broker.Progress(shard).Scanned != next {
				t.Errorf("shard %d: scanned to %d of %d", shard, broker.Progress(shard).Scanned, next)
			}
		}
	})
}

// What a broker that cannot start has taken is given back, however often it
// is tried: its triggers' series go when the triggers go.
func TestABrokerThatCannotStartHoldsNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		w.subscribe("sub", nil)
		w.trigger("sub", "", "sub")
		w.run()
		w.send("order", 1)
		w.after(time.Second)
		w.shutdown()

		log.strange.Store(true)
		w.metrics = telemetry.New(nil)
		w.begin()
		for range 3 {
			if err := w.tryApply(); err == nil || !strings.Contains(err.Error(), "telepathy") {
				t.Fatalf("apply: %v, want what is wrong with the stored filter", err)
			}
		}
		log.strange.Store(false)
		w.apply()
		w.send("order", 1)
		w.after(time.Second)
		if s := w.lane("sub"); s.Delivered != 1 {
			t.Fatalf("lane %+v, want one delivered", s)
		}
		w.remove("sub")
		w.apply()
		if n := w.metrics.Lane("default/default", "default/sub").Total(telemetry.Delivered); n != 0 {
			t.Errorf("the trigger is gone and its handle still in use: it counts %d", n)
		}
	})
}

func TestABrokerWhoseTriggersCouldNotBeRecordedTakesNoEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		log := w.trouble()
		sub := w.subscribe("sub", nil)
		w.run() // the network and another broker, which are not in trouble
		full := error(&channel.Refused{Err: channel.ErrQuota, RetryAfter: time.Second})
		log.noRoutes.Store(&full)
		other := &config.Object{Kind: config.KindBroker, Namespace: "default", Name: "other", UID: "b-2", Broker: &config.BrokerSpec{}}
		trig := &config.Object{
			Kind: config.KindTrigger, Namespace: "default", Name: "t2", UID: "t-2",
			Trigger: &config.TriggerSpec{Broker: "other", Subscriber: &config.Destination{URI: "http://sub"}},
		}
		s := config.Compile([]*config.Object{other, trig}, config.Options{DefaultChannel: config.ChannelMemory})
		if err := w.dispatcher.Apply(w.t.Context(), s); !errors.Is(err, channel.ErrQuota) {
			t.Fatalf("apply: %v", err)
		}
		if _, ok := w.dispatcher.Appender("b-2"); ok {
			t.Error("the broker takes events that no trigger set decides over")
		}
		log.noRoutes.Store(nil)
		if err := w.dispatcher.Apply(w.t.Context(), s); err != nil {
			t.Fatal(err)
		}
		appender, ok := w.dispatcher.Appender("b-2")
		if !ok {
			t.Fatal("the broker takes no events")
		}
		if _, err := appender.Append(w.t.Context(), "b-2", one(newEvent(t, "x", "order"))); err != nil {
			t.Fatal(err)
		}
		w.after(time.Second)
		if sub.count() != 1 {
			t.Errorf("%d deliveries, want 1", sub.count())
		}
	})
}
