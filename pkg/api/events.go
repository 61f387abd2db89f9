package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/journal"
)

// Journal is what tells of events. *journal.Journal is one.
type Journal interface {
	Story(ctx context.Context, broker channel.UID, id channel.ID) (journal.Story, error)
	Find(ctx context.Context, q journal.Query) (journal.Page, error)
}

// Pending is one Trigger that an event is pending for.
type Pending struct {
	Trigger channel.UID
	Name    string    // namespace/name
	Next    time.Time // when the next attempt is due; zero where none waits
}

// Fate says where events stand just now, which the journal may not know yet.
type Fate interface {
	// Pending lists the Triggers that an event is pending for, and whether it has
	// been matched at all.
	Pending(broker channel.UID, id channel.ID) (pending []Pending, matched bool)

	// Unmatched is the first position of a shard that has not been matched.
	Unmatched(broker channel.UID, shard channel.ShardID) channel.Position
}

// maxFresh bounds the events of one shard that a list looks at because they
// have been stored and are not in the journal yet. It takes milliseconds to get
// there.
const maxFresh = 1024

// afterFresh is the cursor behind these: the journal's own begin there.
const afterFresh = "journal"

// getEvent tells what happened to one event.
func (s *Server) getEvent(w http.ResponseWriter, r *http.Request, q url.Values) error {
	id, err := channel.ParseID(r.PathValue("id"))
	if err != nil {
		return refuse(http.StatusBadRequest, "%v; GET /api/v1/events?id=%s looks for an id that a sender gave", err, url.QueryEscape(r.PathValue("id")))
	}
	var brokers []*config.Broker
	if name := q.Get("broker"); name != "" {
		b, err := s.knownBroker(name)
		if err != nil {
			return err
		}
		brokers = []*config.Broker{b}
	} else {
		snapshot := s.opts.Source.Snapshot()
		brokers = slices.Concat(snapshot.Brokers(), snapshot.HeldBrokers())
	}
	var found []v1.EventStory
	for _, b := range brokers {
		story, ok, err := s.story(r.Context(), b, id)
		if err != nil {
			return err
		}
		if ok {
			found = append(found, story)
		}
	}
	switch len(found) {
	case 0:
		return refuse(http.StatusNotFound, "no event %s: it was never accepted, or is longer ago than the journal and the log go back", id)
	case 1:
		return answer(w, found[0])
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f.Broker
	}
	return refuse(http.StatusConflict, "several brokers have an event %s: add ?broker= with one of %s", id, strings.Join(names, ", "))
}

// knownBroker finds a Broker that is served or in its grace.
func (s *Server) knownBroker(full string) (*config.Broker, error) {
	namespace, name, err := fullName("broker", full)
	if err != nil {
		return nil, err
	}
	snapshot := s.opts.Source.Snapshot()
	for _, b := range snapshot.HeldBrokers() {
		if _, live := snapshot.Broker(namespace, name); !live && b.FullName() == full {
			return b, nil
		}
	}
	return findBroker(snapshot, namespace, name)
}

// story puts together what the journal, the log and the lanes know.
func (s *Server) story(ctx context.Context, b *config.Broker, id channel.ID) (v1.EventStory, bool, error) {
	var told journal.Story
	err := journal.ErrNotFound
	if s.opts.Journal != nil {
		told, err = s.opts.Journal.Story(ctx, b.UID, id)
	}
	if err != nil && !errors.Is(err, journal.ErrNotFound) {
		return v1.EventStory{}, false, err
	}
	var record *channel.Record
	log, open := s.opts.Source.Log(b.UID)
	if open && slices.Contains(log.Shards(), id.Shard) {
		// An event that cannot be read has a story all the same.
		if records, _ := log.Get(ctx, id.Shard, []channel.Position{id.Position}, nil); len(records) > 0 {
			record = &records[0]
		}
	}
	if err != nil && record == nil {
		return v1.EventStory{}, false, nil
	}
	story := v1.EventStory{Event: viewEntry(told.Entry), Triggers: []v1.TriggerStory{}}
	if told.Accepted.IsZero() {
		story.Event = v1.Event{ID: id.String(), Broker: b.FullName()}
		if record != nil {
			story.Event = viewRecord(b, id.Shard, record)
		}
	}
	if record != nil {
		if story.Data, err = record.Event.MarshalJSON(); err != nil {
			return story, false, err
		}
	}
	t := teller{s: s, ctx: ctx, broker: b, log: log, id: id, story: &story}
	t.matched(told)
	if record != nil {
		t.unmatched(record.Event)
	}
	t.missing(told, record != nil)
	return story, true, nil
}

// teller writes a story.
type teller struct {
	s        *Server
	ctx      context.Context
	broker   *config.Broker
	log      channel.BrokerLog // nil where it is not open
	id       channel.ID
	story    *v1.EventStory
	scanned  bool
	lanes    map[channel.UID]bool
	mentions map[channel.UID]bool
}

