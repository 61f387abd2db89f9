package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/filter"
)

// With somebody to ask, every path but the probes asks, for what it shows.
func TestWhoMayIsAskedForWhatARequestWouldShow(t *testing.T) {
	r := start(t, brokerObject("orders"), triggerObject("ship", "orders", filter.Spec{}))
	var asked *Access
	denied := &Denied{Code: http.StatusForbidden, Reason: "not you"}
	s := New(Options{Source: r, Authorize: func(_ *http.Request, a Access) *Denied {
		asked = &a
		return denied
	}})
	for target, want := range map[string]Access{
		"GET /api/v1/brokers":                                                         {"list", "brokers", ""},
		"GET /api/v1/brokers/default/orders":                                          {"get", "brokers", "default"},
		"POST /api/v1/brokers/default/orders/explain":                                 {"create", "triggers", "default"},
		"GET /api/v1/triggers?namespace=shop":                                         {"list", "triggers", "shop"},
		"GET /api/v1/triggers?broker=shop/default":                                    {"list", "triggers", "shop"},
		"GET /api/v1/triggers?namespace=shop&namespace=x":                             {"list", "triggers", ""},
		"POST /api/v1/triggers/default/ship/pause":                                    {"update", "triggers", "default"},
		"POST /api/v1/triggers/default/ship/resume":                                   {"update", "triggers", "default"},
		"POST /api/v1/triggers/default/ship/skip":                                     {"update", "triggers", "default"},
		"GET /api/v1/triggers/default/ship/blocked":                                   {"get", "triggers", "default"},
		"GET /api/v1/deadletters?trigger=shop/ship":                                   {"list", "deadletters", "shop"},
		"GET /api/v1/deadletters/default/ship/0-1":                                    {"get", "deadletters", "default"},
		"GET /api/v1/tail?broker=default/orders":                                      {"list", "events", "default"},
		"GET /api/v1/backup":                                                          {"list", "backups", ""},
		"GET /api/v1/doctor":                                                          {"list", "diagnoses", ""},
		"GET /api/v1/problems":                                                        {"list", "diagnoses", ""},
		"GET /api/v1/nothing":                                                         {"list", "", ""},
		"GET /api/v1/triggers?nonsense=1":                                             {"list", "triggers", ""},
		"GET /api/v1/deadletters?trigger=shop/ship&%zz=bad":                           {"list", "deadletters", ""},
		"GET /api/v1/jobs?trigger=shop/ship":                                          {"list", "jobs", "shop"},
		"GET /api/v1/jobs/none":                                                       {"get", "jobs", ""},
		"POST /api/v1/jobs/none/cancel":                                               {"update", "jobs", ""},
		"POST /api/v1/jobs/none/resume":                                               {"update", "jobs", ""},
		"POST /api/v1/replays":                                                        {"create", "replays", ""},
		"POST /api/v1/replays {\"trigger\":\"shop/ship\"}":                            {"create", "replays", "shop"},
		"POST /api/v1/deadletters/redrive {\"trigger\":\"shop/ship\",\"nonsense\":1}": {"create", "redrives", "shop"},
		"POST /api/v1/deadletters/discard {\"trigger\":\"shop\"}":                     {"create", "discards", ""},
	} {
		asked = nil
		method, path, _ := strings.Cut(target, " ")
		path, body, _ := strings.Cut(path, " ")
		answer := httptest.NewRecorder()
		request := httptest.NewRequest(method, path, strings.NewReader(body))
		request.Host = "penstock-dispatcher.penstock-system" // is no guard here
		s.ServeHTTP(answer, request)
		if asked == nil || *asked != want || answer.Code != http.StatusForbidden {
			t.Errorf("%s: asked %+v, answer %d, want %+v and 403", target, asked, answer.Code, want)
		}
	}
	for _, probe := range []string{"/healthz", "/readyz"} {
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, probe, nil))
		if answer.Code != http.StatusOK {
			t.Errorf("%s: %d", probe, answer.Code)
		}
	}
	denied = nil
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/api/v1/triggers", nil))
	if answer.Code != http.StatusOK {
		t.Errorf("allowed: %d %s", answer.Code, answer.Body)
	}
}
