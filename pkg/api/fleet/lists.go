package fleet

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

const (
	defaultPage = 100
	maxPage     = 1000

	// eventPage bounds a page of events: what a member is asked for again, since
	// others had newer ones, comes on top.
	eventPage = 500
)

// place is how far a list has come at one member: a cursor of its own, and how
// many items behind that have been given out.
type place struct {
	Cursor string `json:"c,omitempty"`
	Skip   int    `json:"s,omitempty"`
	Done   bool   `json:"d,omitempty"`
}

// places are those of a list over all members; its cursor is their text.
type places map[string]place

func (p places) String() string {
	text, err := json.Marshal(p)
	if err != nil {
		return "" // cannot be: texts and numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

// placesOf reads a cursor that String gave out.
func placesOf(cursor string) (places, bool) {
	p := make(places)
	if cursor == "" {
		return p, true
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || json.Unmarshal(text, &p) != nil {
		return nil, false
	}
	for _, at := range p {
		if at.Skip < 0 || at.Skip > maxPage {
			return nil, false
		}
	}
	return p, true
}

// ended reports whether nothing is left at any member.
func (p places) ended(members []Member) bool {
	return !slices.ContainsFunc(members, func(m Member) bool { return !p[m.Name].Done })
}

// paging reads what all lists take. What it cannot read the local API is left
// to refuse, in its own words.
func (f *Fleet) paging(w http.ResponseWriter, r *http.Request, most int) (q url.Values, at places, limit int, ok bool) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	limit = defaultPage
	if text := q.Get("limit"); text != "" && err == nil {
		limit, err = strconv.Atoi(text)
	}
	if err != nil || limit < 1 || limit > maxPage {
		f.o.Local.ServeHTTP(w, r)
		return nil, nil, 0, false
	}
	at, ok = placesOf(q.Get("cursor"))
	if !ok {
		refuse(w, http.StatusBadRequest, "cursor %.64q: give the field next of the page before, unchanged", q.Get("cursor"))
	}
	return q, at, min(limit, most), ok
}

// queryAt is a member's own query for its part of a page.
func queryAt(q url.Values, at place, limit int) string {
	own := make(url.Values, len(q))
	for name, values := range q {
		own[name] = values
	}
	own.Set("limit", strconv.Itoa(min(limit+at.Skip, maxPage)))
	own.Del("cursor")
	if at.Cursor != "" {
		own.Set("cursor", at.Cursor)
	}
	return own.Encode()
}

// deadLetters lists one member's after the other's: within a Broker and a
// member in the order the events died.
func (f *Fleet) deadLetters(w http.ResponseWriter, r *http.Request) {
	q, at, limit, ok := f.paging(w, r, maxPage)
	if !ok {
		return
	}
	list := v1.DeadLetterList{Items: []v1.DeadLetter{}}
	members := f.o.Members()
	var away []string
	var nothing *reply // a 404: a Trigger of which this member has no letters
	for _, m := range members {
		for !at[m.Name].Done && len(list.Items) < limit {
			ask := as(r, m, nil)
			ask.query = queryAt(q, at[m.Name], limit-len(list.Items))
			good, other, silent := f.sort([]reply{f.ask(r, ask)})
			var page v1.DeadLetterList
			switch {
			case len(silent) > 0:
				away = append(away, silent...)
			case other != nil && other.code == http.StatusNotFound:
				nothing = other
			case other != nil:
				pass(w, *other)
				return
			case json.Unmarshal(good[0].body, &page) != nil:
				away = append(away, m.Name)
			}
			list.Items = append(list.Items, page.Items...)
			at[m.Name] = place{Cursor: page.Next, Done: page.Next == ""}
			if len(page.Items) == 0 && page.Next != "" {
				break // it has looked through a page's worth: the client comes again
			}
		}
	}
	if len(list.Items) == 0 && nothing != nil && len(away) == 0 && q.Get("cursor") == "" && at.ended(members) {
		pass(w, *nothing)
		return
	}
	if !at.ended(members) {
		list.Next = at.String()
	}
	lacks(w, away)
	write(w, http.StatusOK, list)
}

// events lists all members' together, newest first as far as each has looked.
func (f *Fleet) events(w http.ResponseWriter, r *http.Request) {
	q, at, limit, ok := f.paging(w, r, eventPage)
	if !ok {
		return
	}
	members := f.o.Members()
	var open []question
	for _, m := range members {
		if at[m.Name].Done {
			continue
		}
		ask := as(r, m, nil)
		ask.query = queryAt(q, at[m.Name], limit)
		open = append(open, ask)
	}
	good, other, away := f.sort(f.all(r, open))
	if other != nil {
		pass(w, *other)
		return
	}
	for _, name := range away {
		at[name] = place{Done: true}
	}
	type found struct {
		v1.Event
		member string
	}
	var all []found
	left := make(map[string]int) // items of a member's page that are not given out
	next := make(map[string]string)
	for _, g := range good {
		var page v1.EventList
		if json.Unmarshal(g.body, &page) != nil {
			away, at[g.member.Name] = append(away, g.member.Name), place{Done: true}
			continue
		}
		name := g.member.Name
		items := page.Items[min(at[name].Skip, len(page.Items)):]
		left[name], next[name] = len(items), page.Next
		for _, e := range items {
			all = append(all, found{e, name})
		}
	}
	slices.SortStableFunc(all, func(a, b found) int {
		return cmp.Or(b.Accepted.Compare(a.Accepted), strings.Compare(a.ID, b.ID))
	})
	list := v1.EventList{Items: []v1.Event{}}
	for _, e := range all[:min(limit, len(all))] {
		list.Items = append(list.Items, e.Event)
		left[e.member]--
		was := at[e.member]
		was.Skip++
		at[e.member] = was
	}
	for name, n := range left {
		if n == 0 {
			at[name] = place{Cursor: next[name], Done: next[name] == ""}
		}
	}
	if !at.ended(members) {
		list.Next = at.String()
	}
	lacks(w, away)
	write(w, http.StatusOK, list)
}