// matched tells of the Triggers that matched.
func (t *teller) matched(told journal.Story) {
	pending := make(map[channel.UID]Pending)
	t.scanned = true
	if t.s.opts.Fate != nil {
		var all []Pending
		all, t.scanned = t.s.opts.Fate.Pending(t.broker.UID, t.id)
		for _, p := range all {
			pending[p.Trigger] = p
		}
	}
	t.lanes, t.mentions = make(map[channel.UID]bool), make(map[channel.UID]bool)
	for _, tr := range t.s.opts.Source.Snapshot().TriggersOf(t.broker.Namespace, t.broker.Name) {
		t.lanes[tr.UID] = true
	}
	for _, of := range told.Triggers {
		t.mentions[of.Trigger] = true
		view := v1.TriggerStory{Trigger: of.Name, UID: string(of.Trigger), Matched: true}
		for _, a := range of.Attempts {
			view.Attempts = append(view.Attempts, viewAttempt(a))
		}
		p, waits := pending[of.Trigger]
		t.state(&view, of, waits, p)
		t.story.Triggers = append(t.story.Triggers, view)
	}
	for uid, p := range pending {
		if t.mentions[uid] {
			continue
		}
		t.mentions[uid] = true
		view := v1.TriggerStory{Trigger: p.Name, UID: string(uid), Matched: true, State: v1.StatePending, Next: moment(p.Next)}
		t.story.Triggers = append(t.story.Triggers, view)
	}
}

// state says where the event stands at one Trigger.
func (t *teller) state(view *v1.TriggerStory, of journal.TriggerStory, waits bool, p Pending) {
	switch {
	case of.Final == journal.Delivered:
		view.State = v1.StateDelivered
	case of.Final == journal.Dead:
		view.State, view.Reason = v1.StateDead, of.Reason
		if t.log == nil {
			break
		}
		if _, kept, err := t.log.FindDead(t.ctx, of.Trigger, t.id); err == nil && !kept {
			view.Reason = strings.TrimPrefix(view.Reason+"; its dead letter is not kept any more", "; ")
		}
	case of.Final == journal.Cancelled:
		view.State, view.Reason = v1.StateCancelled, of.Reason
	case of.Final == journal.Lost:
		view.State, view.Reason = v1.StateLost, of.Reason
	case waits:
		view.State, view.Next = v1.StatePending, moment(p.Next)
		return
	case t.dead(view, of.Trigger): // by the log, where the journal lost its last moments
		return
	case !t.lanes[of.Trigger]:
		view.State, view.Reason = v1.StateCancelled, "the Trigger was deleted"
		return
	default:
		view.State, view.Reason = v1.StateEnded, "the journal lost its last moments"
		return
	}
	view.Ended = moment(of.At)
}

// dead reports whether the log keeps a dead letter of the event, and tells what
// that says.
func (t *teller) dead(view *v1.TriggerStory, trigger channel.UID) bool {
	if t.log == nil {
		return false
	}
	letter, kept, err := t.log.FindDead(t.ctx, trigger, t.id)
	if err != nil || !kept {
		return false
	}
	view.State, view.Reason, view.Ended = v1.StateDead, letter.Reason, moment(letter.Died)
	return true
}

// unmatched tells why the other Triggers of the Broker did not match, by their
// filters of today.
func (t *teller) unmatched(e event.Event) {
	if !t.scanned {
		return
	}
	for _, tr := range t.s.opts.Source.Snapshot().TriggersOf(t.broker.Namespace, t.broker.Name) {
		if t.mentions[tr.UID] {
			continue
		}
		x := explainOne(tr, e)
		why := x.Text
		if x.Matched {
			why = "its filter of today matches: it was not there when the event came, or had another one, or the journal has no entry of it"
		}
		t.story.Triggers = append(t.story.Triggers, v1.TriggerStory{Trigger: tr.FullName(), UID: string(tr.UID), State: v1.StateUnmatched, Why: why})
	}
}

// missing says why there may be more to tell.
func (t *teller) missing(told journal.Story, kept bool) {
	say := func(format string, args ...any) {
		t.story.Missing = append(t.story.Missing, fmt.Sprintf(format, args...))
	}
	if !t.scanned {
		say("the event is stored and has not been matched yet: ask again")
	} else if told.Accepted.IsZero() && kept {
		say("the journal has no entry of its acceptance: which Triggers matched is not known")
	}
	for _, g := range told.Gaps {
		say("entries from %s to %s are missing: %s", g.From.UTC().Format(time.RFC3339), g.To.UTC().Format(time.RFC3339), g.Cause)
	}
	if told.More {
		say("there are more entries than are told here")
	}
}

