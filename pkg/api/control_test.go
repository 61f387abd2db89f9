package api

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/filter"
)

// controlled notes what it is asked for, and answers err.
type controlled struct {
	asked string
	until time.Time
	err   error
}

func (c *controlled) Pause(_ context.Context, trigger channel.UID, until time.Time) error {
	c.asked, c.until = "pause "+string(trigger), until
	return c.err
}

func (c *controlled) Resume(_ context.Context, trigger channel.UID) error {
	c.asked = "resume " + string(trigger)
	return c.err
}

func (c *controlled) Skip(_ context.Context, trigger channel.UID, id channel.ID) error {
	c.asked = "skip " + string(trigger) + " " + id.String()
	return c.err
}

func (c *controlled) Blocked(_ channel.UID, limit int) ([]v1.BlockedKey, int, error) {
	if c.err != nil || limit < 2 {
		return nil, 0, c.err
	}
	return []v1.BlockedKey{{Key: "a", ID: "0-42"}}, 7, nil
}

func TestAPersonControlsATrigger(t *testing.T) {
	r := start(t, brokerObject("orders"), triggerObject("ship", "orders", filter.Spec{}))
	c := &controlled{}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r.lanes = []Lane{{Trigger: "uid-ship", PausedBy: true, PausedUntil: now.Add(time.Hour), Waits: "paused until 2026-03-01T13:00:00Z"}}
	var log bytes.Buffer
	o := options(r)
	o.Control, o.Now, o.Logger = c, func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil))
	o.Who = func(*http.Request) string { return "jane" }
	s := New(o)
	post := func(path, body string, header ...string) *httptest.ResponseRecorder {
		answer := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodPost, "http://localhost/api/v1/triggers/"+path, strings.NewReader(body))
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		log.Reset()
		s.ServeHTTP(answer, request)
		return answer
	}
	d := readDocument(t)
	for _, step := range []struct{ path, body, asked string }{
		{"default/ship/pause", `{"for":"1h"}`, "pause uid-ship"}, {"default/ship/resume", "", "resume uid-ship"},
		{"default/ship/pause", "", "pause uid-ship"}, {"default/ship/skip", `{"id":"0-42"}`, "skip uid-ship 0-42"},
	} {
		answer := post(step.path, step.body)
		if answer.Code != http.StatusOK || c.asked != step.asked {
			t.Errorf("%s: %d %s, asked %q", step.path, answer.Code, answer.Body, c.asked)
			continue
		}
		d.check(t, step.path, d.Components.Schemas["Trigger"], decode[any](t, answer.Result(), 200))
		action, _, _ := strings.Cut(step.asked, " ")
		if line := log.String(); !strings.Contains(line, "msg=audit action="+action+" trigger=default/ship who=jane") || strings.Count(line, "\n") != 1 {
			t.Errorf("%s: audit %q", step.path, line)
		}
	}
	if post("default/ship/pause", `{"for":"PT30M"}`); !c.until.Equal(now.Add(30 * time.Minute)) {
		t.Errorf("paused until %v", c.until)
	}
	c.asked = ""
	for _, bad := range []struct {
		path, body string
		code       int
	}{
		{"default/ship/pause", `{"fro":"1h"}`, 400}, {"default/ship/pause", `{"for":"soon"}`, 400}, {"default/ship/pause", `{"for":"0s"}`, 400},
		{"default/ship/pause", `{"for":"-1h"}`, 400}, {"default/ship/pause", `{} {}`, 400}, {"default/ship/pause", "[", 400},
		{"default/ship/pause", strings.Repeat(" ", maxControl+1), 413}, {"default/ship/pause?for=1h", "", 400},
		{"default/ship/skip", `{"id":"42"}`, 400}, {"default/ship/skip", "", 400}, {"default/none/pause", "", 404},
	} {
		if answer := post(bad.path, bad.body); answer.Code != bad.code || c.asked != "" {
			t.Errorf("%s %.40s: %d %s, asked %q", bad.path, bad.body, answer.Code, answer.Body, c.asked)
		}
	}
	if answer := post("default/ship/pause", "", "Sec-Fetch-Site", "cross-site"); answer.Code != http.StatusForbidden || c.asked != "" {
		t.Errorf("a page of another origin: %d, asked %q", answer.Code, c.asked)
	}
	if answer := post("default/ship/pause", "", "Origin", "http://evil.example"); answer.Code != http.StatusForbidden || c.asked != "" {
		t.Errorf("a page of another origin: %d, asked %q", answer.Code, c.asked)
	}
	for err, code := range map[error]int{
		&Conflict{errors.New("it is not paused")}: 409, &channel.Refused{Err: channel.ErrQuota, RetryAfter: 3 * time.Second}: 503, errors.New("disk gone"): 500,
	} {
		c.err = err
		answer := post("default/ship/resume", "")
		if answer.Code != code || !strings.Contains(answer.Body.String(), err.Error()) || !strings.Contains(log.String(), "msg=audit") {
			t.Errorf("%v: %d %s", err, answer.Code, answer.Body)
		}
	}
}

func TestBlockedKeysAreListed(t *testing.T) {
	r := start(t, brokerObject("orders"), triggerObject("ship", "orders", filter.Spec{}))
	c := &controlled{}
	o := options(r)
	o.Control = c
	server := serve(t, o)
	const path = "/api/v1/triggers/default/ship/blocked"
	if list := get[v1.BlockedList](t, server, path, 200); list.Total != 7 || len(list.Items) != 1 || list.Items[0].ID != "0-42" {
		t.Errorf("%+v", list)
	}
	if list := get[v1.BlockedList](t, server, path+"?limit=1", 200); list.Items == nil {
		t.Error("nothing is null, want an empty list")
	}
	d := readDocument(t)
	d.check(t, "blocked", d.Components.Schemas["BlockedList"], get[any](t, server, path, 200))
	for _, limit := range []string{"0", "1001", "many"} {
		refused(t, server, path+"?limit="+limit, 400)
	}
	c.err = &Conflict{errors.New("it is not ordered")}
	if text := refused(t, server, path, 409); text != "trigger default/ship: it is not ordered" {
		t.Errorf("%q", text)
	}
	o.Control = nil
	refused(t, serve(t, o), path, 409)
}
