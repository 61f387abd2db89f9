package remote_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// sealed is a body with its checksum.
func sealed(content string) string {
	return string(binary.LittleEndian.AppendUint32([]byte(content), crc32.Checksum([]byte(content), crc32.MakeTable(crc32.Castagnoli))))
}

// one is the body's part for an append of these events.
func one(uid string, events ...event.Event) string {
	b := append([]byte{byte(len(uid))}, uid...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(events)))
	for _, e := range events {
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Size()))
		b = append(b, e.Raw()...)
	}
	return string(b)
}

// unread is a body that must not be read.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestNothingIsReadOfWhoMayNotAppend(t *testing.T) {
	for _, tt := range []struct {
		name      string
		authorize func(*http.Request) error
		status    int
	}{
		{"nobody said who may", nil, 401},
		{"not known", func(*http.Request) error { return errors.New("token is not good") }, 401},
		{"known", func(*http.Request) error { return fmt.Errorf("system:anonymous: %w", remote.ErrForbidden) }, 403},
		{"nobody can be asked", func(*http.Request) error { return fmt.Errorf("%w: API server", channel.ErrUnavailable) }, 503},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := remote.NewServer(remote.ServerOptions{Appender: of(&storing{}), Authorize: tt.authorize})
			for _, path := range []string{remote.Path, "/", "/internal/v2/append"} { // a stranger learns no paths
				r := httptest.NewRequest("POST", path, unread{t})
				r.ContentLength = 100
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if w.Code != tt.status || w.Header().Get("Penstock-Append") != "1" {
					t.Errorf("%s: status %d with headers %v", path, w.Code, w.Header())
				}
			}
		})
	}
}

func TestRequestThatMakesNoSenseIsRefusedWhole(t *testing.T) {
	e := anEvent(t, "1", "", 100)
	for _, tt := range []struct {
		name   string
		method string
		path   string
		body   string
		length int64 // -1 for none told
		status int
	}{
		{name: "GET", method: "GET", status: 405},
		{name: "another path", path: "/", status: 404},
		{name: "another version", path: "/internal/v2/append", status: 404},
		{name: "no length", body: sealed(one("a", e)), length: -1, status: 411},
		{name: "too long", length: 1<<16 + 1, status: 413},
		{name: "empty", status: 400},
		{name: "no room for the sum", body: "abc", status: 400},
		{name: "wrong sum", body: one("a", e) + "\x00\x00\x00\x00", status: 400},
		{name: "ends in the uid", body: sealed("\x05abc"), status: 400},
		{name: "ends in the count", body: sealed("\x01a\x01\x00"), status: 400},
		{name: "ends before an event", body: sealed("\x01a\x02\x00\x00\x00"), status: 400},
		{name: "ends in an event", body: sealed(one("a", e)[:50]), status: 400},
		{name: "event of 4 GiB", body: sealed("\x01a\x01\x00\x00\x00\xff\xff\xff\xff"), status: 400},
		{name: "4 billion events", body: sealed("\x01a\xff\xff\xff\xff"), status: 413},
		{name: "too many events", body: sealed(one("a", e, e, e, e, e)), status: 413},
		{name: "too many appends", body: sealed(one("a") + one("a") + one("a") + one("a")), status: 413},
		{name: "good, then bad", body: sealed(one("a", e) + "\x01"), status: 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log storing
			s := remote.NewServer(remote.ServerOptions{Appender: of(&log), Authorize: everybody, MaxRequestBytes: 1 << 16, MaxEvents: 4, MaxAppends: 3})
			method, path := "POST", remote.Path
			if tt.method != "" {
				method = tt.method
			}
			if tt.path != "" {
				path = tt.path
			}
			r := httptest.NewRequest(method, path, strings.NewReader(tt.body))
			if tt.length != 0 {
				r.ContentLength = tt.length
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != tt.status || len(log.calls) > 0 {
				t.Errorf("status %d, want %d; %d appends reached the log", w.Code, tt.status, len(log.calls))
			}
			if n := s.Stats().InFlightBytes; n != 0 {
				t.Errorf("%d bytes are still in flight", n)
			}
		})
	}
}

func TestReasonsAreKeptApartAcrossTheHop(t *testing.T) {
	refused := func(wait time.Duration, err error) error { return &channel.Refused{Err: err, RetryAfter: wait} }
	reasons := []error{channel.ErrFull, channel.ErrQuota, channel.ErrUnavailable, channel.ErrNoBroker, channel.ErrTooLarge, channel.ErrClosed, channel.ErrUnknown}
	for _, tt := range []struct {
		name string
		err  error
		want []error
		wait time.Duration
	}{
		{"full", refused(2*time.Second, fmt.Errorf("%w: 5 of 5 bytes", channel.ErrFull)), []error{channel.ErrFull}, 2 * time.Second},
		{"quota", refused(10*time.Second, channel.ErrQuota), []error{channel.ErrQuota}, 10 * time.Second},
		{"not available", refused(time.Millisecond/2, channel.ErrUnavailable), []error{channel.ErrUnavailable}, time.Millisecond},
		{"closed", refused(time.Second, fmt.Errorf("%w: %w", channel.ErrUnavailable, channel.ErrClosed)), []error{channel.ErrUnavailable, channel.ErrClosed}, time.Second},
		{"no broker", refused(0, channel.ErrNoBroker), []error{channel.ErrNoBroker}, 0},
		{"too large", refused(0, channel.ErrTooLarge), []error{channel.ErrTooLarge}, 0},
		{"another reason", refused(3*time.Second, errors.New("event 1 is odd\nand\x1b[2J evil")), nil, 3 * time.Second},
		{"unknown", fmt.Errorf("%w: disk", channel.ErrUnknown), []error{channel.ErrUnknown}, -1},
		{"unknown wins", fmt.Errorf("%w: %w", channel.ErrUnknown, refused(time.Second, channel.ErrFull)), []error{channel.ErrUnknown}, -1},
		{"neither", errors.New("some bug"), []error{channel.ErrUnknown}, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			log := appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
				calls.Add(1)
				return nil, tt.err
			})
			address, s, _ := serve(t, remote.ServerOptions{Appender: of(log)})
			_, err := client(t, remote.Options{}, address).Append(t.Context(), "a", []event.Event{anEvent(t, "1", "", 10)})
			for _, reason := range reasons {
				want := false
				for _, w := range tt.want {
					want = want || w == reason
				}
				if errors.Is(err, reason) != want {
					t.Errorf("error %v: is it %q? %v", err, reason, !want)
				}
			}
			var r *channel.Refused
			if got := errors.As(err, &r); got != (tt.wait >= 0) {
				t.Errorf("error %v: refused is %v", err, got)
			} else if got && r.RetryAfter != tt.wait {
				t.Errorf("come back after %v, want %v", r.RetryAfter, tt.wait)
			}
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error %q is not one clean line", err)
			}
			if calls.Load() != 1 {
				t.Errorf("the log was asked %d times", calls.Load())
			}
			if st := s.Stats(); st.Appends != 1 || st.Stored != 0 || st.Refused+st.Unknown != 1 {
				t.Errorf("stats %+v", st)
			}
		})
	}
}

