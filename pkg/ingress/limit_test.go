package ingress_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

const theBroker = channel.UID("uid of default/default")

// limited are routes to one broker with a limit of so many events a second.
func limited(a channel.Appender, rate float64) ingress.Routes {
	limits := ingress.Limits(nil).Next(map[channel.UID]float64{theBroker: rate})
	return brokers{"default/default": {Appender: a, Limit: limits[theBroker]}, "default/free": {Appender: a}}.find
}

// sender posts to a handler without a network, for stories in virtual time.
type sender struct{ h *ingress.Handler }

func (s sender) post(body io.Reader, headers ...string) *http.Response {
	r := httptest.NewRequest("POST", "/default/default", body)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	s.h.ServeHTTP(w, r)
	return w.Result()
}

func (s sender) event() *http.Response { return s.post(strings.NewReader("hello"), binary()...) }

func (s sender) batch(n int) *http.Response {
	return s.post(batchOf(n), "Content-Type: "+event.ContentTypeBatch)
}

func batchOf(n int) io.Reader {
	return strings.NewReader("[" + strings.TrimSuffix(strings.Repeat(structured+",", n), ",") + "]")
}

// withLimit runs a story of one limited broker.
func withLimit(t *testing.T, rate float64, story func(s sender, kept *stored)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kept := &stored{}
		story(sender{ingress.New(ingress.Options{Routes: limited(kept, rate)})}, kept)
	})
}

func want(t *testing.T, what string, got *http.Response, code int, retryAfter string) {
	t.Helper()
	if got.StatusCode != code || got.Header.Get("Retry-After") != retryAfter {
		t.Errorf("%s: status %d, Retry-After %q; want %d, %q", what, got.StatusCode, got.Header.Get("Retry-After"), code, retryAfter)
	}
}

func TestALimitedBrokerAcceptsItsRateAndNoMore(t *testing.T) {
	withLimit(t, 100, func(s sender, kept *stored) {
		const seconds = 10
		for range seconds * 1000 { // ten times the rate
			if got := s.event(); got.StatusCode != 202 {
				want(t, "over the rate", got, 429, "1")
			}
			time.Sleep(time.Millisecond)
		}
		// What a full bucket holds comes on top, once.
		if n := len(kept.all()); n < seconds*100+99 || n > seconds*100+101 {
			t.Errorf("%d events stored in %d s, want 100 a second and 100 at the start", n, seconds)
		}
		time.Sleep(time.Hour)
		before := len(kept.all())
		for range 1000 {
			s.event()
		}
		if n := len(kept.all()) - before; n != 100 {
			t.Errorf("%d events passed at once after an hour's pause, want a second's worth", n)
		}
	})
}

func TestRetryAfterIsWhenTheRateHasRoomAgain(t *testing.T) {
	withLimit(t, 5./60, func(s sender, kept *stored) {
		want(t, "the first", s.event(), 202, "")
		want(t, "the second", s.event(), 429, "12")
		time.Sleep(11*time.Second + 900*time.Millisecond)
		want(t, "too early", s.event(), 429, "1")
		time.Sleep(100 * time.Millisecond)
		want(t, "after exactly the time asked for", s.event(), 202, "")
		if n := len(kept.all()); n != 2 {
			t.Errorf("%d stored, want those answered 202", n)
		}
	})
	withLimit(t, 1e-12, func(s sender, _ *stored) {
		s.event()
		want(t, "a rate of next to nothing", s.event(), 429, "86400")
	})
}

// unread is a body that must not be asked for.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body of a refused event was read")
	return 0, io.EOF
}

func TestTheBodyOfAnEventOverTheRateIsNotRead(t *testing.T) {
	withLimit(t, 1, func(s sender, _ *stored) {
		s.event()
		want(t, "event", s.post(unread{t}, binary()...), 429, "1")
		want(t, "batch", s.post(unread{t}, "Content-Type: "+event.ContentTypeBatch), 429, "1")
	})
}

