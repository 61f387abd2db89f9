package remote_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

func TestOrderlyStopUnderLoadLeavesNothingUnknown(t *testing.T) {
	// Two dispatchers; each is stopped and comes back under another address,
	// and the clients hear of it late, or only from the dispatcher itself.
	logs := make([]storing, 2)
	var addresses [2]string
	var stops [2]func()
	begin := func(i int) { addresses[i], _, stops[i] = serve(t, remote.ServerOptions{Appender: of(&logs[i])}) }
	begin(0)
	begin(1)
	clients := make([]*remote.Client, 3)
	for i := range clients {
		clients[i] = client(t, remote.Options{}, addresses[:]...)
	}
	var (
		over sync.WaitGroup
		mu   sync.Mutex
		done = make(chan struct{})
		got  = map[string]error{}
	)
	for n := range 12 {
		over.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				id, key := fmt.Sprintf("%d-%d", n, i), ""
				if n%4 == 0 {
					key = keyOf(i%2, 2)
				}
				_, err := clients[n%3].Append(t.Context(), "a", []event.Event{anEvent(t, id, key, 200)})
				if err != nil {
					wantOutcome(t, err, false)
					if key == "" {
						t.Errorf("one dispatcher of two is stopped, and an event without a key is refused: %v", err)
					}
				}
				mu.Lock()
				got[id] = err
				mu.Unlock()
			}
		})
	}
	for round := range 6 {
		i := round % 2
		before := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
		n := before()
		eventually(t, "there is load", func() bool { return before() > n+200 })
		start := time.Now()
		stops[i]()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the stop took %v: clients did not let go", took)
		}
		n = before()
		eventually(t, "the other one has it all", func() bool { return before() > n+200 })
		begin(i)
		for _, c := range clients {
			c.SetOwners(owners(addresses[:]...))
		}
	}
	close(done)
	over.Wait()
	stored := slices.Concat(logs[0].ids(), logs[1].ids())
	count := map[string]int{}
	for _, id := range stored {
		count[id]++
	}
	for id, err := range got {
		if want := map[bool]int{true: 1}[err == nil]; count[id] != want {
			t.Errorf("%s is stored %d times, want %d; its outcome is %v", id, count[id], want, err)
		}
	}
	t.Logf("%d events", len(stored))
}

func TestIdleClientHearsOfAStop(t *testing.T) {
	var log storing
	address, _, stop := serve(t, remote.ServerOptions{Appender: of(&log)})
	c := client(t, remote.Options{}, address)
	if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 1)}); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	stop()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("stopped after %v, although its client had nothing to send", took)
	}
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "2", "", 1)})
	wantOutcome(t, err, false)
	if st := c.Stats()[0]; st.Up {
		t.Errorf("it may still be chosen: %+v", st)
	}
}

func TestDrainingServerTakesEventsForAWhileAndThenRefuses(t *testing.T) {
	log := newHeld()
	address, s, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	c := client(t, remote.Options{Conns: 1, Pulse: time.Hour}, address)
	outcome := make(chan error, 5)
	send := func(id string) {
		go func() {
			_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, id, "", 1)})
			outcome <- err
		}()
	}
	send("before")
	<-log.entered
	s.Drain()
	close(log.let)
	if err := <-outcome; err != nil {
		t.Errorf("in the log when the drain begins: %v", err)
	}
	// That answer has said it: nothing more comes from this client.
	send("after")
	wantOutcome(t, <-outcome, false)
	if st := c.Stats()[0]; st.Up || !st.Draining {
		t.Errorf("the client has not understood: %+v", st)
	}
	// Whoever sends all the same is served.
	for _, status := range []int{200, 503} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", remote.Path, strings.NewReader(sealed(one("a", anEvent(t, "late", "", 1))))))
		if w.Code != status || w.Header().Get("Penstock-Draining") != "true" {
			t.Errorf("status %d with headers %v, want %d", w.Code, w.Header(), status)
		}
		s.Refuse()
	}
	again := client(t, remote.Options{Conns: 1}, address)
	_, err := again.Append(t.Context(), "a", []event.Event{anEvent(t, "new", "", 1)})
	wantOutcome(t, err, false) // chosen no more by clients that come now
	if got := fmt.Sprint(log.ids()); got != "[before late]" {
		t.Errorf("stored: %s", got)
	}
}

func TestServerThatStopsRefusesWhoHasNotHeard(t *testing.T) {
	var log storing
	address, _, stop := serve(t, remote.ServerOptions{Appender: of(&log), Grace: 20 * time.Millisecond, LastWords: 10 * time.Second})
	deaf := &http.Client{Transport: &http.Transport{}}
	post := func() (status int, draining bool) {
		body := strings.NewReader(sealed(one("a", anEvent(t, "1", "", 1))))
		r, err := deaf.Post("http://"+address+remote.Path, "", body)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		_, _ = io.Copy(io.Discard, r.Body)
		return r.StatusCode, r.Header.Get("Penstock-Draining") != ""
	}
	if status, draining := post(); status != 200 || draining {
		t.Fatalf("status %d, draining %v", status, draining)
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	eventually(t, "it is refused", func() bool { status, draining := post(); return status == 503 && draining })
	n := len(log.ids())
	if status, _ := post(); status != 503 || len(log.ids()) != n {
		t.Errorf("refused once and then answered %d", status)
	}
	start := time.Now()
	deaf.CloseIdleConnections()
	<-stopped
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("nobody is left, and it waits for %v", took)
	}
}

func TestRefusingServerStoresNothing(t *testing.T) {
	var log storing
	address, s, _ := serve(t, remote.ServerOptions{Appender: of(&log)})
	c := client(t, remote.Options{Conns: 1, Pulse: time.Hour}, address)
	if _, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 1)}); err != nil {
		t.Fatal(err)
	}
	s.Refuse()
	_, err := c.Append(t.Context(), "a", []event.Event{anEvent(t, "2", "", 1)})
	wantOutcome(t, err, false)
	if st := c.Stats()[0]; len(log.ids()) != 1 || !st.Draining {
		t.Errorf("stored %v; %+v", log.ids(), st)
	}
}
