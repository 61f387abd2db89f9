package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

// problem is an error that is an answer.
type problem struct {
	code       int
	text       string
	retryAfter int // seconds; 0 leaves the header out
}

func (p *problem) Error() string { return p.text }

func (p *problem) write(w http.ResponseWriter) {
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.retryAfter))
	}
	body, err := encode(v1.Error{Error: p.text, Code: p.code})
	if err != nil {
		body = nil // cannot be: a string and an integer always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.code)
	_, _ = w.Write(body) // the client may have gone
}

// answer writes a 200 with a JSON body. It is encoded whole first, so that
// what does not encode becomes a 500 and not half an answer.
func answer(w http.ResponseWriter, body any) error { return answerWith(w, http.StatusOK, body) }

// answerWith is answer with another status of success.
func answerWith(w http.ResponseWriter, code int, body any) error {
	text, err := encode(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write(text) // the client may have gone
	return nil
}

// encode is json.Marshal without HTML escapes, on one line with its newline.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// healthz answers whether the process is worth keeping: it answers, and there
// is nothing that only a restart would mend.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	return probe(w, s.opts.Latched)
}

// readyz answers whether events are accepted and stored.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	return probe(w, s.opts.Ready)
}

// probe answers 200, or 503 with the reasons there are against it.
func probe(w http.ResponseWriter, against func() []string) error {
	var reasons []string
	if against != nil {
		reasons = against()
	}
	if len(reasons) == 0 {
		return plain(w, http.StatusOK, "ok\n")
	}
	var text []byte
	for _, reason := range reasons {
		text = append(append(text, reason...), '\n')
	}
	return plain(w, http.StatusServiceUnavailable, string(text))
}

func plain(w http.ResponseWriter, code int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text) // the client may have gone
	return nil
}

func (s *Server) listProblems(w http.ResponseWriter, _ *http.Request, _ url.Values) error {
	list := v1.ProblemList{Items: []v1.Problem{}}
	for _, p := range s.opts.Source.Snapshot().Problems() {
		list.Items = append(list.Items, v1.Problem{Origin: p.Origin, Message: p.Message})
	}
	return answer(w, list)
}