func TestABatchOfAnySizePassesAndThoseAfterItWait(t *testing.T) {
	withLimit(t, 10, func(s sender, kept *stored) {
		want(t, "a batch of a hundred seconds", s.batch(1000), 202, "")
		want(t, "after it", s.event(), 429, "100") // 990 are overdrawn, and one is wanted
		time.Sleep(99*time.Second + 100*time.Millisecond)
		want(t, "when its time is over", s.event(), 202, "")
		want(t, "and no more than that", s.event(), 429, "1")
		if n := len(kept.all()); n != 1001 {
			t.Errorf("%d stored, want 1001", n)
		}
		time.Sleep(time.Second)
		for range 20 {
			want(t, "a batch of nothing takes nothing", s.batch(0), 202, "")
		}
		want(t, "so a batch passes still", s.batch(10), 202, "")
	})
}

// gate is a body that arrives when it is told to.
type gate struct {
	io.Reader
	open chan struct{}
}

func (g gate) Read(p []byte) (int, error) {
	<-g.open
	return g.Reader.Read(p)
}

func TestOfBatchesThatEnteredTogetherOneOverdraws(t *testing.T) {
	withLimit(t, 10, func(s sender, kept *stored) {
		open, answers := make(chan struct{}), make(chan *http.Response, 10)
		for range cap(answers) {
			go func() { answers <- s.post(gate{batchOf(500), open}, "Content-Type: "+event.ContentTypeBatch) }()
		}
		synctest.Wait() // all of them have entered and wait for their bodies
		close(open)
		codes := map[int]int{}
		for range cap(answers) {
			codes[(<-answers).StatusCode]++
		}
		if codes[202] != 1 || codes[429] != 9 || len(kept.all()) != 500 {
			t.Errorf("answers %v, %d stored; want one batch and nine refusals", codes, len(kept.all()))
		}
	})
}

func TestWhatIsNotStoredTakesNothingFromTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var answer error
		s := sender{ingress.New(ingress.Options{Routes: limited(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
			return nil, answer
		}), 10)})}
		for range 100 {
			want(t, "malformed", s.post(strings.NewReader("hello"), binary()[2:]...), 400, "")
			want(t, "malformed batch", s.post(strings.NewReader("["), "Content-Type: "+event.ContentTypeBatch), 400, "")
		}
		answer = &channel.Refused{Err: channel.ErrQuota}
		for range 100 {
			want(t, "refused by the channel", s.event(), 507, "10")
			want(t, "batch refused by the channel", s.batch(7), 507, "10")
		}
		// An event that may be stored counts as if it were.
		answer = channel.ErrUnknown
		for range 10 {
			want(t, "unknown", s.event(), 500, "")
		}
		want(t, "after ten that may be stored", s.event(), 429, "1")
	})
}

func TestALimitIsItsBrokersAlone(t *testing.T) {
	d := open(t, ingress.Options{Routes: limited(nowhere, 1./3600)}, ingress.ServerOptions{})
	free := "http://" + d.addr + "/default/free"
	for range 20 {
		send(t, "POST", d.url, strings.NewReader("hello"), binary()...)
		if got := send(t, "POST", free, strings.NewReader("hello"), binary()...); got.StatusCode != 202 {
			t.Fatalf("the broker beside the limited one answers %d", got.StatusCode)
		}
	}
	send(t, "POST", d.url, batchOf(3), "Content-Type: "+event.ContentTypeBatch)
	d.wantMetric(t, `penstock_events_received_total{broker="default/default",code="202"} 1`)
	d.wantMetric(t, `penstock_events_received_total{broker="default/default",code="429"} 20`)
	d.wantMetric(t, `penstock_events_received_total{broker="default/free",code="202"} 20`)
}

func TestAReloadChangesTheRateAndNotTheBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rates := func(r float64) map[channel.UID]float64 { return map[channel.UID]float64{theBroker: r} }
		limits := ingress.Limits(nil).Next(rates(10))
		s := sender{ingress.New(ingress.Options{Routes: func(string, string) (ingress.Target, bool) {
			return ingress.Target{UID: theBroker, Name: "default/default", Appender: nowhere, Limit: limits[theBroker]}, true
		}})}
		passed := func() (n int) {
			for n <= 1000 && s.event().StatusCode == 202 {
				n++
			}
			return n
		}
		reload := func(r float64) { limits = limits.Next(rates(r)) }
		for i, step := range []struct {
			rate float64
			wait time.Duration
			want int
		}{
			{10, 0, 10},                              // full at first
			{10, 0, 0},                               // nothing changed, and the bucket is as empty as it was
			{1000, 0, 0},                             // nor does a higher rate fill it
			{1000, 500 * time.Millisecond, 500},      // but faster from now on
			{10, time.Second, 10},                    // a lower rate holds less
			{1. / 3600, 0, 0},                        //
			{1000, 10 * time.Millisecond, 10},        // the long wait of a low rate is over at once
			{1. / 3600, 90 * time.Minute, 1},         //
			{1000, time.Hour, 1000},                  //
			{100, 0, 0},                              //
			{100, 99 * time.Millisecond, 9},          //
			{100, 10 * time.Millisecond, 1},          //
			{2000, 2500 * time.Microsecond, 5},       //
			{1e9, 3 * time.Nanosecond, 3},            //
			{5, 200*time.Millisecond - time.Hour, 0}, // no time passes
		} {
			reload(step.rate)
			time.Sleep(step.wait)
			if n := passed(); n != step.want {
				t.Errorf("step %d: %d events passed, want %d: %+v", i, n, step.want, step)
			}
		}
		limits = limits.Next(nil)
		for range 100 {
			want(t, "without a limit", s.event(), 202, "")
		}
	})
}

// A refusal must not cost the sender its connection: to open one costs more
// than the event.
func TestARefusedSenderKeepsItsConnection(t *testing.T) {
	d := open(t, ingress.Options{Routes: limited(nowhere, 1./3600)}, ingress.ServerOptions{})
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for i, size := range []int{5, 0, 5, 100_000, 200_000, 5} {
		if _, err := fmt.Fprintf(conn, "POST /default/default HTTP/1.1\r\nHost: x\r\n%sContent-Length: %d\r\n\r\n%s", rawEvent, size, strings.Repeat("x", size)); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		text, err := io.ReadAll(answer.Body)
		code, after := 429, "3600"
		if i == 0 {
			code, after = 202, ""
		}
		want(t, fmt.Sprintf("body of %d bytes", size), answer, code, after)
		if err != nil || answer.Close || (code == 429 && string(text) != "rate limit of the broker is reached\n") {
			t.Errorf("body of %d bytes: connection closes %v, reason %q, %v", size, answer.Close, text, err)
		}
	}
	// Who asks first is told before it sends.
	if answer := raw(t, d.addr, "POST /default/default HTTP/1.1\r\nHost: x\r\n"+rawEvent+"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"); answer == nil || answer.StatusCode != 429 {
		t.Errorf("a sender that expects 100 got %+v", answer)
	}
}

func TestTheHandshakeGrantsNoMoreThanTheLimit(t *testing.T) {
	for rate, want := range map[float64]string{10: "100", 1: "60", 0.001: "1"} {
		d := open(t, ingress.Options{Routes: limited(nowhere, rate)}, ingress.ServerOptions{})
		got := send(t, "OPTIONS", d.url, nil, "WebHook-Request-Origin: events.example.com", "WebHook-Request-Rate: 100")
		if granted := got.Header.Get("WebHook-Allowed-Rate"); granted != want {
			t.Errorf("%v events/s: %q requests a minute are granted, want %s", rate, granted, want)
		}
	}
}

func TestManySendersTogetherGetTheRateAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := &stored{}
		s := sender{ingress.New(ingress.Options{Routes: limited(kept, 1000)})}
		var senders sync.WaitGroup
		for range 50 {
			senders.Go(func() {
				for range 200 {
					s.event()
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		senders.Wait()
		if n := len(kept.all()); n < 2985 || n > 3000 {
			t.Errorf("%d events passed in 2 s, want 1000 a second and 1000 at the start", n)
		}
	})
}
