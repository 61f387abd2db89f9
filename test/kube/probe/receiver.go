package probe

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/cloudevents/sdk-go/v2/types"
)

// hello is asked by the tests to see that a name leads here. It is not remembered.
const hello = "/.probe"

// Receivers is all receivers of one pod. It may be used by any number of goroutines.
type Receivers struct {
	mu  sync.Mutex
	all map[string]*receiver
}

type receiver struct {
	mood  Mood
	set   time.Time
	spent map[string][]int // requests that each step of this mood answered, by event id if so asked
	total int
	kept  []Request
	taken map[string]int // answers of 2xx by event id
}

// NewReceivers returns receivers that answer 200 and remember.
func NewReceivers() *Receivers { return &Receivers{all: make(map[string]*receiver)} }

// get is called with the lock held.
func (rs *Receivers) get(name string) *receiver {
	r := rs.all[name]
	if r == nil {
		r = &receiver{spent: make(map[string][]int), taken: make(map[string]int)}
		rs.all[name] = r
	}
	return r
}

// nameOf is the receiver that a request was sent to.
func nameOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, _, _ := strings.Cut(host, ".")
	return name
}

// ServeHTTP takes what a broker sends.
func (rs *Receivers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == hello {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	req := Request{
		At: time.Now(), Method: r.Method, Host: r.Host, Path: r.URL.Path, Headers: r.Header.Clone(),
		Body: body, ID: idOf(r.Header, body),
	}
	rs.mu.Lock()
	to := rs.get(nameOf(r.Host))
	step := to.next(req.ID)
	req.Status = step.Status
	if step.Drop {
		req.Status = 0
	}
	to.remember(req)
	rs.mu.Unlock()

	if step.Delay > 0 {
		select {
		case <-time.After(step.Delay):
		case <-r.Context().Done():
			return
		}
	}
	answer(w, r, body, step)
}

// next is the step for this request.
func (r *receiver) next(id string) Step {
	key := ""
	if r.mood.PerID {
		key = id
	}
	spent := r.spent[key]
	if spent == nil {
		spent = make([]int, len(r.mood.Steps))
		r.spent[key] = spent
	}
	for i, s := range r.mood.Steps {
		if s.Times > 0 && spent[i] >= s.Times || s.For > 0 && time.Since(r.set) > s.For {
			continue
		}
		spent[i]++
		if s.Status == 0 {
			s.Status = http.StatusOK
		}
		return s
	}
	return Step{Status: http.StatusOK}
}

func (r *receiver) remember(req Request) {
	r.total++
	if len(r.kept) < maxKept {
		r.kept = append(r.kept, req)
	}
	if req.Status/100 == 2 && req.ID != "" {
		r.taken[req.ID]++
	}
}

func answer(w http.ResponseWriter, r *http.Request, body []byte, step Step) {
	if step.Drop {
		panic(http.ErrAbortHandler)
	}
	for name, value := range step.Headers {
		w.Header().Set(name, value)
	}
	if step.Reply == nil {
		w.WriteHeader(step.Status)
		_, _ = io.WriteString(w, step.Body)
		return
	}
	e, err := binding.ToEvent(r.Context(), cehttp.NewMessage(r.Header, io.NopCloser(strings.NewReader(string(body)))))
	if err == nil {
		err = step.Reply.change(e)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = cehttp.WriteResponseWriter(r.Context(), binding.ToMessage(e), step.Status, w)
}

func (re *Reply) change(e *event.Event) error {
	for name, value := range re.Set {
		switch name {
		case "id":
			e.SetID(value)
		case "type":
			e.SetType(value)
		case "source":
			e.SetSource(value)
		case "subject":
			e.SetSubject(value)
		default:
			if value == "" {
				e.SetExtension(name, nil)
			} else {
				e.SetExtension(name, value)
			}
		}
	}
	if re.Data == "" {
		return nil
	}
	return e.SetData(event.ApplicationJSON, []byte(re.Data))
}

// idOf reads the id of an event in either mode, without judging the rest.
func idOf(h http.Header, body []byte) string {
	if id := h.Get("ce-id"); id != "" {
		if plain, err := types.ToString(id); err == nil {
			return plain
		}
	}
	if strings.HasPrefix(h.Get("Content-Type"), event.ApplicationCloudEventsJSON) {
		var e struct{ ID string }
		if json.Unmarshal(body, &e) == nil {
			return e.ID
		}
	}
	return ""
}

// Set gives a receiver a mood, which begins now.
func (rs *Receivers) Set(name string, m Mood) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.get(name)
	r.mood, r.set, r.spent = m, time.Now(), make(map[string][]int)
}

// Received is what came to a name.
func (rs *Receivers) Received(name string) Received {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.get(name)
	return Received{Total: r.total, Requests: append([]Request(nil), r.kept...)}
}

// Tally counts which of the n events with this prefix came.
func (rs *Receivers) Tally(name, prefix string, n int) Tally {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	var t Tally
	taken := rs.get(name).taken
	for i := range n {
		switch times := taken[prefix+strconv.Itoa(i)]; {
		case times == 0:
			t.Lost++
			if len(t.Missing) < 100 {
				t.Missing = append(t.Missing, i)
			}
		default:
			t.Came++
			t.Copies += times - 1
			if times > 1 {
				t.Twice++
			}
		}
	}
	return t
}
