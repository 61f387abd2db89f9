package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// route is one path of the API with its one method. docs/openapi.yaml has
// the same list; a test compares them.
type route struct {
	path     string   // pattern of http.ServeMux, without a method
	method   string   // GET (which includes HEAD) or POST; "" for any
	params   []string // query parameters it knows; others are refused
	open     bool     // answers anybody under any Host, as probes and balancers ask
	resource string   // what an authorizer is asked about, see Access
	verb     string   // with what verb; "" is as the method has it
	body     bool     // the namespace asked about is that of the Trigger in its JSON body
	serve    func(w http.ResponseWriter, r *http.Request, q url.Values) error
}

func (s *Server) routes() []route {
	return []route{
		{path: "/healthz", method: http.MethodGet, open: true, serve: s.healthz},
		{path: "/readyz", method: http.MethodGet, open: true, serve: s.readyz},
		{path: "/api/v1/brokers", method: http.MethodGet, resource: "brokers", serve: s.listBrokers},
		{path: "/api/v1/brokers/{namespace}/{name}", method: http.MethodGet, resource: "brokers", serve: s.getBroker},
		{path: "/api/v1/brokers/{namespace}/{name}/explain", method: http.MethodPost, resource: "triggers", serve: s.explain},
		{path: "/api/v1/triggers", method: http.MethodGet, params: []string{"broker", "namespace"}, resource: "triggers", serve: s.listTriggers},
		{path: "/api/v1/triggers/{namespace}/{name}", method: http.MethodGet, resource: "triggers", serve: s.getTrigger},
		{path: "/api/v1/triggers/{namespace}/{name}/pause", method: http.MethodPost, resource: "triggers", verb: "update", serve: s.pause},
		{path: "/api/v1/triggers/{namespace}/{name}/resume", method: http.MethodPost, resource: "triggers", verb: "update", serve: s.resume},
		{path: "/api/v1/triggers/{namespace}/{name}/skip", method: http.MethodPost, resource: "triggers", verb: "update", serve: s.skip},
		{path: "/api/v1/triggers/{namespace}/{name}/blocked", method: http.MethodGet, params: []string{"limit"}, resource: "triggers", serve: s.listBlocked},
		{path: "/api/v1/deadletters", method: http.MethodGet, params: []string{"trigger", "broker", "limit", "cursor"}, resource: "deadletters", serve: s.listDead},
		{path: "/api/v1/deadletters/groups", method: http.MethodGet, params: []string{"trigger", "broker"}, resource: "deadletters", serve: s.groupDead},
		{path: "/api/v1/deadletters/{namespace}/{trigger}/{id}", method: http.MethodGet, resource: "deadletters", serve: s.getDead},
		{path: "/api/v1/events", method: http.MethodGet, params: []string{"broker", "id", "type", "source", "subject", "from", "to", "limit", "cursor"}, resource: "events", serve: s.listEvents},
		{path: "/api/v1/events/{id}", method: http.MethodGet, params: []string{"broker"}, resource: "events", serve: s.getEvent},
		{path: "/api/v1/deadletters/redrive", method: http.MethodPost, resource: "redrives", body: true, serve: s.withJobs(s.beginJob(v1.JobRedrive))},
		{path: "/api/v1/deadletters/discard", method: http.MethodPost, resource: "discards", body: true, serve: s.withJobs(s.beginJob(v1.JobDiscard))},
		{path: "/api/v1/replays", method: http.MethodPost, resource: "replays", body: true, serve: s.withJobs(s.beginJob(v1.JobReplay))},
		{path: "/api/v1/jobs", method: http.MethodGet, params: []string{"namespace", "trigger"}, resource: "jobs", serve: s.withJobs(s.listJobs)},
		{path: "/api/v1/jobs/{id}", method: http.MethodGet, resource: "jobs", verb: "get", serve: s.withJobs(s.getJob)},
		{path: "/api/v1/jobs/{id}/cancel", method: http.MethodPost, resource: "jobs", verb: "update", serve: s.withJobs(s.cancelJob)},
		{path: "/api/v1/jobs/{id}/resume", method: http.MethodPost, resource: "jobs", verb: "update", serve: s.withJobs(s.resumeJob)},
		{path: "/api/v1/tail", method: http.MethodGet, params: []string{"broker", "filter", "type", "source"}, resource: "events", serve: s.tail},
		{path: "/api/v1/backup", method: http.MethodGet, params: []string{"rate"}, resource: "backups", serve: s.backup},
		{path: "/api/v1/doctor", method: http.MethodGet, resource: "diagnoses", serve: s.doctor},
		{path: "/api/v1/problems", method: http.MethodGet, resource: "diagnoses", serve: s.listProblems},
	}
}

