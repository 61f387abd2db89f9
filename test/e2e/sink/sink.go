// Package sink is a subscriber for tests. It reads events with the CloudEvents
// Go SDK, which nobody here wrote, and keeps what came for each path.
//
// A Sink may be used by any number of goroutines.
package sink

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
)

// patience is how long Await waits for events.
const patience = 60 * time.Second

// Receipt is one event as it came, perhaps several times.
type Receipt struct {
	Event event.Event
	Sum   string // of its data
	Times int
}

// Sum is how receipts name data: the hexadecimal SHA-256.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Sink is a listening subscriber.
type Sink struct {
	t       testing.TB
	address string
	answer  func(r *http.Request) int

	mu      sync.Mutex
	paths   map[string]map[string]Receipt // path, then event id
	changed chan struct{}
}

// Start listens on loopback until the test ends. answer decides on the status
// of each request; only what gets a 2xx is kept. nil takes everything.
func Start(t testing.TB, answer func(r *http.Request) int) *Sink {
	t.Helper()
	if answer == nil {
		answer = func(*http.Request) int { return http.StatusNoContent }
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{
		t: t, address: ln.Addr().String(), answer: answer,
		paths: make(map[string]map[string]Receipt), changed: make(chan struct{}),
	}
	server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	return s
}

// Address is where the sink listens, HOST:PORT.
func (s *Sink) Address() string { return s.address }

// URL is the address of one path, which begins with a slash.
func (s *Sink) URL(path string) string { return "http://" + s.address + path }

// ServeHTTP takes one event.
func (s *Sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status := s.answer(r)
	if status/100 == 2 {
		e, err := cehttp.NewEventFromHTTPRequest(r)
		if err != nil {
			// A broker that is killed leaves half a request behind.
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.keep(r.URL.Path, *e)
	}
	w.WriteHeader(status)
}

func (s *Sink) keep(path string, e event.Event) {
	sum := Sum(e.Data())
	s.mu.Lock()
	defer s.mu.Unlock()
	got := s.paths[path]
	if got == nil {
		got = make(map[string]Receipt)
		s.paths[path] = got
	}
	r := got[e.ID()]
	if r.Times > 0 && r.Sum != sum {
		s.t.Errorf("%s: event %s came twice with different data", path, e.ID())
	}
	got[e.ID()] = Receipt{Event: e, Sum: sum, Times: r.Times + 1}
	close(s.changed)
	s.changed = make(chan struct{})
}

// Got is what came for a path, by event id.
func (s *Sink) Got(path string) map[string]Receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.paths[path])
}

// Await waits until all the ids have come for a path.
func (s *Sink) Await(path string, ids ...string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		s.mu.Lock()
		changed, missing, one := s.changed, 0, ""
		for _, id := range ids {
			if s.paths[path][id].Times == 0 {
				missing, one = missing+1, id
			}
		}
		s.mu.Unlock()
		if missing == 0 {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			s.t.Fatalf("%s: %d of %d events are missing after %v, one is %s", path, missing, len(ids), patience, one)
		}
	}
}
