package fleet_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/fleet"
	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// pod is a dispatcher with what its own API would show.
type pod struct {
	ordinal int
	events  []v1.Event // newest first
	letters []v1.DeadLetter
	trigger v1.Trigger
	broker  v1.Broker
	token   string // it asks for; "" lets everybody
	away    bool
	asked   []string
}

func (p *pod) name() string { return fmt.Sprintf("penstock-dispatcher-%d", p.ordinal) }

func (p *pod) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.asked = append(p.asked, r.Method+" "+r.URL.Path)
	if p.token != "" && r.Header.Get("Authorization") != "Bearer "+p.token {
		answer(w, http.StatusForbidden, v1.Error{Error: "no", Code: 403})
		return
	}
	q := r.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if q.Has("limit") && (err != nil || limit < 1 || limit > 1000) {
		answer(w, http.StatusBadRequest, v1.Error{Error: "limit", Code: 400})
		return
	}
	from, _ := strconv.Atoi(q.Get("cursor"))
	switch path := strings.TrimPrefix(r.URL.Path, "/api/v1/"); path {
	case "brokers":
		answer(w, http.StatusOK, v1.BrokerList{Items: []v1.Broker{p.broker}})
	case "triggers/default/orders":
		answer(w, http.StatusOK, p.trigger)
	case "deadletters":
		items, next := page(p.letters, from, limit)
		answer(w, http.StatusOK, v1.DeadLetterList{Items: items, Next: next})
	case "events":
		items, next := page(p.events, from, limit)
		answer(w, http.StatusOK, v1.EventList{Items: items, Next: next})
	default:
		id := strings.TrimPrefix(path, "events/")
		for _, e := range p.events {
			if e.ID == id {
				answer(w, http.StatusOK, v1.EventStory{Event: e})
				return
			}
		}
		answer(w, http.StatusNotFound, v1.Error{Error: "not here: " + path, Code: 404})
	}
}

func page[T any](all []T, from, limit int) ([]T, string) {
	end := min(from+limit, len(all))
	next := ""
	if end < len(all) {
		next = strconv.Itoa(end)
	}
	return all[from:end], next
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

// run starts pods with a fleet around each, and returns the URL of each.
func run(t *testing.T, pods ...*pod) []string {
	t.Helper()
	urls := make([]string, len(pods))
	members := func() []fleet.Member {
		all := make([]fleet.Member, len(pods))
		for i, p := range pods {
			all[i] = fleet.Member{Name: p.name(), Ordinal: p.ordinal, URL: urls[i]}
			if p.away {
				all[i].URL = ""
			}
		}
		return all
	}
	for i, p := range pods {
		p.ordinal = i
		f := fleet.New(fleet.Options{Self: p.name(), Local: p, Members: members, Ordinal: func(s channel.ShardID) int { return int(s) / 16 }})
		server := httptest.NewServer(f)
		t.Cleanup(server.Close)
		urls[i] = server.URL
	}
	return urls
}

func get(t *testing.T, url, token string, into any) (code int, incomplete string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v: %s", url, err, text)
	}
	return resp.StatusCode, resp.Header.Get("Penstock-Incomplete")
}

func TestAnyDispatcherCountsForAll(t *testing.T) {
	earlier, later := noon.Add(-time.Hour), noon
	pods := []*pod{
		{trigger: v1.Trigger{Namespace: "default", Name: "orders", Ready: true, Backlog: 3, Dead: 1, OldestPendingSeconds: 5},
			broker: v1.Broker{Namespace: "default", Name: "default", Ready: true, Bytes: 10, Earliest: &later}},
		{trigger: v1.Trigger{Namespace: "default", Name: "orders", Ready: true, Backlog: 4, Dead: 2, OldestPendingSeconds: 70},
			broker: v1.Broker{Namespace: "default", Name: "default", Ready: true, Bytes: 20, Earliest: &earlier}},
	}
	for _, url := range run(t, pods...) {
		var tr v1.Trigger
		if code, lacks := get(t, url+"/api/v1/triggers/default/orders", "", &tr); code != 200 || lacks != "" || tr.Backlog != 7 || tr.Dead != 3 || tr.OldestPendingSeconds != 70 {
			t.Errorf("%d, %q, %+v", code, lacks, tr)
		}
		var list v1.BrokerList
		if code, _ := get(t, url+"/api/v1/brokers", "", &list); code != 200 || len(list.Items) != 1 || list.Items[0].Bytes != 30 || !list.Items[0].Earliest.Equal(earlier) {
			t.Errorf("%d, %+v", code, list)
		}
	}
}

