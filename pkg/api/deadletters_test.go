package api

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
)

func TestDeadLettersComeInPagesAcrossBrokers(t *testing.T) {
	r := start(t, brokerObject("a"), brokerObject("b"), brokerObject("empty"),
		triggerObject("ta", "a", filter.Spec{}), triggerObject("tb", "b", filter.Spec{}))
	want := map[string]bool{}
	for _, broker := range []string{"a", "b"} {
		for i := range 70 {
			e := newEvent(t, fmt.Sprintf("id=%s%d", broker, i), `data={"big":"data"}`)
			r.bury(broker, letter(e, r.append(broker, e)[0], "t"+broker))
			want[e.ID()] = true
		}
	}
	server := serve(t, options(r))
	for _, limit := range []int{1, 7, 35, 70, 140, 1000} {
		seen := map[string]bool{}
		query, pages := fmt.Sprintf("?limit=%d", limit), 0
		for {
			list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters"+query, 200)
			pages++
			if len(list.Items) > limit || pages > 200 {
				t.Fatalf("limit %d: page %d has %d items", limit, pages, len(list.Items))
			}
			for _, d := range list.Items {
				if seen[d.EventID] {
					t.Fatalf("limit %d: %s comes twice", limit, d.EventID)
				}
				seen[d.EventID] = true
				if d.Event != nil {
					t.Fatalf("limit %d: the list carries events: %s", limit, d.Event)
				}
				if wantTrigger := "default/t" + d.EventID[:1]; d.Trigger != wantTrigger || d.Broker != "default/"+d.EventID[:1] {
					t.Fatalf("letter %+v, want trigger %s", d, wantTrigger)
				}
			}
			if list.Next == "" {
				break
			}
			query = fmt.Sprintf("?limit=%d&cursor=%s", limit, url.QueryEscape(list.Next))
		}
		if len(seen) != len(want) {
			t.Errorf("limit %d: %d letters, want %d", limit, len(seen), len(want))
		}
	}
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters?trigger=default/tb&limit=1000", 200); len(list.Items) != 70 || list.Next != "" {
		t.Errorf("of one trigger: %d letters, next %q", len(list.Items), list.Next)
	}
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters?broker=default/a&limit=1000", 200); len(list.Items) != 70 || list.Next != "" {
		t.Errorf("of one broker: %d letters, next %q", len(list.Items), list.Next)
	}
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters?broker=default/empty", 200); list.Items == nil || len(list.Items) != 0 {
		t.Errorf("of a broker without any: %+v, want an empty list", list)
	}
	if got := refused(t, server, "/api/v1/deadletters?broker=default/a&trigger=default/tb", 400); !strings.Contains(got, "default/b") {
		t.Errorf("trigger of another broker: %q", got)
	}
}

func TestDeadLetterShowsTheEventAndWhyItDied(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	e := newEvent(t, "id=o-1", "subject=42", "region=eu", `data={"total": 12.50}`)
	id := r.append("shop", e)[0]
	binary := letter(e, id, "orders")
	binary.Answer = []byte{0xff, 0x00}
	r.bury("shop", binary)
	server := serve(t, options(r))
	d := get[v1.DeadLetter](t, server, "/api/v1/deadletters/default/orders/"+id.String(), 200)
	if d.ID != id.String() || d.Trigger != "default/orders" || d.Attempts != 11 || d.Reason != "status 503" || d.Code != 503 ||
		d.Destination != "http://localhost:3000/orders" || d.EventSubject != "42" || d.Died.Sub(d.Accepted).Minutes() != 5 {
		t.Errorf("dead letter %+v", d)
	}
	if d.Answer != "" || string(d.AnswerBase64) != "\xff\x00" {
		t.Errorf("answer %q %x, want the bytes in base64", d.Answer, d.AnswerBase64)
	}
	var shown map[string]any
	if err := json.Unmarshal(d.Event, &shown); err != nil {
		t.Fatal(err)
	}
	if shown["id"] != "o-1" || shown["region"] != "eu" || fmt.Sprint(shown["data"]) != "map[total:12.5]" {
		t.Errorf("event %s", d.Event)
	}
}

func TestDeadLettersOutliveTheirTrigger(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}))
	e := newEvent(t)
	id := r.append("shop", e)[0]
	r.bury("shop", letter(e, id, "orders"))
	server := serve(t, options(r))
	show := "/api/v1/deadletters/default/orders/" + id.String()

	r.configure(brokerObject("shop"))
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters?trigger=default/orders", 200); len(list.Items) != 1 {
		t.Errorf("letters of a trigger that is gone: %+v", list)
	}
	get[v1.DeadLetter](t, server, show, 200)
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters", 200); len(list.Items) != 1 {
		t.Errorf("all letters: %+v", list)
	}

	again := triggerObject("orders", "shop", filter.Spec{})
	again.UID = channel.UID("another")
	r.configure(brokerObject("shop"), again)
	if list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters?trigger=default/orders", 200); len(list.Items) != 0 {
		t.Errorf("letters of the new trigger: %+v, want none", list)
	}
	get[v1.DeadLetter](t, server, show, 200)
}

