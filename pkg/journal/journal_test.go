package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// TestAnEventHasItsStory tells one with everything in it, from the buffer,
// from the file, from a sealed segment and after a restart.
func TestAnEventHasItsStory(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		began := time.Now().UTC()
		d.accept(7, order(t, "order-7", "subject", "7", "causationid", "click-1", "correlationid", "session-1"))
		id := channel.ID{Position: 7}
		second := began.Add(2 * time.Second)
		d.mail.Attempt(id, Attempt{Number: 1, Start: began, Duration: 3 * time.Millisecond, Status: 503, Error: "status 503",
			Answer: []byte("try later"), Next: second})
		d.mail.Attempt(id, Attempt{Start: second, Duration: time.Second, Error: "connection refused", Spared: true})
		d.mail.Attempt(id, Attempt{Number: 2, Start: second.Add(time.Minute), Duration: time.Second, Status: 404, Error: "status 404", Final: Dead})
		d.mail.Attempt(id, Attempt{Number: 1, Start: second.Add(2 * time.Minute), Status: 200, Sink: true})
		d.mail.Attempt(id, Attempt{Number: 1, Start: second.Add(time.Hour), Duration: time.Millisecond, Status: 200, Final: Delivered,
			Rerun: "redrive-1", Replies: []channel.ID{{Shard: 3, Position: 44}, {Shard: 0, Position: 1 << 40}}})
		d.bill.End(id, second, Cancelled, "trigger is gone")

		want := Story{
			Entry: Entry{
				Broker: "uid-shop", BrokerName: "shop/default", ID: id, Accepted: began, EventID: "order-7", Source: "/shop/orders",
				Type: "order.placed", Subject: "7", CausationID: "click-1", CorrelationID: "session-1", Matched: 2,
			},
			Triggers: []TriggerStory{{
				Trigger: "uid-mail", Name: "shop/mail", Matched: true,
				Attempts: []Attempt{
					{Number: 1, Start: began, Duration: 3 * time.Millisecond, Status: 503, Error: "status 503", Answer: []byte("try later"), Next: second},
					{Start: second, Duration: time.Second, Error: "connection refused", Spared: true},
					{Number: 2, Start: second.Add(time.Minute), Duration: time.Second, Status: 404, Error: "status 404", Final: Dead},
					{Number: 1, Start: second.Add(2 * time.Minute), Status: 200, Sink: true},
					{Number: 1, Start: second.Add(time.Hour), Duration: time.Millisecond, Status: 200, Final: Delivered,
						Rerun: "redrive-1", Replies: []channel.ID{{Shard: 3, Position: 44}, {Shard: 0, Position: 1 << 40}}},
				},
				Final: Delivered, At: second.Add(time.Hour + time.Millisecond),
			}, {
				Trigger: "uid-bill", Name: "shop/bill", Matched: true, Final: Cancelled, At: second, Reason: "trigger is gone",
			}},
		}
		tell := func(from string) {
			t.Helper()
			if got := d.story(id); !reflect.DeepEqual(got, want) {
				t.Errorf("from %s:\n got %+v\nwant %+v", from, got, want)
			}
			if got := d.find(Query{ID: "order-7"}).Events; len(got) != 1 || got[0] != want.Entry {
				t.Errorf("from %s: found %+v", from, got)
			}
			for _, other := range []channel.ID{{Position: 8}, {Shard: 1, Position: 7}} {
				if _, err := d.Story(t.Context(), "uid-shop", other); !errors.Is(err, ErrNotFound) {
					t.Errorf("from %s: story of %s: %v", from, other, err)
				}
			}
			if _, err := d.Story(t.Context(), "uid-other", id); !errors.Is(err, ErrNotFound) {
				t.Errorf("from %s: another broker's event of the same id: %v", from, err)
			}
		}
		tell("the buffer")
		d.settle()
		tell("the file")
		d.stop()
		tell("a stopped journal")
		d = start(t, s, Options{})
		tell("a restarted journal")
		d.mu.Lock()
		d.ageing = true
		d.mu.Unlock()
		d.fill(100, 1)
		if d.segments() != 1 {
			t.Fatalf("%d sealed segments", d.segments())
		}
		tell("a sealed segment")
		d.stop()
		d = start(t, s, Options{})
		tell("a sealed segment after a restart")
		if log := d.log.String(); log != "" {
			t.Errorf("log: %s", log)
		}
	})
}

