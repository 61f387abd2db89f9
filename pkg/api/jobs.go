package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// maxJobBody bounds the body of a request for a job: 1,000 ids and 32
// conditions fit.
const maxJobBody = 256 << 10

// Jobs runs jobs. An error with a Status() int is an answer of that status.
type Jobs interface {
	Begin(ctx context.Context, kind string, q v1.JobRequest, who string) (v1.Job, error)
	Preview(ctx context.Context, kind string, q v1.JobRequest) (v1.JobPreview, error)
	List() []v1.Job
	Get(id string) (v1.Job, bool)
	Cancel(ctx context.Context, id, who string) (v1.Job, error)
	Resume(ctx context.Context, id, who string) (v1.Job, error)
}

// beginJob is the handler of the POSTs that begin a job of a kind. It answers
// 201 with the job, or 200 with the preview that a dry run is.
func (s *Server) beginJob(kind string) func(http.ResponseWriter, *http.Request, url.Values) error {
	return func(w http.ResponseWriter, r *http.Request, _ url.Values) error {
		var q v1.JobRequest
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&q); err != nil {
			return refuse(http.StatusBadRequest, "body: %v", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return refuse(http.StatusBadRequest, "body: want one JSON object and nothing after it")
		}
		if q.DryRun {
			p, err := s.opts.Jobs.Preview(r.Context(), kind, q)
			if err != nil {
				return asAnswer(err)
			}
			return answer(w, p)
		}
		j, err := s.opts.Jobs.Begin(r.Context(), kind, q, s.who(r))
		if err != nil {
			return asAnswer(err)
		}
		w.Header().Set("Location", "/api/v1/jobs/"+j.ID)
		return answerWith(w, http.StatusCreated, j)
	}
}

// asAnswer makes an answer of a refusal.
func asAnswer(err error) error {
	var refusal interface{ Status() int }
	if errors.As(err, &refusal) {
		return &problem{code: refusal.Status(), text: err.Error()}
	}
	return err
}

func (s *Server) listJobs(w http.ResponseWriter, _ *http.Request, q url.Values) error {
	list := v1.JobList{Items: []v1.Job{}}
	for _, j := range s.opts.Jobs.List() {
		namespace, _, _ := strings.Cut(j.Trigger, "/")
		if want := q.Get("namespace"); want != "" && want != namespace {
			continue
		}
		if want := q.Get("trigger"); want != "" && want != j.Trigger {
			continue
		}
		list.Items = append(list.Items, j)
	}
	return answer(w, list)
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	j, ok := s.opts.Jobs.Get(r.PathValue("id"))
	if !ok {
		return refuse(http.StatusNotFound, "no job %.64q; GET /api/v1/jobs lists those there are", r.PathValue("id"))
	}
	return answer(w, j)
}

func (s *Server) cancelJob(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	j, err := s.opts.Jobs.Cancel(r.Context(), r.PathValue("id"), s.who(r))
	if err != nil {
		return asAnswer(err)
	}
	return answer(w, j)
}

func (s *Server) resumeJob(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	j, err := s.opts.Jobs.Resume(r.Context(), r.PathValue("id"), s.who(r))
	if err != nil {
		return asAnswer(err)
	}
	return answer(w, j)
}

// who is what an audit line says of who asked.
func (s *Server) who(r *http.Request) string {
	if s.opts.Who != nil {
		if who := s.opts.Who(r); who != "" {
			return who
		}
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// withJobs is a handler that needs Options.Jobs.
func (s *Server) withJobs(serve func(http.ResponseWriter, *http.Request, url.Values) error) func(http.ResponseWriter, *http.Request, url.Values) error {
	return func(w http.ResponseWriter, r *http.Request, q url.Values) error {
		if s.opts.Jobs == nil {
			return refuse(http.StatusNotImplemented, "this process runs no jobs")
		}
		return serve(w, r, q)
	}
}

// readBody reads the bounded body of a request for a job, and puts it back for
// the handler: whoever decides whether it may be answered has to know the
// namespace in it.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return nil, refuse(http.StatusUnsupportedMediaType, "content-encoding %.64q: send the body uncompressed", encoding)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxJobBody))
	switch {
	case err == nil:
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, refuse(http.StatusRequestEntityTooLarge, "body is longer than %d bytes", maxJobBody)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, refuse(http.StatusRequestTimeout, "the body did not come within %s", s.opts.Timeout)
	default:
		return nil, refuse(http.StatusBadRequest, "read body: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// namespaceIn is the namespace of the Trigger that a body names; "" where it
// cannot be read.
func namespaceIn(body []byte) string {
	var q struct{ Trigger string }
	if json.Unmarshal(body, &q) != nil {
		return ""
	}
	namespace, _, ok := strings.Cut(q.Trigger, "/")
	if !ok {
		return ""
	}
	return namespace
}

// namespaceOf is the namespace of a job; "" for one that there is not.
func (s *Server) namespaceOf(id string) string {
	if s.opts.Jobs == nil {
		return ""
	}
	j, _ := s.opts.Jobs.Get(id)
	namespace, _, _ := strings.Cut(j.Trigger, "/")
	return namespace
}
