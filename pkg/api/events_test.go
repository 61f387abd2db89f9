package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/journal"
)

// fates are where events stand, as a test says.
type fates struct {
	pending map[channel.ID][]Pending
	matched channel.Position // below it, in every shard
}

func (f *fates) Pending(_ channel.UID, id channel.ID) ([]Pending, bool) {
	return f.pending[id], id.Position < f.matched
}
func (f *fates) Unmatched(channel.UID, channel.ShardID) channel.Position { return f.matched }

// chronicle is a running journal in memory.
func chronicle(t *testing.T) *journal.Journal {
	t.Helper()
	j, err := journal.Open("", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return j
}

func states(s v1.EventStory) []string {
	var all []string
	for _, t := range s.Triggers {
		all = append(all, t.Trigger+" "+t.State)
	}
	return all
}

func TestAStorySaysWhatBecameOfAnEventAtEachTrigger(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}), triggerObject("slow", "shop", filter.Spec{}),
		triggerObject("audit", "shop", exact("type", "order.paid")), triggerObject("late", "shop", filter.Spec{}))
	e := newEvent(t, "subject=7", "correlationid=first")
	id := r.append("shop", e)[0]
	next := time.Now().Add(time.Minute).UTC().Truncate(time.Millisecond)
	f := &fates{matched: 100, pending: map[channel.ID][]Pending{id: {{Trigger: "uid-slow", Name: "default/slow", Next: next}}}}
	j := chronicle(t)
	b := j.Broker("uid-shop", "default/shop")
	orders, slow, gone := b.Trigger("uid-orders", "default/orders"), b.Trigger("uid-slow", "default/slow"), b.Trigger("uid-gone", "default/gone")
	began := time.Now().UTC()
	b.Matched(id.Shard, &channel.Record{Position: id.Position, Time: began, Event: e}, []*journal.Trigger{orders, slow, gone})
	orders.Attempt(id, journal.Attempt{Number: 1, Start: began, Duration: time.Second, Status: 503, Error: "status 503", Answer: []byte("busy"), Next: next})
	orders.Attempt(id, journal.Attempt{Number: 2, Start: began.Add(time.Second), Status: 200, Final: journal.Delivered, Replies: []channel.ID{{Shard: 2, Position: 9}}})
	o := options(r)
	o.Journal, o.Fate = j, f
	server := serve(t, o)

	s := get[v1.EventStory](t, server, "/api/v1/events/"+id.String()+"?broker=default/shop", 200)
	if s.EventID != "e1" || s.EventSubject != "7" || s.CorrelationID != "first" || s.Broker != "default/shop" || len(s.Data) == 0 || len(s.Missing) > 0 {
		t.Errorf("story is %+v", s)
	}
	want := []string{"default/orders delivered", "default/slow pending", "default/gone cancelled", "default/audit not matched", "default/late not matched"}
	if got := states(s); !slices.Equal(got, want) {
		t.Fatalf("states are %q, want %q", got, want)
	}
	if a := s.Triggers[0].Attempts; len(a) != 2 || a[0].Error != "status 503" || a[0].Answer != "busy" || a[0].Next == nil || a[0].Seconds != 1 || !slices.Equal(a[1].Replies, []string{"2-9"}) {
		t.Errorf("attempts are %+v", a)
	}
	if n := s.Triggers[1].Next; n == nil || !n.Equal(next) {
		t.Errorf("the next attempt is due at %v", n)
	}
	if why := s.Triggers[3].Why; !strings.Contains(why, "order.paid") {
		t.Errorf("audit did not match because %q", why)
	}
	if why := s.Triggers[4].Why; !strings.Contains(why, "its filter of today matches") {
		t.Errorf("late did not match because %q", why)
	}
	d := readDocument(t)
	d.check(t, "story", d.Components.Schemas["EventStory"], get[any](t, server, "/api/v1/events/"+id.String(), 200))
	d.check(t, "list", d.Components.Schemas["EventList"], get[any](t, server, "/api/v1/events", 200))
}

