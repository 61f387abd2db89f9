package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
)

// routes are the paths of the API that one dispatcher cannot answer for all.
// Every other path it answers by itself.
func (f *Fleet) routes() {
	f.mux.HandleFunc("GET /api/v1/brokers", merged(f, mergeBrokers))
	f.mux.HandleFunc("GET /api/v1/brokers/{namespace}/{name}", merged(f, mergeBroker))
	f.mux.HandleFunc("GET /api/v1/triggers", merged(f, mergeTriggers))
	f.mux.HandleFunc("GET /api/v1/triggers/{namespace}/{name}", merged(f, mergeTrigger))
	f.mux.HandleFunc("GET /api/v1/triggers/{namespace}/{name}/blocked", merged(f, mergeBlocked))
	f.mux.HandleFunc("POST /api/v1/triggers/{namespace}/{name}/pause", f.control)
	f.mux.HandleFunc("POST /api/v1/triggers/{namespace}/{name}/resume", f.control)
	f.mux.HandleFunc("POST /api/v1/triggers/{namespace}/{name}/skip", f.skip)
	f.mux.HandleFunc("GET /api/v1/deadletters", f.deadLetters)
	f.mux.HandleFunc("GET /api/v1/deadletters/groups", merged(f, mergeGroups))
	f.mux.HandleFunc("POST /api/v1/deadletters/redrive", f.beginJob)
	f.mux.HandleFunc("POST /api/v1/deadletters/discard", f.beginJob)
	f.mux.HandleFunc("POST /api/v1/replays", f.beginJob)
	f.mux.HandleFunc("GET /api/v1/jobs", f.listJobs)
	f.mux.HandleFunc("GET /api/v1/jobs/{id}", f.job)
	f.mux.HandleFunc("POST /api/v1/jobs/{id}/{action}", f.job)
	f.mux.HandleFunc("GET /api/v1/deadletters/{namespace}/{trigger}/{id}", f.owner)
	f.mux.HandleFunc("GET /api/v1/events", f.events)
	f.mux.HandleFunc("GET /api/v1/events/{id}", f.owner)
}

// merged asks all and puts the answers together.
func merged[T any](f *Fleet, merge func([]T) T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		good, other, away := f.sort(f.all(r, f.everybody(r, nil)))
		if other != nil && (len(good) == 0 || other.code != http.StatusNotFound && other.code != http.StatusServiceUnavailable) {
			pass(w, *other)
			return
		}
		parts, lost := decode[T](f, good)
		away = append(away, lost...)
		if len(parts) == 0 {
			refuse(w, http.StatusServiceUnavailable, "no dispatcher answers: %s", strings.Join(away, ", "))
			return
		}
		lacks(w, away)
		write(w, http.StatusOK, merge(parts))
	}
}

// decode reads answers, and names those of whom they cannot be read.
func decode[T any](f *Fleet, replies []reply) (parts []T, lost []string) {
	for _, r := range replies {
		var part T
		if err := json.Unmarshal(r.body, &part); err != nil {
			lost = append(lost, r.member.Name)
			f.o.Logger.Warn("a dispatcher's answer is not understood", "pod", r.member.Name, "err", err)
			continue
		}
		parts = append(parts, part)
	}
	return parts, lost
}

// control changes a Trigger at every member. Those that are away keep what they
// had, which is said.
func (f *Fleet) control(w http.ResponseWriter, r *http.Request) {
	text, ok := body(w, r)
	if !ok {
		return
	}
	good, other, away := f.sort(f.all(r, f.everybody(r, text)))
	parts, lost := decode[v1.Trigger](f, good)
	switch away = append(away, lost...); {
	case other != nil:
		pass(w, *other)
	case len(away) > 0:
		refuse(w, http.StatusServiceUnavailable, "%s did not answer and goes on as it was: ask again; %s has done it", strings.Join(away, ", "), names(good))
	default:
		write(w, http.StatusOK, mergeTrigger(parts))
	}
}

func names(replies []reply) string {
	if len(replies) == 0 {
		return "nobody"
	}
	all := make([]string, len(replies))
	for i, r := range replies {
		all[i] = r.member.Name
	}
	return strings.Join(all, ", ")
}

// skip asks the member that has the event.
func (f *Fleet) skip(w http.ResponseWriter, r *http.Request) {
	text, ok := body(w, r)
	if !ok {
		return
	}
	var q v1.SkipRequest
	_ = json.Unmarshal(text, &q) // who is asked says what is wrong with it
	f.ofEvent(w, r, q.ID, text)
}

// owner asks the member that owns the shard of the event named in the path.
func (f *Fleet) owner(w http.ResponseWriter, r *http.Request) {
	f.ofEvent(w, r, r.PathValue("id"), nil)
}

// ofEvent passes a request to the member that owns an event's shard.
func (f *Fleet) ofEvent(w http.ResponseWriter, r *http.Request, event string, body []byte) {
	id, err := channel.ParseID(event)
	if err != nil {
		pass(w, f.ask(r, as(r, Member{Name: f.o.Self}, body))) // which says what is wrong with it
		return
	}
	ordinal := f.o.Ordinal(id.Shard)
	for _, m := range f.o.Members() {
		if m.Ordinal != ordinal {
			continue
		}
		reply := f.ask(r, as(r, m, body))
		if reply.err == nil {
			pass(w, reply)
			return
		}
		refuse(w, http.StatusServiceUnavailable, "event %s belongs to %s, which does not answer: %v", id, m.Name, reply.err)
		return
	}
	refuse(w, http.StatusNotFound, "no event %s: there is no dispatcher with shard %d", id, id.Shard)
}

// body reads the body of a request that goes to several.
func body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		return text, true
	}
	code, why := http.StatusBadRequest, err.Error()
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		code, why = http.StatusRequestEntityTooLarge, fmt.Sprintf("body is longer than %d bytes", maxBody)
	}
	refuse(w, code, "%s", why)
	return nil, false
}
