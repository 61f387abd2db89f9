// Package fleet makes one API of many: whichever dispatcher of a cluster is
// asked answers for all of them. What belongs to one event is asked of the
// dispatcher that owns its shard; lists and counts are asked of all and put
// together; what changes something is told to all.
//
// It promises that an answer which lacks a dispatcher's part says so, in the
// header Penstock-Incomplete, and that a change which did not reach every
// dispatcher is an error that names those it did not reach. It decides nothing
// about who may: each dispatcher asks for itself, with the caller's own token.
// Answers and bodies are bounded, and so is the time a dispatcher has. A request
// that came from another dispatcher is answered by this one alone, so that none
// goes in circles.
//
// A Fleet may be used by any number of goroutines.
package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// Member is one dispatcher.
type Member struct {
	Name    string
	Ordinal int
	URL     string // of its API; "" while it is away
}

// Options configure a Fleet. Self, Local, Members and Ordinal are needed.
type Options struct {
	Self  string       // name of the member that this process is
	Local http.Handler // its own API

	// Members are all there are to be, by ordinal, this process among them.
	Members func() []Member

	// Ordinal is the member that owns a shard.
	Ordinal func(channel.ShardID) int

	Client  *http.Client  // nil: one without redirects
	Timeout time.Duration // of one member's answer; 0 means 10 s
	Logger  *slog.Logger  // nil is silent
}

const (
	// forwarded marks a request that one member asks of another.
	forwarded = "Penstock-Forwarded"

	// incomplete names the members that an answer lacks.
	incomplete = "Penstock-Incomplete"

	maxBody   = 1 << 20  // of a request that goes to several
	maxAnswer = 64 << 20 // of one member
)

// Fleet is the API of all members as an http.Handler.
type Fleet struct {
	o   Options
	mux *http.ServeMux
}

// New makes a Fleet. It asks nobody yet.
func New(o Options) *Fleet {
	if o.Client == nil {
		o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{o: o, mux: http.NewServeMux()}
	f.routes()
	return f
}

// ServeHTTP answers for all members, or for this one where that is what the
// request asks or where nothing is to be put together.
func (f *Fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := f.mux.Handler(r); pattern == "" || r.Header.Get(forwarded) != "" || len(f.o.Members()) < 2 {
		f.o.Local.ServeHTTP(w, r)
		return
	}
	f.mux.ServeHTTP(w, r)
}

// reply is what one member answered.
type reply struct {
	member Member
	code   int
	header http.Header
	body   []byte
	err    error // it did not answer
}

// question is what one member is asked on behalf of a request.
type question struct {
	member Member
	method string
	path   string // escaped
	query  string
	body   []byte
}

// as is the request itself, as a question to a member.
func as(r *http.Request, m Member, body []byte) question {
	return question{member: m, method: r.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery, body: body}
}

// ask asks one member.
func (f *Fleet) ask(r *http.Request, q question) reply {
	m := q.member
	out := reply{member: m}
	ctx, cancel := context.WithTimeout(r.Context(), f.o.Timeout)
	defer cancel()
	if m.URL == "" && m.Name != f.o.Self {
		out.err = errors.New("it is away")
		return out
	}
	url := m.URL + q.path
	if q.query != "" {
		url += "?" + q.query
	}
	req, err := http.NewRequestWithContext(ctx, q.method, url, bytes.NewReader(q.body))
	if err != nil {
		out.err = err
		return out
	}
	for _, name := range []string{"Authorization", "Accept", "Content-Type"} {
		if values := r.Header.Values(name); len(values) > 0 {
			req.Header[name] = values
		}
	}
	req.Header.Set(forwarded, f.o.Self)
	if m.Name == f.o.Self {
		here := &recorder{header: make(http.Header), code: http.StatusOK}
		req.Host, req.RemoteAddr, req.RequestURI = r.Host, r.RemoteAddr, req.URL.RequestURI()
		f.o.Local.ServeHTTP(here, req)
		out.code, out.header, out.body = here.code, here.header, here.body.Bytes()
		return out
	}
	resp, err := f.o.Client.Do(req)
	if err != nil {
		out.err = err
		return out
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	}
	out.code, out.header, out.body, out.err = resp.StatusCode, resp.Header, text, err
	return out
}

// all asks several questions at once; the replies are in their order.
func (f *Fleet) all(r *http.Request, questions []question) []reply {
	replies := make([]reply, len(questions))
	var asked sync.WaitGroup
	for i, q := range questions {
		asked.Go(func() { replies[i] = f.ask(r, q) })
	}
	asked.Wait()
	return replies
}

// everybody is the request as a question to each member.
func (f *Fleet) everybody(r *http.Request, body []byte) []question {
	var all []question
	for _, m := range f.o.Members() {
		all = append(all, as(r, m, body))
	}
	return all
}

// recorder is the answer of this process itself.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(code int)        { r.code = code }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// pass gives a member's answer to the client as it is.
func pass(w http.ResponseWriter, r reply) {
	for _, name := range []string{"Content-Type", "Retry-After", "Www-Authenticate", "Allow"} {
		if values := r.header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Content-Length", strconv.Itoa(len(r.body)))
	w.WriteHeader(r.code)
	_, _ = w.Write(r.body) // the client may have gone
}

// write is an answer of this package's own.
func write(w http.ResponseWriter, code int, body any) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(body); err != nil {
		code = http.StatusInternalServerError // cannot be: the shapes always encode
		text.Reset()
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	pass(w, reply{code: code, header: http.Header{"Content-Type": {"application/json"}}, body: text.Bytes()})
}

func refuse(w http.ResponseWriter, code int, format string, args ...any) {
	write(w, code, v1.Error{Error: fmt.Sprintf(format, args...), Code: code})
}

// sort parts replies: those of 200, the first that is another answer, and the
// names of those who did not answer.
func (f *Fleet) sort(replies []reply) (good []reply, other *reply, away []string) {
	for i := range replies {
		r := &replies[i]
		switch {
		case r.err != nil:
			away = append(away, r.member.Name)
			f.o.Logger.Warn("a dispatcher does not answer", "pod", r.member.Name, "err", r.err)
		case r.code/100 == 2:
			good = append(good, *r)
		case other == nil || worse(r.code, other.code):
			other = r
		}
	}
	return good, other, away
}

// worse reports whether an answer says more than another: who may not ask
// hears that first, and that something is not there only if nobody knows more.
func worse(code, than int) bool {
	rank := func(code int) int {
		switch code {
		case http.StatusNotFound:
			return 0
		case http.StatusServiceUnavailable:
			return 1
		}
		return 2
	}
	return rank(code) > rank(than)
}

// lacks says in the header whose part is missing.
func lacks(w http.ResponseWriter, away []string) {
	if len(away) > 0 {
		w.Header().Set(incomplete, strings.Join(away, ", "))
	}
}
