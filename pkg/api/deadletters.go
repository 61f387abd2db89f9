package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
)

const (
	defaultPage = 100
	maxPage     = 1000

	// letterPage is how many dead letters are read at a time: they come with
	// their events, so this bounds the memory of a request.
	letterPage = 32

	// maxScanned is how many dead letters one request looks at. A page may then
	// be short, or empty, and yet have a next one.
	maxScanned = 10_000
)

// drawer is one Broker's dead letters, or those of one of its Triggers.
type drawer struct {
	broker  *config.Broker
	log     channel.BrokerLog
	trigger channel.UID // "" for all
	name    string      // namespace/name of a Trigger that is gone; "" for all
}

// listDead lists dead letters Broker by Broker, within each in the order the
// events died.
func (s *Server) listDead(w http.ResponseWriter, r *http.Request, q url.Values) error {
	limit, err := pageSize(q.Get("limit"))
	if err != nil {
		return err
	}
	drawers, err := s.drawers(q.Get("broker"), q.Get("trigger"))
	if err != nil {
		return err
	}
	after := ""
	if cursor := q.Get("cursor"); cursor != "" {
		if drawers, after, err = resume(drawers, cursor); err != nil {
			return err
		}
	}
	list := v1.DeadLetterList{Items: []v1.DeadLetter{}}
	scanned := 0
	for i, d := range drawers {
		for {
			want := min(limit-len(list.Items), letterPage)
			letters, next, err := d.log.Dead(r.Context(), d.trigger, after, want)
			if err != nil {
				return err
			}
			for _, l := range letters {
				if d.name == "" || d.name == l.TriggerName {
					list.Items = append(list.Items, viewLetter(d.broker, l))
				}
			}
			after, scanned = next, scanned+len(letters)
			if next == "" {
				break
			}
			if len(list.Items) == limit || scanned >= maxScanned {
				list.Next = cursorOf(d, next)
				return answer(w, list)
			}
		}
		if len(list.Items) == limit && i+1 < len(drawers) {
			list.Next = cursorOf(drawers[i+1], "")
			return answer(w, list)
		}
	}
	if len(list.Items) == 0 && q.Get("cursor") == "" && len(drawers) > 0 && drawers[0].name != "" {
		return refuse(http.StatusNotFound, "no trigger %.128q, and no dead letters of one that was", q.Get("trigger"))
	}
	return answer(w, list)
}

// getDead finds one dead letter with its event.
func (s *Server) getDead(w http.ResponseWriter, r *http.Request, _ url.Values) error {
	id, err := channel.ParseID(r.PathValue("id"))
	if err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	trigger := r.PathValue("namespace") + "/" + r.PathValue("trigger")
	drawers, err := s.drawers("", trigger)
	if err != nil {
		return err
	}
	// A letter of an earlier Trigger of this name stands under another uid: it
	// is found by name.
	for _, d := range append(drawers, s.allDrawers("", trigger)...) {
		letter, found, err := d.find(r.Context(), id)
		if err != nil {
			return err
		}
		if found {
			view := viewLetter(d.broker, letter)
			if view.Event, err = letter.Event.MarshalJSON(); err != nil {
				return err
			}
			return answer(w, view)
		}
	}
	return refuse(http.StatusNotFound, "no dead letter %s of trigger %.128q; GET /api/v1/deadletters?trigger=%s lists those there are",
		id, trigger, url.QueryEscape(trigger))
}

// drawers are where to look for dead letters of a Broker, a Trigger, or all.
// A Trigger that is gone has letters still; they are found by its name.
func (s *Server) drawers(broker, trigger string) ([]drawer, error) {
	snapshot := s.opts.Source.Snapshot()
	if broker != "" {
		namespace, name, err := fullName("broker", broker)
		if err != nil {
			return nil, err
		}
		if len(s.allDrawers(broker, "")) == 0 {
			b, err := findBroker(snapshot, namespace, name)
			if err != nil {
				return nil, err
			}
			return nil, refuse(http.StatusServiceUnavailable, "the channel of broker %s is not open: %s", broker, b.Message)
		}
	}
	if trigger == "" {
		return s.allDrawers(broker, ""), nil
	}
	namespace, name, err := fullName("trigger", trigger)
	if err != nil {
		return nil, err
	}
	t, ok := snapshot.Trigger(namespace, name)
	if !ok {
		return s.allDrawers(broker, trigger), nil
	}
	if broker != "" && broker != t.BrokerName() {
		return nil, refuse(http.StatusBadRequest, "trigger %s belongs to broker %s, not to %s", trigger, t.BrokerName(), broker)
	}
	drawers := s.allDrawers(t.BrokerName(), "")
	for i := range drawers {
		drawers[i].trigger = t.UID
	}
	return drawers, nil
}