func TestNobodyWantsToKnow(t *testing.T) {
	var j *Journal
	b := j.Broker("b", "b/b")
	trigger := b.Trigger("t", "b/t")
	b.Matched(0, &channel.Record{Event: order(t, "1")}, []*Trigger{trigger})
	trigger.Attempt(channel.ID{}, Attempt{})
	trigger.End(channel.ID{}, time.Now(), Lost, "")
	if _, err := j.Story(t.Context(), "b", channel.ID{}); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if p, err := j.Find(t.Context(), Query{}); err != nil || len(p.Events) > 0 {
		t.Error(p, err)
	}
	if j.Stats() != (Stats{}) {
		t.Error("it counts")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.Run(ctx); err != nil {
		t.Error(err)
	}
}

// TestAStoryGoesOverManySegments: an event that is retried for hours.
func TestAStoryGoesOverManySegments(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
		id := d.accept(1, order(t, "slow"))
		for i := range 10 {
			d.mail.Attempt(id, Attempt{Number: i + 1, Start: time.Now(), Status: 503})
			d.fill(channel.Position(1000*(i+1)), 600)
		}
		if n := d.segments(); n < 5 {
			t.Fatalf("only %d segments", n)
		}
		tell := func() {
			t.Helper()
			got := d.story(id)
			if len(got.Triggers) != 2 || len(got.Triggers[0].Attempts) != 10 || got.EventID != "slow" || len(got.Gaps) > 0 {
				t.Fatalf("%+v", got)
			}
			for i, a := range got.Triggers[0].Attempts {
				if a.Number != i+1 {
					t.Errorf("attempt %d at %d", a.Number, i)
				}
			}
			for p := range channel.Position(600) {
				if got := d.story(channel.ID{Position: 5000 + p}); got.EventID != fmt.Sprintf("order-%d", 5000+p) || got.Triggers[0].Final != Delivered {
					t.Fatalf("%+v", got)
				}
			}
		}
		tell()
		d.stop()
		d = start(t, s, Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
		tell()
	})
}

// TestAnEventForTenThousandTriggers has one story, whatever a record may hold.
func TestAnEventForTenThousandTriggers(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		var triggers []*Trigger
		for i := range 10_000 {
			triggers = append(triggers, d.shop.Trigger(channel.UID(fmt.Sprintf("uid-%d", i)), fmt.Sprintf("shop/trigger-%d", i)))
		}
		for p := channel.Position(1); p < 4; p++ {
			d.shop.Matched(2, &channel.Record{Position: p, Time: time.Now(), Event: order(t, "all")}, triggers)
		}
		d.shop.Matched(2, &channel.Record{Position: 9, Time: time.Now(), Event: order(t, "none")}, nil)
		tell := func() {
			t.Helper()
			got := d.story(channel.ID{Shard: 2, Position: 2})
			if len(got.Triggers) != 10_000 || got.Matched != 10_000 || got.More {
				t.Fatalf("%d triggers", len(got.Triggers))
			}
			for i, of := range got.Triggers {
				if of.Name != fmt.Sprintf("shop/trigger-%d", i) || !of.Matched {
					t.Fatalf("%d: %+v", i, of)
				}
			}
			if got := d.story(channel.ID{Shard: 2, Position: 9}); len(got.Triggers) != 0 || got.EventID != "none" {
				t.Errorf("%+v", got)
			}
		}
		tell()
		d.settle()
		tell()
		d.stop()
		d = start(t, s, Options{})
		tell()
	})
}

// TestLongTextsAreCut and are still found by the whole of them, and by nothing else.
func TestLongTextsAreCut(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		long := strings.Repeat("é", 3000)
		id := d.accept(1, order(t, long+"a", "subject", long))
		d.accept(2, order(t, long+"b", "subject", "s"))
		d.mail.Attempt(id, Attempt{Error: long, Answer: bytes.Repeat([]byte("x"), 10_000), Rerun: long, Replies: make([]channel.ID, 1000)})
		got := d.story(id)
		a := got.Triggers[0].Attempts[0]
		if len(got.EventID) > maxText || !strings.HasPrefix(long, got.Subject) || !strings.HasPrefix(long, a.Error) || len(a.Error) < maxText-4 ||
			len(a.Answer) != maxAnswer || len(a.Replies) != maxReplies {
			t.Errorf("%+v", got)
		}
		for range 2 {
			if found := d.find(Query{ID: long + "a"}).Events; len(found) != 1 || found[0].ID != id {
				t.Errorf("found %d", len(found))
			}
			if found := d.find(Query{Subject: long}).Events; len(found) != 1 || found[0].ID != id {
				t.Errorf("found %d", len(found))
			}
			if found := d.find(Query{ID: got.EventID}).Events; len(found) != 0 {
				t.Errorf("found %d by the beginning of an id", len(found))
			}
			d.settle()
		}
		d.stop()
		d = start(t, s, Options{}) // the hash of a cut id cannot be made again from what is kept of it
		if found := d.find(Query{ID: long + "a"}).Events; len(found) != 1 || found[0].ID != id {
			t.Errorf("found %d after a restart", len(found))
		}
	})
}

