package probe

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func binary(url, id string) Send {
	return Send{URL: url, Body: []byte(`{"n":1}`), Headers: map[string]string{
		"ce-specversion": "1.0", "ce-type": "t", "ce-source": "/s", "ce-id": id, "Content-Type": "application/json",
	}}
}

// name is the receiver that a test server's address stands for: 127.
const name = "127"

func statuses(t *testing.T, url string, ids ...string) (got []int) {
	t.Helper()
	s := NewSender()
	for _, id := range ids {
		got = append(got, s.Send(t.Context(), binary(url, id)).Status)
	}
	return got
}

func equal(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestAMoodGoesStepByStep(t *testing.T) {
	rs := NewReceivers()
	url := serve(t, rs)
	rs.Set(name, Mood{Steps: []Step{{Times: 2, Status: 503}, {Times: 1, Drop: true}, {Times: 1, Status: 422}}})
	if got := statuses(t, url, "a", "a", "a", "b", "b"); !equal(got, []int{503, 503, 0, 422, 200}) {
		t.Errorf("answers %v", got)
	}
	rs.Set(name, Mood{PerID: true, Steps: []Step{{Times: 1, Status: 503}}})
	if got := statuses(t, url, "a", "b", "a", "b"); !equal(got, []int{503, 503, 200, 200}) {
		t.Errorf("answers for each id %v", got)
	}
	rs.Set(name, Mood{Steps: []Step{{For: time.Nanosecond, Status: 503}, {Times: 1, Status: 409}}})
	time.Sleep(time.Millisecond) // real HTTP, so real time
	if got := statuses(t, url, "a", "a"); !equal(got, []int{409, 200}) {
		t.Errorf("answers after the time of the first step %v", got)
	}
}

func TestAReplyIsTheEventChanged(t *testing.T) {
	rs := NewReceivers()
	url := serve(t, rs)
	rs.Set(name, Mood{Steps: []Step{{Reply: &Reply{Set: map[string]string{"type": "answer", "extra": "x"}, Data: `{"n":2}`}}}})
	a := NewSender().Send(t.Context(), binary(url, "a"))
	h := http.Header(a.Headers)
	if a.Status != 200 || h.Get("ce-type") != "answer" || h.Get("ce-extra") != "x" || h.Get("ce-id") != "a" || string(a.Body) != `{"n":2}` {
		t.Errorf("the reply is %v %s", a.Headers, a.Body)
	}
}

func TestWhatCameIsRememberedAndCounted(t *testing.T) {
	rs := NewReceivers()
	url := serve(t, rs)
	rs.Set(name, Mood{Steps: []Step{{Times: 1, Status: 503}}})
	statuses(t, url, "x-0", "x-0", "x-0", "x-2", "other")
	structured := Send{URL: url, Body: []byte(`{"specversion":"1.0","id":"x-3"}`), Headers: map[string]string{"Content-Type": "application/cloudevents+json"}}
	NewSender().Send(t.Context(), structured)
	got := rs.Received(name)
	if got.Total != 6 || len(got.Requests) != 6 || got.Requests[0].Status != 503 || got.Requests[5].ID != "x-3" {
		t.Errorf("remembered %+v", got)
	}
	tally := rs.Tally(name, "x-", 5)
	if tally.Came != 3 || tally.Twice != 1 || tally.Copies != 1 || tally.Lost != 2 || !equal(tally.Missing, []int{1, 4}) {
		t.Errorf("tally %+v", tally)
	}
	huge := binary(url, "huge")
	huge.Body = []byte(strings.Repeat("x", maxBody+1))
	if a := NewSender().Send(t.Context(), huge); a.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body past the bound: status %d", a.Status)
	}
}

func TestAStreamInsistsUntilEveryEventIsAccepted(t *testing.T) {
	rs := NewReceivers()
	url := serve(t, rs)
	rs.Set(name, Mood{PerID: true, Steps: []Step{{Times: 1, Status: 503}, {Times: 1, Drop: true}, {Status: 202}}})
	s := NewSender()
	if !s.Start(context.Background(), "load", Stream{URL: url, Prefix: "e", Rate: 500, Events: 40}) {
		t.Fatal("the stream did not begin")
	}
	if s.Start(context.Background(), "load", Stream{URL: url, Rate: 1}) {
		t.Error("two streams of one name")
	}
	s.Wait()
	p, ok := s.Progress("load")
	if !ok || !p.Done || p.Begun != 40 || p.Accepted != 40 || p.Given != 0 || p.Codes["503"] != 40 || p.Codes["202"] != 40 {
		t.Errorf("progress %+v", p)
	}
	if tally := rs.Tally(name, "e", 40); tally.Lost != 0 || tally.Copies != 0 {
		t.Errorf("tally %+v", tally)
	}
}

func TestAStreamThatIsStoppedBringsWhatItBeganToItsEnd(t *testing.T) {
	rs := NewReceivers()
	url := serve(t, rs)
	rs.Set(name, Mood{Steps: []Step{{Status: 202, Delay: 20 * time.Millisecond}}})
	s := NewSender()
	s.Start(context.Background(), "load", Stream{URL: url, Prefix: "e", Rate: 1000})
	for p, _ := s.Progress("load"); p.Accepted < 10; p, _ = s.Progress("load") {
		time.Sleep(time.Millisecond)
	}
	s.Stop("load")
	s.Wait()
	if p, _ := s.Progress("load"); !p.Done || p.Accepted != p.Begun {
		t.Errorf("progress %+v", p)
	}
}