// handle puts around a route what all routes share: the guard, the method,
// the parameters and the form of errors.
func (s *Server) handle(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		q, err := s.admit(r, w, req)
		if err == nil {
			err = r.serve(w, req, q)
		}
		if err == nil {
			return
		}
		answer, ours := errors.AsType[*problem](err)
		if !ours {
			if req.Context().Err() != nil {
				return // the client has gone: nobody reads an answer
			}
			s.log.Error("API request failed", "path", r.path, "error", err)
			answer = &problem{code: http.StatusInternalServerError, text: "internal error: " + err.Error()}
		}
		answer.write(w)
	})
}

// admit decides whether a request may reach its route.
func (s *Server) admit(r route, w http.ResponseWriter, req *http.Request) (url.Values, error) {
	if !r.open && s.opts.Authorize == nil {
		if err := s.guard.check(req); err != nil {
			return nil, err
		}
	}
	if !r.allows(req.Method) {
		allowed := r.method
		if allowed == http.MethodGet {
			allowed = "GET, HEAD"
		}
		w.Header().Set("Allow", allowed)
		return nil, refuse(http.StatusMethodNotAllowed, "method %.32q is not allowed here: use %s", req.Method, r.method)
	}
	if r.open {
		return nil, nil
	}
	q, err := parameters(req.URL.RawQuery, r.params)
	namespace := ""
	switch {
	case r.body:
		body, unread := s.readBody(w, req)
		if unread != nil && err == nil {
			err = unread
		}
		namespace = namespaceIn(body)
	case r.resource == "jobs" && req.PathValue("id") != "":
		namespace = s.namespaceOf(req.PathValue("id"))
	}
	if s.opts.Authorize != nil {
		// Before anything is said about the parameters. A query that cannot be
		// read asks for everything.
		if denied := s.authorize(r, w, req, q, namespace); denied != nil {
			return nil, denied
		}
	}
	if r.method == "" {
		return nil, nil
	}
	return q, err
}

func (r route) allows(method string) bool {
	return r.method == "" || method == r.method || (r.method == http.MethodGet && method == http.MethodHead)
}

// parameters reads a query strictly: a parameter that is misspelt or given
// twice is an answer of 400, not a filter that silently matches everything.
func parameters(raw string, known []string) (url.Values, error) {
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "query: %v", err)
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			cure := "this path takes none"
			if len(known) > 0 {
				cure = "known here: " + strings.Join(known, ", ")
			}
			return nil, refuse(http.StatusBadRequest, "unknown parameter %.64q: %s", name, cure)
		}
		if len(values) > 1 {
			return nil, refuse(http.StatusBadRequest, "parameter %s is given %d times: give it once", name, len(values))
		}
		if values[0] == "" {
			return nil, refuse(http.StatusBadRequest, "parameter %s is empty: leave it out or give a value", name)
		}
	}
	return q, nil
}

// fullName splits namespace/name as parameters give it.
func fullName(parameter, text string) (namespace, name string, err error) {
	namespace, name, ok := strings.Cut(text, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return "", "", refuse(http.StatusBadRequest, "parameter %s: %.128q is not NAMESPACE/NAME, as in default/default", parameter, text)
	}
	return namespace, name, nil
}

func (s *Server) unknown(_ http.ResponseWriter, r *http.Request, _ url.Values) error {
	return refuse(http.StatusNotFound, "no such path: %.256q; docs/openapi.yaml lists what there is", r.URL.Path)
}

// refuse is an answer that is not 2xx, in one line.
func refuse(code int, format string, args ...any) *problem {
	return &problem{code: code, text: fmt.Sprintf(format, args...)}
}
