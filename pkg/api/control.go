package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

// Control changes how one Trigger's events are delivered. Its methods are
// called by many requests at once and may wait for a disk. What the state of
// the Trigger stands against is a *Conflict, what cannot be stored now a
// *channel.Refused; every other error is the process's own.
type Control interface {
	// Pause stops deliveries until a time, or with the zero time until Resume.
	Pause(ctx context.Context, trigger channel.UID, until time.Time) error
	Resume(ctx context.Context, trigger channel.UID) error

	// Skip buries the event that a key waits for.
	Skip(ctx context.Context, trigger channel.UID, id channel.ID) error

	// Blocked lists at most limit blocked keys and counts them all.
	Blocked(trigger channel.UID, limit int) (blocked []v1.BlockedKey, total int, err error)
}

// Conflict is why a Trigger, as it is now, cannot be changed so: 409.
type Conflict struct{ Err error }

func (c *Conflict) Error() string { return c.Err.Error() }
func (c *Conflict) Unwrap() error { return c.Err }

const (
	// maxControl bounds the body of a request that changes something.
	maxControl = 64 << 10

	// What a list of blocked keys has where the request does not say, and at most.
	defaultBlocked, maxBlocked = 100, 1000
)

func (s *Server) pause(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	var body v1.PauseRequest
	if err := s.readControl(w, r, &body); err != nil {
		return err
	}
	var until time.Time
	if body.For != "" {
		d, err := config.ParseDuration(body.For)
		if err == nil && d == 0 {
			err = errors.New("must be more than nothing")
		}
		if err != nil {
			return refuse(http.StatusBadRequest, "for: %.64q: %v", body.For, err)
		}
		until = s.opts.Now().Add(d)
	}
	return s.control(w, r, "pause", func(c Control, t *config.Trigger) error { return c.Pause(r.Context(), t.UID, until) }, "until", until)
}

func (s *Server) resume(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	if err := s.readControl(w, r, &struct{}{}); err != nil {
		return err
	}
	return s.control(w, r, "resume", func(c Control, t *config.Trigger) error { return c.Resume(r.Context(), t.UID) })
}

func (s *Server) skip(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	var body v1.SkipRequest
	if err := s.readControl(w, r, &body); err != nil {
		return err
	}
	id, err := channel.ParseID(body.ID)
	if err != nil {
		return refuse(http.StatusBadRequest, "id: %.64q: want the id of an event inside Penstock, as in 0-42", body.ID)
	}
	return s.control(w, r, "skip", func(c Control, t *config.Trigger) error { return c.Skip(r.Context(), t.UID, id) }, "id", id.String())
}

// control changes something, tells of it, and answers how the Trigger is then.
func (s *Server) control(w http.ResponseWriter, r *http.Request, action string, do func(Control, *config.Trigger) error, more ...any) error {
	snapshot := s.opts.Source.Snapshot()
	t, err := findTrigger(snapshot, r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return err
	}
	if s.opts.Control == nil {
		return refuse(http.StatusConflict, "this process delivers nothing: ask a dispatcher")
	}
	err = do(s.opts.Control, t)
	result := "done"
	if err != nil {
		result = err.Error()
	}
	s.log.Info("audit", append([]any{"action", action, "trigger", t.FullName(), "who", s.who(r), "result", result}, more...)...)
	if err != nil {
		return controlProblem(t, err)
	}
	return answer(w, s.viewTrigger(snapshot, t, s.lanes(r)))
}

// controlProblem is the answer to a change that was not made.
func controlProblem(t *config.Trigger, err error) error {
	if conflict, ok := errors.AsType[*Conflict](err); ok {
		return refuse(http.StatusConflict, "trigger %s: %v", t.FullName(), conflict)
	}
	if refused, ok := errors.AsType[*channel.Refused](err); ok {
		p := refuse(http.StatusServiceUnavailable, "trigger %s: %v", t.FullName(), err)
		p.retryAfter = max(1, int(refused.RetryAfter/time.Second))
		return p
	}
	return err
}

func (s *Server) listBlocked(w http.ResponseWriter, r *http.Request, q url.Values) error {
	limit := defaultBlocked
	if text := q.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxBlocked {
			return refuse(http.StatusBadRequest, "parameter limit: %.32q: want a number from 1 to %d", text, maxBlocked)
		}
	}
	t, err := findTrigger(s.opts.Source.Snapshot(), r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return err
	}
	if s.opts.Control == nil {
		return refuse(http.StatusConflict, "this process delivers nothing: ask a dispatcher")
	}
	list := v1.BlockedList{}
	if list.Items, list.Total, err = s.opts.Control.Blocked(t.UID, limit); err != nil {
		return controlProblem(t, err)
	}
	if list.Items == nil {
		list.Items = []v1.BlockedKey{}
	}
	return answer(w, list)
}

// readControl reads the JSON body of a request strictly: a field that is
// misspelt must not make a pause of an hour one without end. No body is {}.
func (s *Server) readControl(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxControl))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return refuse(http.StatusRequestEntityTooLarge, "body is longer than %d bytes", maxControl)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return refuse(http.StatusRequestTimeout, "the body did not come within %s", s.opts.Timeout)
		}
		return refuse(http.StatusBadRequest, "read body: %v", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return refuse(http.StatusBadRequest, "body: more than one JSON value")
	}
	return nil
}
