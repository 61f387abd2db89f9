package dispatch_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// replyWith answers with an event of a type.
func replyWith(eventType string) func(int, receipt, http.ResponseWriter) {
	return func(_ int, r receipt, rw http.ResponseWriter) {
		h := rw.Header()
		h.Set("Ce-Id", "re-"+r.id)
		h.Set("Ce-Source", "/replier")
		h.Set("Ce-Specversion", "1.0")
		h.Set("Ce-Type", eventType)
		fmt.Fprint(rw, "reply")
	}
}

func TestAReplyIsANewEventForAllTriggers(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("asker", replyWith("answer"))
		listener := w.subscribe("listener", nil)
		w.trigger("asker", "question", "asker")
		w.trigger("listener", "answer", "listener")
		w.run()
		ids := w.send("question", 1)
		w.after(time.Second)
		got := listener.receipts()
		if len(got) != 1 || got[0].id != "re-"+ids[0] || got[0].body != "reply" {
			t.Fatalf("listener got %v", got)
		}
		if got[0].header.Get("Ce-Knativebrokerttl") != "" {
			t.Error("the loop counter reached a subscriber")
		}
		if got[0].header.Get("Ce-Knativearrivaltime") == "" {
			t.Error("the reply has no arrival time")
		}
	})
}

func TestRepliesNameTheChainOfTheirCauses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("first", replyWith("answer"))
		w.subscribe("second", replyWith("answer to the answer"))
		w.subscribe("knowing", func(n int, r receipt, rw http.ResponseWriter) {
			rw.Header().Set("Ce-Causationid", "moon")
			rw.Header().Set("Ce-Correlationid", "tides")
			replyWith("own words")(n, r, rw)
		})
		listener := w.subscribe("listener", nil)
		w.trigger("first", "question", "first")
		w.trigger("second", "answer", "second")
		w.trigger("knowing", "answer to the answer", "knowing")
		w.trigger("answers", "answer", "listener")
		w.trigger("answers-to-answers", "answer to the answer", "listener")
		w.trigger("own-words", "own words", "listener")
		w.run()
		id := w.send("question", 1)[0]
		w.after(time.Second)
		got := make(map[string]string)
		for _, r := range listener.receipts() {
			got[r.id] = r.header.Get("Ce-Causationid") + ", " + r.header.Get("Ce-Correlationid")
		}
		want := map[string]string{
			"re-" + id:       id + ", " + id,
			"re-re-" + id:    "re-" + id + ", " + id,
			"re-re-re-" + id: "moon, tides",
		}
		if !maps.Equal(got, want) {
			t.Errorf("cause and beginning of each reply:\n%v, want\n%v", got, want)
		}
	})
}

func TestTriggersThatAnswerEachOtherForEverAreStopped(t *testing.T) {
	inWorld(t, func(w *world) {
		mirror := w.subscribe("mirror", replyWith("ping"))
		w.trigger("mirror", "ping", "mirror")
		w.run()
		w.send("ping", 1)
		w.after(time.Hour)
		if mirror.count() != 255 {
			t.Errorf("%d passes, want 255", mirror.count())
		}
		if n := len(w.letters("mirror")); n != 1 {
			t.Errorf("%d dead letters, want 1: the event whose reply had no passes left", n)
		}
	})
}

func TestTheBodyOfA202IsNoReply(t *testing.T) {
	inWorld(t, func(w *world) {
		w.subscribe("asker", func(n int, r receipt, rw http.ResponseWriter) {
			h := rw.Header()
			h.Set("Ce-Id", "x")
			h.Set("Ce-Source", "/x")
			h.Set("Ce-Specversion", "1.0")
			h.Set("Ce-Type", "answer")
			rw.WriteHeader(http.StatusAccepted)
			fmt.Fprint(rw, "not a reply")
		})
		listener := w.subscribe("listener", nil)
		w.trigger("asker", "question", "asker")
		w.trigger("listener", "answer", "listener")
		w.run()
		w.send("question", 1)
		w.after(time.Second)
		if listener.count() != 0 || w.lane("asker").Delivered != 1 {
			t.Errorf("listener got %d, asker delivered %d; want 0, 1", listener.count(), w.lane("asker").Delivered)
		}
	})
}