func TestBrokerThatIsNotThereIsToldFromOneNotLoaded(t *testing.T) {
	var log, other storing
	find := func(uid channel.UID) (channel.Appender, error) {
		switch uid {
		case "a":
			return &log, nil
		case "loading":
			return nil, fmt.Errorf("%w: not loaded yet", channel.ErrUnavailable)
		case "broken":
			return nil, errors.New("no idea")
		}
		return nil, channel.ErrNoBroker
	}
	address, _, _ := serve(t, remote.ServerOptions{Appender: find})
	c := client(t, remote.Options{}, address)
	for uid, want := range map[channel.UID]error{
		"gone": channel.ErrNoBroker, "loading": channel.ErrUnavailable, "broken": channel.ErrUnavailable,
		channel.UID(strings.Repeat("x", 300)): channel.ErrNoBroker, "": channel.ErrNoBroker,
	} {
		_, err := c.Append(t.Context(), uid, []event.Event{anEvent(t, "1", "", 10)})
		var refused *channel.Refused
		if !errors.As(err, &refused) || !errors.Is(err, want) || (refused.RetryAfter > 0) != (want == channel.ErrUnavailable) {
			t.Errorf("broker %.10q: %v, want %v", uid, err, want)
		}
	}
	// One that is loaded elsewhere takes what has no key.
	ready, _, _ := serve(t, remote.ServerOptions{Appender: of(&other)})
	c.SetOwners(owners(address, ready))
	for i := range 10 {
		if _, err := c.Append(t.Context(), "loading", []event.Event{anEvent(t, fmt.Sprint(i), "", 10)}); err != nil {
			t.Errorf("one of two has loaded it: %v", err)
		}
	}
	_, err := c.Append(t.Context(), "loading", []event.Event{anEvent(t, "1", keyOf(0, 2), 10)})
	wantOutcome(t, err, false)
	if n := len(other.ids()); n != 10 {
		t.Errorf("%d events stored of 10", n)
	}
}

func TestAppendsOfOneRequestHaveEachTheirOwnOutcome(t *testing.T) {
	// What fits alone must not be refused for its neighbours' size.
	var log storing
	choosy := appenderFunc(func(ctx context.Context, uid channel.UID, events []event.Event) ([]channel.Stored, error) {
		total := 0
		for _, e := range events {
			total += e.Size()
		}
		if total > 5000 {
			return nil, &channel.Refused{Err: channel.ErrTooLarge}
		}
		return log.Append(ctx, uid, events)
	})
	s := remote.NewServer(remote.ServerOptions{Appender: func(uid channel.UID) (channel.Appender, error) {
		if uid == "gone" {
			return nil, channel.ErrNoBroker
		}
		return choosy, nil
	}, Authorize: everybody})
	small, large := anEvent(t, "small", "", 1000), anEvent(t, "large", "", 10_000)
	odd := "\x01a\x01\x00\x00\x00\x03\x00\x00\x00\x07\x07\x07" // an event of no version we know
	body := sealed(one("a", small, small) + one("a", large) + one("gone", small) + odd + one("a", small) + one("b", small))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", remote.Path, strings.NewReader(body)))
	if w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	if st := s.Stats(); st.Appends != 6 || st.Stored != 3 || st.Refused != 3 || st.Events != 4 {
		t.Errorf("stats %+v", st)
	}
	if n := len(log.ids()); n != 4 {
		t.Errorf("%d events stored, want 4", n)
	}
}

func TestServerTakesOnlySoMuchAtOnce(t *testing.T) {
	release := make(chan struct{})
	log := appenderFunc(func(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
		<-release
		return make([]channel.Stored, len(events)), nil
	})
	s := remote.NewServer(remote.ServerOptions{Appender: of(log), Authorize: everybody, MaxInFlight: 1500})
	body := sealed(one("a", anEvent(t, "1", "", 1000)))
	done := make(chan int)
	send := func() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("POST", remote.Path, strings.NewReader(body)))
		done <- w.Code
	}
	go send()
	eventually(t, "the first is in", func() bool { return s.Stats().InFlightBytes > 0 })
	go send()
	if code := <-done; code != 429 {
		t.Errorf("the second is answered %d", code)
	}
	close(release)
	if code := <-done; code != 200 {
		t.Errorf("the first is answered %d", code)
	}
}
