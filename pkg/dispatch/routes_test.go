package dispatch_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

// An event is matched by the triggers that were in force when it was
// accepted, not by those in force when it is read.
func TestAChangedFilterDecidesOverLaterEventsOnly(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "old", "sub")
		w.run()
		old := w.send("old", 300)
		w.trigger("sub", "new", "sub")
		w.apply()
		w.send("old", 5)
		fresh := w.send("new", 1)
		w.after(time.Second)
		want := map[string]bool{fresh[0]: true}
		for _, id := range old {
			want[id] = true
		}
		for _, r := range sub.receipts() {
			if !want[r.id] {
				t.Errorf("got %s, accepted after the filter had changed", r.id)
			}
			delete(want, r.id)
		}
		if len(want) > 0 {
			t.Errorf("%d events missing", len(want))
		}
	})
}

func TestANewTriggerGetsWhatComesAfterIt(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", nil)
		w.run()
		w.send("order", 50)
		w.trigger("sub", "", "sub")
		w.apply()
		w.send("order", 3)
		w.after(time.Second)
		if sub.count() != 3 {
			t.Errorf("%d events, want the 3 that came after the trigger", sub.count())
		}
	})
}

// The trigger set changes while the dispatcher is away: what was accepted
// before is still matched by the old set.
func TestATriggerChangedWhileTheBrokerWasDownIsNoPuzzle(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "old", "sub")
		w.run()
		appender, _ := w.dispatcher.Appender(brokerUID)
		w.shutdown()
		for i := range 10 { // accepted, never scanned
			e := newEvent(t, "while-down-"+string(rune('a'+i)), "old")
			if _, err := appender.Append(t.Context(), brokerUID, one(e)); err != nil {
				t.Fatal(err)
			}
		}
		w.trigger("sub", "new", "sub")
		w.run()
		w.send("old", 1)
		w.send("new", 1)
		w.after(time.Second)
		if sub.count() != 11 {
			t.Errorf("%d events, want 10 of the old type and 1 of the new", sub.count())
		}
	})
}

func TestARemovedTriggerIsCancelledAndCounted(t *testing.T) {
	inWorld(t, func(w *world) {
		stuck := w.subscribe("stuck", hang(time.Minute))
		w.trigger("stuck", "", "stuck")
		w.run()
		w.send("order", 200)
		w.after(time.Second)
		w.remove("stuck")
		w.apply()
		w.send("order", 10)
		w.after(time.Hour)
		if stuck.count() != 64 {
			t.Errorf("%d attempts, want only the 64 that were in flight", stuck.count())
		}
		for _, l := range w.dispatcher.Lanes(t.Context()) {
			t.Errorf("lane %s is still there", l.Trigger)
		}
		log, _ := w.dispatcher.Log(brokerUID)
		for _, shard := range log.Shards() {
			for _, l := range log.Progress(shard).Lanes {
				if !l.Added.IsEmpty() {
					t.Errorf("shard %d: %d events still pending for a trigger that is gone", shard, l.Added.GetCardinality())
				}
			}
		}
	})
}

// In its grace a trigger keeps matching and is not delivered to.
func TestATriggerThatComesBackInItsGraceHasLostNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "", "sub")
		w.run()
		w.objects["sub"].HeldUntil = time.Now().Add(10 * time.Minute)
		w.apply()
		w.send("order", 30)
		w.after(time.Minute)
		if sub.count() != 0 {
			t.Errorf("%d events delivered to a held trigger", sub.count())
		}
		w.objects["sub"].HeldUntil = time.Time{}
		w.apply()
		w.after(time.Second)
		if sub.count() != 30 {
			t.Errorf("%d events after it came back, want 30", sub.count())
		}
	})
}

func TestATriggerWithABadFilterGetsNothingAndHarmsNobody(t *testing.T) {
	inWorld(t, func(w *world) {
		bad, fine := w.subscribe("bad", nil), w.subscribe("fine", nil)
		w.trigger("bad", "", "bad")
		w.objects["bad"].Trigger.Filter = filter.Spec{Filters: []filter.Dialect{{CESQL: "type = "}}}
		w.trigger("fine", "", "fine")
		w.run()
		w.send("order", 5)
		w.after(time.Second)
		if bad.count() != 0 || fine.count() != 5 {
			t.Errorf("bad got %d, fine %d; want 0, 5", bad.count(), fine.count())
		}
	})
}

