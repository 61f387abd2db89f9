package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/filter"
)

// clerk takes every job and carries none out.
type clerk struct {
	asked v1.JobRequest
	who   string
}

type refusal int

func (r refusal) Error() string { return "not now" }
func (r refusal) Status() int   { return int(r) }

func (c *clerk) Begin(_ context.Context, kind string, q v1.JobRequest, who string) (v1.Job, error) {
	c.asked, c.who = q, who
	switch q.Trigger {
	case "default/busy":
		return v1.Job{}, refusal(409)
	case "default/broken":
		return v1.Job{}, errors.New("no disk")
	}
	return v1.Job{ID: "j1", Kind: kind, State: v1.JobRunning, Trigger: q.Trigger}, nil
}

func (c *clerk) Preview(_ context.Context, kind string, q v1.JobRequest) (v1.JobPreview, error) {
	return v1.JobPreview{Kind: kind, Trigger: q.Trigger, Sample: []string{}}, nil
}

func (c *clerk) List() []v1.Job {
	return []v1.Job{{ID: "j2", Kind: v1.JobReplay, State: v1.JobDone, Trigger: "shop/a"}, {ID: "j1", Kind: v1.JobRedrive, State: v1.JobDone, Trigger: "default/b"}}
}

func (c *clerk) Get(id string) (v1.Job, bool) {
	for _, j := range c.List() {
		if j.ID == id {
			return j, true
		}
	}
	return v1.Job{}, false
}

func (c *clerk) Cancel(_ context.Context, id, who string) (v1.Job, error) {
	c.who = who
	return v1.Job{ID: id, State: v1.JobCancelled}, nil
}

func (c *clerk) Resume(context.Context, string, string) (v1.Job, error) {
	return v1.Job{}, refusal(409)
}

func TestJobsAreBegunCancelledAndResumedByPost(t *testing.T) {
	c := &clerk{}
	o := options(start(t, brokerObject("shop"), triggerObject("orders", "shop", filter.Spec{})))
	o.Jobs = c
	server := serve(t, o)
	post := func(path, body string, header ...string) *http.Response {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, server.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for path, kind := range map[string]string{"/api/v1/deadletters/redrive": v1.JobRedrive, "/api/v1/deadletters/discard": v1.JobDiscard, "/api/v1/replays": v1.JobReplay} {
		if j := decode[v1.Job](t, post(path, `{"trigger":"default/orders","where":["type=x"]}`), 201); j.Kind != kind || c.who != "127.0.0.1" || len(c.asked.Where) != 1 {
			t.Errorf("%s: %+v by %s for %+v", path, j, c.who, c.asked)
		}
		if p := decode[v1.JobPreview](t, post(path, `{"trigger":"default/orders","dryRun":true}`), 200); p.Kind != kind {
			t.Errorf("%s: %+v", path, p)
		}
		for body, code := range map[string]int{
			``: 400, `nonsense`: 400, `{"trigger":"default/orders"} x`: 400, `{"triger":"default/orders"}`: 400,
			`{"trigger":"default/busy"}`: 409, `{"trigger":"default/broken"}`: 500,
			`{"trigger":"` + strings.Repeat("x", maxJobBody) + `"}`: 413,
		} {
			decode[v1.Error](t, post(path, body), code)
		}
		for _, page := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://evil.example"}} {
			c.asked = v1.JobRequest{}
			if decode[v1.Error](t, post(path, `{"trigger":"default/orders"}`, page...), 403); c.asked.Trigger != "" {
				t.Errorf("%s: a page of another origin began a job", path)
			}
		}
		refused(t, server, path, 405)
	}
	if list := get[v1.JobList](t, server, "/api/v1/jobs?namespace=shop", 200); len(list.Items) != 1 || list.Items[0].ID != "j2" {
		t.Errorf("%+v", list)
	}
	if list := get[v1.JobList](t, server, "/api/v1/jobs?trigger=default/b", 200); len(list.Items) != 1 || list.Items[0].ID != "j1" {
		t.Errorf("%+v", list)
	}
	if j := get[v1.Job](t, server, "/api/v1/jobs/j1", 200); j.Trigger != "default/b" {
		t.Errorf("%+v", j)
	}
	refused(t, server, "/api/v1/jobs/none", 404)
	if j := decode[v1.Job](t, post("/api/v1/jobs/j1/cancel", ""), 200); j.State != v1.JobCancelled {
		t.Errorf("%+v", j)
	}
	decode[v1.Error](t, post("/api/v1/jobs/j1/resume", ""), 409)
	o.Jobs = nil
	refused(t, serve(t, o), "/api/v1/jobs", 501)
}
