package simulation_test

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/memhttp"
)

// mood is how a subscriber behaves for a while. Its zero value takes every
// event at once.
type mood struct {
	what       string
	share      float64       // of the requests it holds for; 0 is all
	wait       time.Duration // before the answer
	code       int           // 0 is 200
	retryAfter time.Duration
	reset      bool // the connection is reset instead
	halfway    bool // a good status, and then a reset
	drip       int  // so many bytes of an answer, one a second
	reply      bool // with an event
	nonsense   bool // with what claims to be an event and is none
}

func (m mood) String() string {
	if m.share > 0 {
		return fmt.Sprintf("%s (%.0f %%)", m.what, 100*m.share)
	}
	return m.what
}

// subscriber is one that a script or a story tells how to behave.
type subscriber struct {
	w    *world
	name string
	seed uint64

	// Of a story, set before the broker runs; nil for none.
	pick func(id string) mood         // instead of the mood
	also func(rw http.ResponseWriter) // instead of an answer

	mu     sync.Mutex
	mood   mood
	woken  chan struct{} // closed when the mood changes: who hangs goes on
	server *http.Server  // nil while it is down
	calls  map[string]int
	got    []receipt
}

// receipt is one event that came.
type receipt struct {
	id string
	at time.Duration // since the story began
}

// subscribe brings up the subscriber of a Trigger.
func (w *world) subscribe(name string) *subscriber {
	s := &subscriber{w: w, name: name, seed: w.moods.Uint64(), calls: make(map[string]int), woken: make(chan struct{})}
	w.subscribers[name] = s
	s.up()
	return s
}

func (s *subscriber) up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		return
	}
	l, err := s.w.net.Listen(s.name)
	if err != nil {
		s.w.t.Errorf("subscriber %s: %v", s.name, err)
		return
	}
	s.server = &http.Server{Handler: s.w.rec.Subscriber("default/"+s.name, s)}
	go func(server *http.Server) { _ = server.Serve(l) }(s.server)
}

// down closes the port, and all connections with it.
func (s *subscriber) down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.server != nil {
		s.server.Close()
		s.server = nil
	}
}

// feel changes the mood.
func (s *subscriber) feel(m mood) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mood = m
	close(s.woken)
	s.woken = make(chan struct{})
}

func (s *subscriber) receipts() []receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]receipt(nil), s.got...)
}

// note remembers a request and decides how it is answered: by the mood, and
// where that holds for a share of the requests by the event and how often it
// has come, so that a script has its answers again.
func (s *subscriber) note(id string) (mood, *rand.Rand, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[id]++
	s.got = append(s.got, receipt{id, time.Since(s.w.start)})
	h := fnv.New64a()
	_, _ = io.WriteString(h, s.name+id)
	rng := rand.New(rand.NewPCG(s.seed^h.Sum64(), uint64(s.calls[id])))
	if s.pick != nil {
		return s.pick(id), rng, s.woken
	}
	if m := s.mood; m.share == 0 || rng.Float64() < m.share {
		return m, rng, s.woken
	}
	return mood{}, rng, s.woken
}

func (s *subscriber) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	m, rng, woken := s.note(r.Header.Get("Ce-Id"))
	if !sleep(r.Context(), m.wait, woken) {
		panic(http.ErrAbortHandler) // the broker has hung up: there is no answer
	}
	switch {
	case s.also != nil:
		s.also(rw)
	case m.reset:
		hangUp(rw)
	case m.halfway:
		rw.Header().Set("Content-Length", "100")
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = rw.Write([]byte("half"))
		_ = http.NewResponseController(rw).Flush()
		hangUp(rw)
	case m.drip > 0:
		for range m.drip {
			_, err := rw.Write([]byte("x"))
			if err == nil {
				err = http.NewResponseController(rw).Flush()
			}
			if err != nil || !sleep(r.Context(), time.Second, woken) {
				return
			}
		}
	case m.reply && r.Header.Get("Ce-Reply") == "":
		e := history.NewEvent(rng).With("reply", "true")
		s.w.rec.Send("default/"+s.brokerName(), e)
		body := e.Write(rw.Header())
		_, _ = rw.Write(body)
	case m.nonsense:
		rw.Header().Set("Ce-Specversion", "1.0")
		rw.Header().Set("Ce-Id", "no event")
		rw.Header().Set(history.FailedHeader, "true")
		rw.WriteHeader(http.StatusOK)
	default:
		code := m.code
		if code == 0 {
			code = http.StatusOK
		}
		history.Respond(rw, code, m.retryAfter)
	}
}

// brokerName is the Broker of the subscriber's Trigger.
func (s *subscriber) brokerName() string {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if i := s.w.find(s.name); i >= 0 {
		return s.w.objects[i].Trigger.Broker
	}
	return "gone"
}

// hangUp resets the connection of a request.
func hangUp(rw http.ResponseWriter) {
	conn, _, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return // it is gone already
	}
	if c, ok := conn.(*memhttp.Conn); ok {
		c.Reset()
	}
	_ = conn.Close()
}

// sleep waits, not after woken, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration, woken <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-woken:
		return true
	case <-ctx.Done():
		return false
	}
}

// sender is one that posts to a Broker from a host; one for all its posts.
func (w *world) sender(host, broker string) *history.Sender {
	w.mu.Lock()
	defer w.mu.Unlock()
	key := host + " " + broker
	if s := w.senders[key]; s != nil {
		return s
	}
	transport := &http.Transport{DialContext: w.net.Host(host).DialContext, IdleConnTimeout: time.Minute}
	s := &history.Sender{
		Recorder: w.rec, Client: &http.Client{Transport: transport},
		URL: "http://" + front + "/default/" + broker, Broker: "default/" + broker, Timeout: 30 * time.Second,
	}
	w.senders[key] = s
	return s
}