// Subscriber and delivery settings are the current ones, whatever the event's age.
func TestAMovedSubscriberGetsWhatIsStillPending(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("old", status(503))
		moved := w.subscribe("new", nil)
		w.trigger("sub", "", "old", delivery(50, "linear", "PT5S"))
		w.run()
		w.send("order", 20)
		w.after(time.Second)
		w.trigger("sub", "", "new", delivery(50, "linear", "PT5S"))
		w.apply()
		w.after(time.Minute)
		if moved.count() != 20 {
			t.Errorf("the new subscriber got %d of 20", moved.count())
		}
	})
}

// keyring is one RequestReply's key.
type keyring struct{ cipher.AEAD }

func (k keyring) Ciphers(secret, namespace, name string) []cipher.AEAD {
	if secret+"/"+namespace+"/"+name != "keys/default/rr" {
		return nil
	}
	return []cipher.AEAD{k}
}

// The filter is compiled again from the log after a restart, with the keys of
// that process: what was accepted before is matched by them.
func TestAStoredFilterOfRequestReplyFindsItsKeysAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		block, err := aes.NewCipher(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		sealer, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		w.options.Keys = keyring{sealer}
		sub := w.subscribe("sub", nil)
		w.trigger("sub", "", "sub", func(o *config.Object) {
			o.Trigger.Filter = filter.Spec{Filters: []filter.Dialect{{CESQL: `KN_VERIFY_CORRELATION_ID(replyid, "rr", "default", "keys", 0, 1)`}}}
		})
		reply := func(id string, valid bool) event.Event {
			nonce := make([]byte, sealer.NonceSize())
			box := sealer.Seal(nonce, nonce, []byte("request"), nil)
			if !valid {
				box[20] ^= 1
			}
			e, err := event.Edit(newEvent(t, id, "reply")).Set("replyid", "request:"+base64.URLEncoding.EncodeToString(box)+":0").Build()
			if err != nil {
				t.Fatal(err)
			}
			return e
		}
		w.run()
		w.append(reply("valid", true), reply("forged", false), newEvent(t, "other", "reply"))
		w.after(time.Second)
		w.shutdown()
		appender := w.log
		if _, err := appender.Append(t.Context(), brokerUID, one(reply("between", true))); err != nil {
			t.Fatal(err)
		}
		w.begin()
		w.apply()
		w.after(time.Second)
		var got []string
		for _, r := range sub.receipts() {
			got = append(got, r.id)
		}
		if fmt.Sprint(got) != "[valid between]" {
			t.Errorf("delivered %v", got)
		}
		w.shutdown()

		w.options.Keys = nil // as if the cluster's log were opened elsewhere
		w.begin()
		if err := w.tryApply(); err == nil || !strings.Contains(err.Error(), "KN_VERIFY_CORRELATION_ID") {
			t.Errorf("apply: %v, want what is wrong with the stored filter", err)
		}
	})
}

// A Broker that is made again under the name of one that is gone has none of
// its events, also while the storage of the old one waits for the end of its
// grace, and also where Triggers belong to both by name.
func TestABrokerMadeAgainHasNoneOfTheOldOnesEvents(t *testing.T) {
	inWorld(t, func(w *world) {
		sub := w.subscribe("sub", status(503))
		w.trigger("sub", "", "sub", func(o *config.Object) {
			o.Trigger.Delivery = &config.DeliverySpec{Retry: ptr(100), BackoffPolicy: ptr("linear"), BackoffDelay: ptr("PT1S")}
		})
		w.run()
		w.send("order", 5)
		w.after(time.Second)
		if sub.count() == 0 {
			t.Fatal("no attempt")
		}

		old := &config.Object{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: brokerUID, Broker: &config.BrokerSpec{}, HeldUntil: time.Now().Add(10 * time.Minute)}
		again := &config.Object{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: "b-2", Broker: &config.BrokerSpec{}}
		put := func(removed []config.Removed, objects ...*config.Object) {
			t.Helper()
			s := config.Compile(append(objects, w.objects["sub"]), config.Options{DefaultChannel: config.ChannelMemory, Removed: removed})
			if err := w.dispatcher.Apply(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		put(nil, old, again)
		w.after(2 * time.Second) // what was in flight has ended
		before := sub.count()
		w.after(5 * time.Minute)
		if got := sub.count() - before; got != 0 {
			t.Errorf("%d attempts for events of the Broker that is gone", got)
		}

		w.metrics.Broker("default/default").Received(202, 7)
		put([]config.Removed{{Kind: config.KindBroker, UID: brokerUID, Namespace: "default", Name: "default", At: time.Now()}}, again)
		if n := w.metrics.Broker("default/default").Total(); n != 7 {
			t.Errorf("the new Broker counts %d events, want its 7: its series went with the old one", n)
		}
	})
}

func ptr[T any](v T) *T { return &v }