// listEvents looks events up by id, or through them by anything else.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request, q url.Values) error {
	limit, err := pageSize(q.Get("limit"))
	if err != nil {
		return err
	}
	ask := journal.Query{ID: q.Get("id"), Type: q.Get("type"), Source: q.Get("source"), Subject: q.Get("subject"), Limit: limit, Cursor: q.Get("cursor")}
	if ask.From, err = momentOf("from", q.Get("from")); err != nil {
		return err
	}
	if ask.To, err = momentOf("to", q.Get("to")); err != nil {
		return err
	}
	if !ask.To.IsZero() {
		if !ask.From.IsZero() && !ask.From.Before(ask.To) {
			return refuse(http.StatusBadRequest, "to is not after from")
		}
		ask.To = ask.To.Add(-1) // the journal includes both ends
	}
	snapshot := s.opts.Source.Snapshot()
	brokers := slices.Concat(snapshot.Brokers(), snapshot.HeldBrokers())
	if name := q.Get("broker"); name != "" {
		b, err := s.knownBroker(name)
		if err != nil {
			return err
		}
		ask.Broker, brokers = b.UID, []*config.Broker{b}
	}
	if s.opts.Journal == nil {
		return refuse(http.StatusNotFound, "this process keeps no journal")
	}
	list := v1.EventList{Items: []v1.Event{}}
	fresh := make(map[string]bool)
	switch ask.Cursor {
	case "":
		for _, e := range s.fresh(r.Context(), brokers, ask) {
			list.Items = append(list.Items, e)
			fresh[e.Broker+" "+e.ID] = true
		}
		if len(list.Items) == limit {
			list.Next = afterFresh
			return answer(w, list)
		}
		ask.Limit -= len(list.Items)
	case afterFresh:
		ask.Cursor = ""
	}
	page, err := s.opts.Journal.Find(r.Context(), ask)
	if errors.Is(err, journal.ErrCursor) {
		return refuse(http.StatusBadRequest, "cursor %.64q: give the field next of the page before, unchanged", ask.Cursor)
	}
	if err != nil {
		return err
	}
	for _, e := range page.Events {
		if view := viewEntry(e); !fresh[view.Broker+" "+view.ID] {
			list.Items = append(list.Items, view)
		}
	}
	list.Next = page.Next
	return answer(w, list)
}

// fresh are the events that were stored so lately that the journal does not
// have them, newest first: an event that was accepted is found at once.
func (s *Server) fresh(ctx context.Context, brokers []*config.Broker, q journal.Query) []v1.Event {
	var all []v1.Event
	for _, b := range brokers {
		log, open := s.opts.Source.Log(b.UID)
		if !open || s.opts.Fate == nil {
			continue
		}
		for _, shard := range log.Shards() {
			_, next := log.Range(shard)
			from := max(s.opts.Fate.Unmatched(b.UID, shard), 1)
			if next > maxFresh && from < next-maxFresh {
				from = next - maxFresh
			}
			var positions []channel.Position
			for p := from; p < next; p++ {
				positions = append(positions, p)
			}
			if len(positions) == 0 {
				continue
			}
			records, _ := log.Get(ctx, shard, positions, nil) // what cannot be read is not found
			for i := range records {
				if view := viewRecord(b, shard, &records[i]); asked(q, view) {
					all = append(all, view)
				}
			}
		}
	}
	slices.SortFunc(all, func(a, b v1.Event) int { return b.Accepted.Compare(a.Accepted) })
	return all[:min(len(all), q.Limit)]
}

// asked reports whether a query asks for an event.
func asked(q journal.Query, e v1.Event) bool {
	return (q.ID == "" || q.ID == e.EventID) && (q.Type == "" || q.Type == e.EventType) && (q.Source == "" || q.Source == e.EventSource) &&
		(q.Subject == "" || q.Subject == e.EventSubject) && (q.From.IsZero() || !e.Accepted.Before(q.From)) && (q.To.IsZero() || !e.Accepted.After(q.To))
}

func momentOf(parameter, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return t, refuse(http.StatusBadRequest, "%s %.64q: want a time such as 2026-01-31T14:00:00Z", parameter, text)
	}
	return t, nil
}

// moment is nil for the zero time, which JSON has no word for.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func viewEntry(e journal.Entry) v1.Event {
	return v1.Event{
		ID: e.ID.String(), Broker: e.BrokerName, Accepted: e.Accepted.UTC(),
		EventID: e.EventID, EventType: e.Type, EventSource: e.Source, EventSubject: e.Subject,
		CausationID: e.CausationID, CorrelationID: e.CorrelationID,
	}
}

func viewRecord(b *config.Broker, shard channel.ShardID, r *channel.Record) v1.Event {
	return v1.Event{
		ID: channel.ID{Shard: shard, Position: r.Position}.String(), Broker: b.FullName(), Accepted: r.Time.UTC(),
		EventID: r.Event.ID(), EventType: r.Event.Type(), EventSource: r.Event.Source(), EventSubject: r.Event.Subject(),
		CausationID: r.Event.Text(event.ExtCausation), CorrelationID: r.Event.Text(event.ExtCorrelation),
	}
}

func viewAttempt(a journal.Attempt) v1.Attempt {
	view := v1.Attempt{
		Number: a.Number, Start: a.Start.UTC(), Seconds: a.Duration.Seconds(), Status: a.Status, Error: a.Error,
		Next: moment(a.Next), Sink: a.Sink, Spared: a.Spared, Rerun: a.Rerun,
	}
	if utf8.Valid(a.Answer) {
		view.Answer = string(a.Answer)
	} else {
		view.AnswerBy = a.Answer
	}
	for _, id := range a.Replies {
		view.Replies = append(view.Replies, id.String())
	}
	return view
}