// allDrawers are those of all Brokers with an open channel, Brokers in their
// grace included, or of the one named.
func (s *Server) allDrawers(broker, trigger string) []drawer {
	snapshot := s.opts.Source.Snapshot()
	var drawers []drawer
	for _, brokers := range [][]*config.Broker{snapshot.Brokers(), snapshot.HeldBrokers()} {
		for _, b := range brokers {
			if broker != "" && broker != b.FullName() {
				continue
			}
			if log, ok := s.opts.Source.Log(b.UID); ok {
				drawers = append(drawers, drawer{broker: b, log: log, name: trigger})
			}
		}
	}
	return drawers
}

// find looks for the dead letter of one event. Logs find letters by the uid of
// their Trigger: that of one that is gone is known from the letters themselves.
func (d drawer) find(ctx context.Context, id channel.ID) (channel.DeadLetter, bool, error) {
	if d.name == "" {
		return d.log.FindDead(ctx, d.trigger, id)
	}
	groups, err := d.log.DeadGroups(ctx, "")
	if err != nil {
		return channel.DeadLetter{}, false, err
	}
	asked, folded := map[channel.UID]bool{}, false
	for _, g := range groups {
		folded = folded || g.Trigger == ""
		if g.TriggerName != d.name || asked[g.Trigger] {
			continue
		}
		asked[g.Trigger] = true
		if letter, found, err := d.log.FindDead(ctx, g.Trigger, id); err != nil || found {
			return letter, found, err
		}
	}
	if !folded {
		return channel.DeadLetter{}, false, nil
	}
	return d.search(ctx, id)
}

// search reads the drawer. So many Triggers and reasons are rare that not all
// have a group of their own.
func (d drawer) search(ctx context.Context, id channel.ID) (channel.DeadLetter, bool, error) {
	for after := ""; ; {
		letters, next, err := d.log.Dead(ctx, d.trigger, after, letterPage)
		if err != nil {
			return channel.DeadLetter{}, false, err
		}
		for _, l := range letters {
			if l.ID == id && d.name == l.TriggerName {
				return l, true, nil
			}
		}
		if next == "" {
			return channel.DeadLetter{}, false, nil
		}
		after = next
	}
}

// cursorOf names a place in a list that runs over several Brokers.
func cursorOf(d drawer, after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(string(d.broker.UID) + "\n" + after))
}

// resume drops the drawers before the one the cursor names.
func resume(drawers []drawer, cursor string) ([]drawer, string, error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	uid, after, ok := strings.Cut(string(text), "\n")
	if err != nil || !ok {
		return nil, "", refuse(http.StatusBadRequest, "cursor %.64q: give the field next of the page before, unchanged", cursor)
	}
	for i, d := range drawers {
		if d.broker.UID == channel.UID(uid) {
			return drawers[i:], after, nil
		}
	}
	return nil, "", refuse(http.StatusGone, "the broker at this cursor is gone: list again without cursor")
}

func pageSize(text string) (int, error) {
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, refuse(http.StatusBadRequest, "limit %.32q: want a number from 1 to %d", text, maxPage)
	}
	return n, nil
}

func viewLetter(b *config.Broker, l channel.DeadLetter) v1.DeadLetter {
	view := v1.DeadLetter{
		Number: l.Number, ID: l.ID.String(), Broker: b.FullName(), Trigger: l.TriggerName,
		EventID: l.Event.ID(), EventType: l.Event.Type(), EventSource: l.Event.Source(), EventSubject: l.Event.Subject(),
		Accepted: l.Accepted, Died: l.Died, Attempts: l.Attempts,
		Reason: l.Reason, Code: l.Code, Destination: l.Destination,
	}
	if utf8.Valid(l.Answer) {
		view.Answer = string(l.Answer)
	} else {
		view.AnswerBase64 = l.Answer
	}
	return view
}