func TestDeadLetterThatDiedAgainIsShownAsItDiedLast(t *testing.T) {
	r := start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{}), triggerObject("mail", "shop", filter.Spec{}))
	e := newEvent(t)
	id := r.append("shop", e)[0]
	again := letter(e, id, "orders")
	again.Reason = "status 410"
	r.bury("shop", letter(e, id, "orders"), letter(e, id, "mail"), again)
	server := serve(t, options(r))
	show := "/api/v1/deadletters/default/orders/" + id.String()
	if d := get[v1.DeadLetter](t, server, show, 200); d.Number != 3 || d.Reason != "status 410" {
		t.Errorf("the letter shown is %+v", d)
	}
	list := get[v1.DeadLetterList](t, server, "/api/v1/deadletters", 200)
	if len(list.Items) != 3 || list.Items[0].Number != 1 || list.Items[1].Number != 2 || list.Items[2].Number != 3 {
		t.Errorf("the letters listed are %+v", list.Items)
	}
	log, _ := r.Log("uid-shop")
	if n, err := log.DiscardDead(t.Context(), []uint64{3}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if d := get[v1.DeadLetter](t, server, show, 200); d.Number != 1 || d.Reason != "status 503" {
		t.Errorf("the letter shown is %+v", d)
	}
	if n, err := log.DiscardDead(t.Context(), []uint64{1}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	refused(t, server, show, 404)
	get[v1.DeadLetter](t, server, "/api/v1/deadletters/default/mail/"+id.String(), 200)
}

func TestDeadLettersAreCountedByTriggerAndReason(t *testing.T) {
	r := start(t, brokerObject("a"), brokerObject("b"), brokerObject("empty"),
		triggerObject("ta", "a", filter.Spec{}), triggerObject("tb", "b", filter.Spec{}))
	for _, broker := range []string{"a", "b"} {
		for i := range 7 {
			e := newEvent(t, fmt.Sprintf("id=%s%d", broker, i))
			d := letter(e, r.append(broker, e)[0], "t"+broker)
			if i > 4 {
				d.Reason = "timeout after 30s"
			}
			d.Died = d.Died.Add(time.Duration(i) * time.Hour)
			r.bury(broker, d)
		}
	}
	server := serve(t, options(r))
	all := get[v1.DeadLetterGroupList](t, server, "/api/v1/deadletters/groups", 200).Items
	var counts []string
	for _, g := range all {
		counts = append(counts, fmt.Sprintf("%s %s %s: %d in %v", g.Broker, g.Trigger, g.Reason, g.Count, g.Last.Sub(*g.First)))
	}
	want := []string{
		"default/a default/ta status 503: 5 in 4h0m0s", "default/b default/tb status 503: 5 in 4h0m0s",
		"default/a default/ta timeout after 30s: 2 in 1h0m0s", "default/b default/tb timeout after 30s: 2 in 1h0m0s",
	}
	if !slices.Equal(counts, want) {
		t.Errorf("groups\n%q, want\n%q", counts, want)
	}
	for query, n := range map[string]int{"?trigger=default/tb": 2, "?broker=default/a": 2, "?broker=default/empty": 0} {
		if list := get[v1.DeadLetterGroupList](t, server, "/api/v1/deadletters/groups"+query, 200); list.Items == nil || len(list.Items) != n {
			t.Errorf("%s: %+v, want %d groups", query, list.Items, n)
		}
	}
	for query, code := range map[string]int{"?trigger=default/none": 404, "?broker=default/none": 404, "?trigger=none": 400, "?broker=default/a&trigger=default/tb": 400, "?limit=7": 400} {
		refused(t, server, "/api/v1/deadletters/groups"+query, code)
	}
	r.configure(brokerObject("a"), brokerObject("b"))
	if list := get[v1.DeadLetterGroupList](t, server, "/api/v1/deadletters/groups?trigger=default/tb", 200); len(list.Items) != 2 {
		t.Errorf("of a trigger that is gone: %+v", list.Items)
	}
}

// So many reasons that one who looks for a Trigger among the groups misses it.
func TestDeadLetterOfATriggerThatIsGoneIsFoundAmongAnyNumberOfReasons(t *testing.T) {
	r := start(t, brokerObject("a"), brokerObject("b"), triggerObject("tz", "a", filter.Spec{}))
	e := newEvent(t)
	id := r.append("a", e)[0]
	for _, broker := range []string{"a", "b"} {
		var letters []channel.DeadLetter
		for i := range channel.MaxDeadGroups + 10 {
			d := letter(e, id, "many")
			d.Reason = fmt.Sprint("reason ", i)
			letters = append(letters, d, d)
		}
		r.bury(broker, letters...)
	}
	r.bury("a", letter(e, id, "tz"))
	server := serve(t, options(r))
	r.configure(brokerObject("a"), brokerObject("b"))
	get[v1.DeadLetter](t, server, "/api/v1/deadletters/default/tz/"+id.String(), 200)
	refused(t, server, "/api/v1/deadletters/default/tz/0-4711", 404)
	groups := get[v1.DeadLetterGroupList](t, server, "/api/v1/deadletters/groups", 200).Items
	sum := uint64(0)
	for _, g := range groups {
		sum += g.Count
	}
	if len(groups) != channel.MaxDeadGroups || groups[0].Reason != channel.OtherReasons || groups[0].Broker != "" || sum != 4*(channel.MaxDeadGroups+10)+1 {
		t.Errorf("%d groups of %d letters, the first %+v", len(groups), sum, groups[0])
	}
}