// The log keeps the dead letter, whatever a crash cost the journal.
func TestADeathThatTheJournalLostIsToldByTheLog(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	e := newEvent(t)
	id := r.append("shop", e)[0]
	r.bury("shop", letter(e, id, "orders"))
	j := chronicle(t)
	b := j.Broker("uid-shop", "default/shop")
	b.Matched(id.Shard, &channel.Record{Position: id.Position, Time: time.Now(), Event: e}, []*journal.Trigger{b.Trigger("uid-orders", "default/orders")})
	o := options(r)
	o.Journal, o.Fate = j, &fates{matched: 100}
	s := get[v1.EventStory](t, serve(t, o), "/api/v1/events/"+id.String(), 200)
	if len(s.Triggers) != 1 || s.Triggers[0].State != v1.StateDead || s.Triggers[0].Reason == "" || s.Triggers[0].Ended == nil {
		t.Errorf("story is %+v", s.Triggers)
	}
}

func TestAnEventIsFoundTheMomentItIsStored(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	f := &fates{matched: 1}
	o := options(r)
	o.Journal, o.Fate = chronicle(t), f
	server := serve(t, o)
	id := r.append("shop", newEvent(t))[0]
	s := get[v1.EventStory](t, server, "/api/v1/events/"+id.String(), 200)
	if s.EventID != "e1" || len(s.Triggers) != 0 || len(s.Missing) != 1 || !strings.Contains(s.Missing[0], "not been matched yet") {
		t.Errorf("story is %+v", s)
	}
	for query, want := range map[string]int{"id=e1": 1, "type=order.created&limit=1": 1, "id=e2": 0, "source=/other": 0, "": 1} {
		if list := get[v1.EventList](t, server, "/api/v1/events?"+query, 200); len(list.Items) != want {
			t.Errorf("%s: %+v, want %d", query, list, want)
		}
	}
}

func TestAnEventIsListedOnceWhoeverKnowsOfIt(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	j := chronicle(t)
	b := j.Broker("uid-shop", "default/shop")
	const events = 40
	for n := range events {
		e := newEvent(t, fmt.Sprint("id=", n))
		id := r.append("shop", e)[0]
		b.Matched(id.Shard, &channel.Record{Position: id.Position, Time: time.Now(), Event: e}, nil)
	}
	o := options(r)
	o.Journal, o.Fate = j, &fates{matched: 9} // the journal has more than has been matched
	server := serve(t, o)
	for _, limit := range []int{2, 7, 100} {
		seen := make(map[string]int)
		path := fmt.Sprintf("/api/v1/events?broker=default/shop&limit=%d", limit)
		for next := path; next != ""; {
			list := get[v1.EventList](t, server, next, 200)
			if len(list.Items) > limit {
				t.Fatalf("a page of %d, want at most %d", len(list.Items), limit)
			}
			for _, e := range list.Items {
				seen[e.ID]++
			}
			if next = ""; list.Next != "" {
				next = path + "&cursor=" + list.Next
			}
		}
		if len(seen) != events {
			t.Errorf("limit %d: %d events", limit, len(seen))
		}
		if limit == 100 && len(slices.DeleteFunc(slices.Collect(maps.Values(seen)), func(n int) bool { return n == 1 })) > 0 {
			t.Errorf("in one page some come twice: %v", seen)
		}
	}
}

func TestQuestionsAboutEventsThatMakeNoSenseAreRefused(t *testing.T) {
	r := start(t, brokerObject("shop"), brokerObject("other"), triggerObject("orders", "shop", filter.Spec{}))
	id := r.append("shop", newEvent(t))[0]
	if other := r.append("other", newEvent(t))[0]; other != id {
		t.Fatalf("the two are %v and %v", id, other)
	}
	o := options(r)
	o.Journal, o.Fate = chronicle(t), &fates{matched: 1}
	server := serve(t, o)
	for path, want := range map[string]struct {
		code int
		text string
	}{
		"/api/v1/events/0-99":                                              {http.StatusNotFound, "no event 0-99: it was never accepted"},
		"/api/v1/events/e1":                                                {http.StatusBadRequest, "GET /api/v1/events?id=e1 looks for"},
		"/api/v1/events/" + id.String():                                    {http.StatusConflict, "add ?broker= with one of default/other, default/shop"},
		"/api/v1/events?broker=default/none":                               {http.StatusNotFound, "no broker"},
		"/api/v1/events?from=yesterday":                                    {http.StatusBadRequest, "from \"yesterday\": want a time"},
		"/api/v1/events?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z": {http.StatusBadRequest, "to is not after from"},
		"/api/v1/events?cursor=nonsense":                                   {http.StatusBadRequest, "unchanged"},
	} {
		if e := get[v1.Error](t, server, path, want.code); !strings.Contains(e.Error, want.text) {
			t.Errorf("%s: %q, want %q", path, e.Error, want.text)
		}
	}
}