// fullFor refuses the first appends after the events of the story are in.
type fullFor struct {
	channel.Log
	refusals atomic.Int32
}

func (f *fullFor) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error) {
	if f.refusals.Add(-1) >= 0 {
		return nil, &channel.Refused{Err: channel.ErrFull, RetryAfter: time.Second}
	}
	return f.Log.Append(ctx, broker, events)
}

// Settle last: an event whose reply could not be stored has not been
// delivered, and its subscriber is asked again.
func TestAnEventIsNotSettledBeforeItsReplyIsStored(t *testing.T) {
	inWorld(t, func(w *world) {
		full := &fullFor{Log: w.log}
		w.log = full
		asker := w.subscribe("asker", replyWith("answer"))
		listener := w.subscribe("listener", nil)
		w.trigger("asker", "question", "asker", delivery(5, "linear", "PT10S"))
		w.trigger("listener", "answer", "listener")
		w.run()
		w.send("question", 1)
		full.refusals.Store(2)
		w.after(5 * time.Second)
		if s := w.lane("asker"); s.Backlog != 1 || s.Delivered != 0 {
			t.Errorf("asker %+v: want its event pending", s)
		}
		w.after(time.Minute)
		if asker.count() != 3 || listener.count() != 1 || w.lane("asker").Backlog != 0 {
			t.Errorf("asker asked %d times, listener got %d, backlog %d; want 3, 1, 0", asker.count(), listener.count(), w.lane("asker").Backlog)
		}
	})
}

// deadFor cannot store dead letters for a while.
type deadFor struct {
	channel.Log
	until time.Time
}

type deadForBroker struct {
	channel.BrokerLog
	until *time.Time
}

func (d *deadFor) Broker(ctx context.Context, info channel.BrokerInfo) (channel.BrokerLog, error) {
	b, err := d.Log.Broker(ctx, info)
	return &deadForBroker{b, &d.until}, err
}

func (d *deadForBroker) AppendDead(ctx context.Context, letters []channel.DeadLetter) error {
	if time.Now().Before(*d.until) {
		return &channel.Refused{Err: channel.ErrQuota, RetryAfter: 5 * time.Second}
	}
	return d.BrokerLog.AppendDead(ctx, letters)
}

func TestAnEventIsNotSettledBeforeItsDeadLetterIsStored(t *testing.T) {
	inWorld(t, func(w *world) {
		w.log = &deadFor{Log: w.log, until: time.Now().Add(time.Minute)}
		w.subscribe("failing", status(http.StatusBadRequest))
		w.trigger("failing", "", "failing")
		w.run()
		w.send("order", 1)
		w.after(30 * time.Second)
		if s := w.lane("failing"); s.Backlog != 1 || s.Dead != 0 {
			t.Errorf("lane %+v while no dead letter can be stored: want it pending", s)
		}
		w.after(time.Minute)
		if s := w.lane("failing"); s.Backlog != 0 || len(w.letters("failing")) != 1 {
			t.Errorf("backlog %d, %d letters; want 0, 1", s.Backlog, len(w.letters("failing")))
		}
	})
}

func TestAMalformedReplyIsAFailedAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		asker := w.subscribe("asker", func(n int, r receipt, rw http.ResponseWriter) {
			if n == 1 {
				rw.Header().Set("Ce-Specversion", "1.0") // and nothing else
			}
		})
		w.trigger("asker", "question", "asker", delivery(3, "linear", "PT1S"))
		w.run()
		w.send("question", 1)
		w.after(time.Minute)
		if asker.count() != 2 || w.lane("asker").Delivered != 1 {
			t.Errorf("%d attempts, %d delivered; want 2, 1", asker.count(), w.lane("asker").Delivered)
		}
	})
}
