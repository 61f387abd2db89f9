package api

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
)

// maxExplained bounds the events of one request to explain: its cost is
// events times Triggers.
const maxExplained = 16

// explain says which Triggers of a Broker the events of the request would go
// to. It takes what ingress takes, and stores nothing.
func (s *Server) explain(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	snapshot := s.opts.Source.Snapshot()
	b, err := findBroker(snapshot, r.PathValue("namespace"), r.PathValue("name"))
	if err != nil {
		return err
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return refuse(http.StatusUnsupportedMediaType, "content-encoding %.64q: send the event uncompressed", encoding)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.opts.MaxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return refuse(http.StatusRequestEntityTooLarge, "body is longer than %d bytes", s.opts.MaxBody)
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return refuse(http.StatusRequestTimeout, "the body did not come within %s", s.opts.Timeout)
		}
		return refuse(http.StatusBadRequest, "read body: %v", err)
	}
	events, _, err := s.decoder.Decode(r.Header, body)
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	return answer(w, Explain(b, snapshot.TriggersOf(b.Namespace, b.Name), events))
}

// Explain decides for each event and Trigger, in the order given. The command
// line uses it too, to explain YAML that no broker runs.
func Explain(b *config.Broker, triggers []*config.Trigger, events []event.Event) v1.Explanation {
	x := v1.Explanation{Broker: b.FullName(), Events: []v1.EventExplained{}}
	for _, e := range events {
		explained := v1.EventExplained{EventID: e.ID(), Triggers: []v1.TriggerExplained{}}
		for _, t := range triggers {
			explained.Triggers = append(explained.Triggers, explainOne(t, e))
		}
		x.Events = append(x.Events, explained)
	}
	return x
}

func explainOne(t *config.Trigger, e event.Event) v1.TriggerExplained {
	view := v1.TriggerExplained{Trigger: t.FullName(), Ready: t.Ready, Held: t.Held, Subscriber: t.Subscriber}
	if t.Filter == nil {
		view.Text = "not ready: " + t.Reason + ": " + t.Message
		return view
	}
	x := t.Filter.Explain(e)
	view.Matched, view.Path, view.Clause = x.Matched, x.Path, x.Clause
	view.Want, view.Got, view.Missing = x.Want, x.Got, x.Missing
	view.Text = x.String()
	if !t.Ready {
		view.Text += " (not ready: " + t.Reason + ": " + t.Message + ")"
	}
	return view
}
