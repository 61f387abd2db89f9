package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/test/kube/probe"
)

// ask makes one request to the control port of the probe, by way of the API server.
func (s *Space) ask(method, path string, query map[string]string, in, out any) error {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	req := s.Kube.CoreV1().RESTClient().Verb(method).Namespace(s.Name).Resource("pods").
		Name("probe:" + strconv.Itoa(probe.ControlPort)).SubResource("proxy").Suffix(path)
	for name, value := range query {
		req = req.Param(name, value)
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return err
		}
		req = req.Body(body).SetHeader("Content-Type", "application/json")
	}
	answer, err := req.DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%s %s at the probe of %s: %w", method, path, s.Name, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// reach waits for the probe to run.
func (s *Space) reach() {
	s.t.Helper()
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if s.seen.reached {
		return
	}
	s.Eventually("the probe runs", Patience, func() (bool, string) {
		err := s.ask(http.MethodGet, "healthz", nil, nil, nil)
		return err == nil, fmt.Sprint(err)
	})
	s.seen.reached = true
}

func (s *Space) must(method, path string, query map[string]string, in, out any) {
	s.t.Helper()
	s.reach()
	if err := s.ask(method, path, query, in, out); err != nil {
		s.t.Fatal(err)
	}
}

// Send makes requests from inside the cluster, one after the other.
func (s *Space) Send(all ...probe.Send) []probe.Answer {
	s.t.Helper()
	var answers []probe.Answer
	s.must(http.MethodPost, "send", nil, all, &answers)
	return answers
}

// Post makes one request and fails the test unless it gets the status. The
// reference has no promise for the moment after Ready, so it may try again.
func (s *Space) Post(status int, m probe.Send) probe.Answer {
	s.t.Helper()
	if s.Class == Reference {
		m.Until = status
	}
	a := s.Send(m)[0]
	if a.Status != status {
		s.t.Fatalf("%s %s: status %d %s %s, want %d", m.Method, m.URL, a.Status, a.Error, a.Body, status)
	}
	return a
}

// Stream is a sender at a fixed rate.
type Stream struct {
	space *Space
	name  string
	m     probe.Stream
}

// Stream starts to post events.
func (s *Space) Stream(name string, m probe.Stream) *Stream {
	s.t.Helper()
	s.must(http.MethodPost, "stream/"+name, nil, m, nil)
	return &Stream{space: s, name: name, m: m}
}

// Progress is how far it is.
func (st *Stream) Progress() probe.Progress {
	st.space.t.Helper()
	var p probe.Progress
	st.space.must(http.MethodGet, "stream/"+st.name, nil, nil, &p)
	return p
}

// Await waits until this many events were accepted.
func (st *Stream) Await(n int) {
	st.space.t.Helper()
	var p probe.Progress
	st.space.Eventually(fmt.Sprintf("%d events accepted", n), Patience, func() (bool, string) {
		p = st.Progress()
		return p.Accepted >= n, fmt.Sprintf("%+v", p)
	})
}

// End stops it and waits for the last answer.
func (st *Stream) End() probe.Progress {
	st.space.t.Helper()
	st.space.must(http.MethodDelete, "stream/"+st.name, nil, nil, nil)
	return st.Finish()
}

// Finish waits for the last answer of a stream of a known length.
func (st *Stream) Finish() probe.Progress {
	st.space.t.Helper()
	var p probe.Progress
	st.space.Eventually("the stream ends", 5*time.Minute, func() (bool, string) {
		p = st.Progress()
		return p.Done, fmt.Sprintf("%+v", p)
	})
	return p
}

// Settled fails the test unless every event of the stream that was accepted
// comes to the receiver within the bound, and returns the count.
func (st *Stream) Settled(r *Receiver, bound time.Duration) probe.Tally {
	st.space.t.Helper()
	p := st.Progress()
	if p.Given > 0 {
		st.space.t.Errorf("%d events were never accepted: %+v", p.Given, p)
	}
	var tally probe.Tally
	query := map[string]string{"prefix": st.m.Prefix, "n": strconv.Itoa(p.Begun)}
	why := st.space.eventually(bound, func() (bool, string) {
		st.space.must(http.MethodGet, "tally/"+r.Name, query, nil, &tally)
		return tally.Lost <= p.Given, fmt.Sprintf("%d of %d events are missing at %s: %v", tally.Lost, p.Begun, r.Name, tally.Missing[:min(20, len(tally.Missing))])
	})
	if why != "" {
		st.space.t.Errorf("after %v %s", bound, why)
	}
	return tally
}
