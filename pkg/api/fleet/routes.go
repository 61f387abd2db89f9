package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/penstock-events/penstock/pkg/channel"
)

// routes are the paths of the API that one dispatcher cannot answer for all.
// Every other path it answers by itself.
func (f *Fleet) routes() {
	f.mux.HandleFunc("GET /api/v1/brokers", merged(f, mergeBrokers))
	f.mux.HandleFunc("GET /api/v1/brokers/{namespace}/{name}", merged(f, mergeBroker))
	f.mux.HandleFunc("GET /api/v1/triggers", merged(f, mergeTriggers))
	f.mux.HandleFunc("GET /api/v1/triggers/{namespace}/{name}", merged(f, mergeTrigger))
	f.mux.HandleFunc("GET /api/v1/deadletters", f.deadLetters)
	f.mux.HandleFunc("GET /api/v1/deadletters/{namespace}/{trigger}/{id}", f.owner)
	f.mux.HandleFunc("GET /api/v1/events", f.events)
	f.mux.HandleFunc("GET /api/v1/events/{id}", f.owner)
}

// merged asks all and puts the answers together.
func merged[T any](f *Fleet, merge func([]T) T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.RawQuery
		good, other, away := f.sort(f.all(r, f.o.Members(), func(Member) string { return query }, nil))
		if other != nil && (len(good) == 0 || other.code != http.StatusNotFound && other.code != http.StatusServiceUnavailable) {
			pass(w, *other)
			return
		}
		var parts []T
		for _, g := range good {
			var part T
			if err := json.Unmarshal(g.body, &part); err != nil {
				away = append(away, g.member.Name)
				f.o.Logger.Warn("a dispatcher's answer is not understood", "pod", g.member.Name, "err", err)
				continue
			}
			parts = append(parts, part)
		}
		if len(parts) == 0 {
			refuse(w, http.StatusServiceUnavailable, "no dispatcher answers: %s", strings.Join(away, ", "))
			return
		}
		lacks(w, away)
		write(w, http.StatusOK, merge(parts))
	}
}

// owner asks the member that owns the shard of the event named in the path.
func (f *Fleet) owner(w http.ResponseWriter, r *http.Request) {
	f.ofEvent(w, r, r.PathValue("id"), nil)
}

// ofEvent passes a request to the member that owns an event's shard.
func (f *Fleet) ofEvent(w http.ResponseWriter, r *http.Request, event string, body []byte) {
	id, err := channel.ParseID(event)
	if err != nil {
		f.o.Local.ServeHTTP(w, r) // which says what is wrong with it
		return
	}
	ordinal := f.o.Ordinal(id.Shard)
	for _, m := range f.o.Members() {
		if m.Ordinal != ordinal {
			continue
		}
		reply := f.ask(r, m, r.URL.RawQuery, body)
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