func TestADispatcherThatIsAwayIsMissedAloud(t *testing.T) {
	pods := []*pod{
		{trigger: v1.Trigger{Namespace: "default", Name: "orders", Backlog: 3}},
		{away: true, events: []v1.Event{{ID: "16-1"}}},
	}
	url := run(t, pods...)[0]
	var tr v1.Trigger
	if code, lacks := get(t, url+"/api/v1/triggers/default/orders", "", &tr); code != 200 || lacks != "penstock-dispatcher-1" || tr.Backlog != 3 {
		t.Errorf("%d, lacks %q, %+v", code, lacks, tr)
	}
	var e v1.Error
	if code, _ := get(t, url+"/api/v1/events/16-1", "", &e); code != http.StatusServiceUnavailable || !strings.Contains(e.Error, "belongs to penstock-dispatcher-1, which does not answer") {
		t.Errorf("%d, %+v", code, e)
	}
}

func TestAnEventIsAskedOfItsOwner(t *testing.T) {
	pods := []*pod{{}, {events: []v1.Event{{ID: "17-4"}}}, {}}
	for i, url := range run(t, pods...) {
		var story v1.EventStory
		if code, _ := get(t, url+"/api/v1/events/17-4", "", &story); code != 200 || story.ID != "17-4" {
			t.Errorf("asked at %d: %d, %+v", i, code, story)
		}
	}
	if len(pods[0].asked)+len(pods[2].asked) != 0 || len(pods[1].asked) != 3 {
		t.Errorf("asked were %q, %q, %q", pods[0].asked, pods[1].asked, pods[2].asked)
	}
}

func TestEventsOfAllComeNewestFirstAndEachOnce(t *testing.T) {
	var pods []*pod
	want := 0
	for i, sizes := range []int{7, 0, 40, 13} {
		p := &pod{}
		for n := sizes; n > 0; n-- {
			p.events = append(p.events, v1.Event{ID: fmt.Sprintf("%d-%d", 16*i, n), Accepted: noon.Add(time.Duration(n*10+i) * time.Second)})
		}
		want += sizes
		pods = append(pods, p)
	}
	url := run(t, pods...)[1]
	for _, limit := range []int{1, 3, 60, 1000} {
		seen := make(map[string]bool)
		var times []time.Time
		cursor := ""
		for range 200 {
			var list v1.EventList
			if code, _ := get(t, fmt.Sprintf("%s/api/v1/events?limit=%d&cursor=%s", url, limit, cursor), "", &list); code != 200 {
				t.Fatalf("status is %d", code)
			}
			for _, e := range list.Items {
				if seen[e.ID] {
					t.Fatalf("limit %d: %s comes twice", limit, e.ID)
				}
				seen[e.ID] = true
				times = append(times, e.Accepted)
			}
			if cursor = list.Next; cursor == "" {
				break
			}
		}
		if len(seen) != want || !slices.IsSortedFunc(times, func(a, b time.Time) int { return b.Compare(a) }) {
			t.Errorf("limit %d: %d events, want %d, in order %v", limit, len(seen), want, times)
		}
	}
}

func TestDeadLettersOfAllAreListedOnce(t *testing.T) {
	var pods []*pod
	for i, n := range []int{5, 0, 9} {
		p := &pod{}
		for k := range n {
			p.letters = append(p.letters, v1.DeadLetter{ID: fmt.Sprintf("%d-%d", 16*i, k)})
		}
		pods = append(pods, p)
	}
	url := run(t, pods...)[0]
	for _, limit := range []int{1, 4, 14, 100} {
		seen := make(map[string]int)
		cursor := ""
		for range 100 {
			var list v1.DeadLetterList
			get(t, fmt.Sprintf("%s/api/v1/deadletters?limit=%d&cursor=%s", url, limit, cursor), "", &list)
			if len(list.Items) > limit {
				t.Fatalf("a page of %d, want %d", len(list.Items), limit)
			}
			for _, d := range list.Items {
				seen[d.ID]++
			}
			if cursor = list.Next; cursor == "" {
				break
			}
		}
		if len(seen) != 14 {
			t.Errorf("limit %d: %d letters, want 14: %v", limit, len(seen), seen)
		}
	}
}

func TestEveryDispatcherAsksWhoMay(t *testing.T) {
	pods := []*pod{{token: "secret"}, {token: "secret"}}
	url := run(t, pods...)[0]
	var list v1.EventList
	if code, _ := get(t, url+"/api/v1/events", "secret", &list); code != 200 {
		t.Errorf("with the token: %d", code)
	}
	if code, _ := get(t, url+"/api/v1/events", "wrong", &list); code != http.StatusForbidden {
		t.Errorf("with another: %d", code)
	}
}

func TestCursorsOfOthersAreRefused(t *testing.T) {
	url := run(t, &pod{}, &pod{})[0]
	for _, query := range []string{"cursor=xyz", "cursor=e30x", "limit=0", "limit=x"} {
		var e v1.Error
		if code, _ := get(t, url+"/api/v1/events?"+query, "", &e); code != http.StatusBadRequest {
			t.Errorf("%s: %d, %+v", query, code, e)
		}
	}
}