func TestFindGoesFromNewToOld(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		o := Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20}
		d := start(t, s, o)
		other := d.Broker("uid-other", "other/default")
		var noon time.Time
		for i := range 3000 {
			p := channel.Position(i + 1)
			switch {
			case i%10 == 3:
				d.accept(p, order(t, "same", "subject", fmt.Sprint(i%20)))
			case i%10 == 4:
				other.Matched(1, &channel.Record{Position: p, Time: time.Now(), Event: order(t, "same")}, nil)
			default:
				d.accept(p, order(t, fmt.Sprintf("order-%d", p), "type", "order.paid", "source", fmt.Sprint("/till/", i%2)))
			}
			if i == 1500 {
				noon = time.Now()
			}
			time.Sleep(time.Millisecond)
		}
		check := func() {
			t.Helper()
			for _, c := range []struct {
				name string
				q    Query
				want int
				is   func(Entry) bool
			}{
				{"all", Query{}, 3000, func(Entry) bool { return true }},
				{"id", Query{ID: "same"}, 600, func(e Entry) bool { return e.EventID == "same" }},
				{"id in a broker", Query{ID: "same", Broker: "uid-other"}, 300, func(e Entry) bool { return e.BrokerName == "other/default" }},
				{"id and subject", Query{ID: "same", Subject: "13"}, 150, func(e Entry) bool { return e.Subject == "13" }},
				{"type", Query{Type: "order.paid"}, 2400, func(e Entry) bool { return e.Type == "order.paid" }},
				{"source", Query{Source: "/till/1", Type: "order.paid"}, 1200, func(e Entry) bool { return e.Source == "/till/1" }},
				{"since noon", Query{From: noon}, 1500, func(e Entry) bool { return !e.Accepted.Before(noon) }},
				{"until noon", Query{To: noon}, 1501, func(e Entry) bool { return !e.Accepted.After(noon) }},
				{"none", Query{ID: "no"}, 0, nil},
				{"none by type", Query{Type: "no"}, 0, nil},
			} {
				for _, limit := range []int{7, 1000} {
					c.q.Limit = limit
					found := d.all(c.q)
					if len(found) != c.want {
						t.Errorf("%s, limit %d: found %d, want %d", c.name, limit, len(found), c.want)
					}
					for i, e := range found {
						if !c.is(e) || i > 0 && e.ID.Position >= found[i-1].ID.Position {
							t.Fatalf("%s: %+v after %+v", c.name, e, found[max(0, i-1)])
						}
					}
				}
			}
		}
		check()
		d.stop()
		d = start(t, s, o)
		check()
	})
}

// TestFindGoesOnWhereItWas while the journal moves on below it.
func TestFindGoesOnWhereItWas(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{SegmentBytes: leastSegment, MaxBytes: 16 << 20})
		for p := channel.Position(1); p <= 50; p++ {
			d.accept(p, order(t, "x"))
		}
		want := channel.Position(50)
		q := Query{Limit: 7}
		for {
			page := d.find(q)
			for _, e := range page.Events {
				if e.ID.Position != want {
					t.Fatalf("event %d, want %d", e.ID.Position, want)
				}
				want--
			}
			if q.Cursor = page.Next; page.Next == "" {
				break
			}
			d.fill(channel.Position(1000*int(want+1)), 250) // from the buffer to the file to a sealed segment
		}
		if want != 0 {
			t.Errorf("ended before %d", want)
		}
		for _, bad := range []string{"x", "1-2", "1-2-3-4", "1-2--3", "01-2-3", strings.Repeat("1", 1000)} {
			if _, err := d.Find(t.Context(), Query{Cursor: bad}); !errors.Is(err, ErrCursor) {
				t.Errorf("cursor %.20q: %v", bad, err)
			}
		}
	})
}

// TestFindLooksAtSoMuchAndNoMore: a search for what is not there comes back.
func TestFindLooksAtSoMuchAndNoMore(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		e := order(t, "x")
		for p := range channel.Position(maxScan + maxScan/2) {
			d.accept(p+1, e)
			if p%1000 == 0 {
				d.settle()
			}
		}
		p := d.find(Query{Type: "nothing"})
		if len(p.Events) != 0 || p.Next == "" {
			t.Errorf("%d events, next %q", len(p.Events), p.Next)
		}
		if p = d.find(Query{Type: "nothing", Cursor: p.Next}); len(p.Events) != 0 || p.Next != "" {
			t.Errorf("%d events, next %q", len(p.Events), p.Next)
		}
	})
}

// TestAfterARestartEventsAreMatchedAgain and are one event still.
func TestAfterARestartEventsAreMatchedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, s store) {
		d := start(t, s, Options{})
		e := order(t, "order-1")
		id := d.accept(1, e)
		d.mail.Attempt(id, Attempt{Number: 1, Start: time.Now(), Status: 500})
		d.stop()
		d = start(t, s, Options{})
		d.accept(1, e)
		d.mail.Attempt(id, Attempt{Number: 2, Start: time.Now().Add(time.Second), Status: 200, Final: Delivered})
		if got := d.story(id); len(got.Triggers) != 2 || len(got.Triggers[0].Attempts) != 2 || got.Triggers[0].Final != Delivered {
			t.Errorf("%+v", got)
		}
		if got := d.find(Query{}).Events; len(got) != 1 {
			t.Errorf("found %d times", len(got))
		}
	})
}
