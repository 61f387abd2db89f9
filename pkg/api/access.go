package api

import (
	"cmp"
	"net/http"
	"net/url"
	"strings"
)

// AccessGroup is the API group of the resources that an Access names. They are
// words for an authorizer; no object of theirs exists.
const AccessGroup = "penstock.dev"

// Access is what a request asks for, in the words of Kubernetes' authorization:
// get deadletters in a namespace, or in all of them.
type Access struct {
	Verb      string // get, list, create or update
	Resource  string // brokers, triggers, deadletters, redrives, discards, replays, jobs, events, backups or diagnoses, of AccessGroup
	Namespace string // "" is all
}

// Denied is why a request may not reach its answer.
type Denied struct {
	Code   int    // 401, 403, or 503 where nobody could be asked
	Reason string // one line for who asks
}

func (d *Denied) Error() string { return d.Reason }

// access is what a request to the route asks for. A namespace that cannot be
// read off the request is all of them: the wider right is asked for. namespace
// is the one that its body, or the job it names, belongs to; "" for none.
func (r route) access(req *http.Request, q url.Values, namespace string) Access {
	a := Access{Verb: "get", Resource: r.resource, Namespace: cmp.Or(req.PathValue("namespace"), namespace)}
	if a.Namespace == "" {
		a.Verb = "list"
		for _, parameter := range []string{"namespace", "trigger", "broker"} {
			if value := q.Get(parameter); value != "" {
				a.Namespace, _, _ = strings.Cut(value, "/")
				break
			}
		}
	}
	if req.Method == http.MethodPost {
		a.Verb = "create"
	}
	a.Verb = cmp.Or(r.verb, a.Verb)
	return a
}

// authorize asks who may.
func (s *Server) authorize(r route, w http.ResponseWriter, req *http.Request, q url.Values, namespace string) error {
	denied := s.opts.Authorize(req, r.access(req, q, namespace))
	if denied == nil {
		return nil
	}
	p := &problem{code: denied.Code, text: denied.Reason}
	switch denied.Code {
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case http.StatusServiceUnavailable:
		p.retryAfter = 1
	}
	return p
}
