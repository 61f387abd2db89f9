package load_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
)

func serve(t *testing.T) (*sink.Sink, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, ended := new(sink.Sink), make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s, l.Addr().String()
}

func TestEveryAcceptedEventIsAtTheSinkOnce(t *testing.T) {
	s, address := serve(t)
	accepted := new(tally.Bitset)
	r, err := load.Run(t.Context(), load.Options{Address: address, Path: "/one", Connections: 8, Events: 3000, Size: 1024, FirstID: 500}, accepted)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 3000 || r.Accepted != 3000 || r.Errors+r.Refused != 0 || accepted.Len() != 3000 || accepted.Add(500) || accepted.Add(3499) {
		t.Errorf("%+v, %d accepted ids, want 3000 from 500 to 3499", r, accepted.Len())
	}
	if r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Max {
		t.Errorf("latencies %v, %v, %v are not in order", r.P50, r.P99, r.Max)
	}
	got := s.Stats().Paths["/one"]
	if got.Events != 3000 || got.Duplicates != 0 || got.P99 <= 0 || got.P99 > time.Minute {
		t.Errorf("sink has %+v, want 3000 events once", got)
	}
}

func TestTheSinkCountsWhatComesAgainAndForgetsOnReset(t *testing.T) {
	s, address := serve(t)
	control := httptest.NewServer(s.Control())
	defer control.Close()
	send := func() {
		if _, err := load.Run(t.Context(), load.Options{Address: address, Path: "/one", Events: 10}, new(tally.Bitset)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	send()
	if got := s.Stats().Paths["/one"]; got.Events != 20 || got.Duplicates != 10 {
		t.Errorf("%+v, want 20 events of which 10 came again", got)
	}
	resp, err := http.Get(control.URL + "/ids?path=/one")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Counts()["/one"]; got != 10 {
		t.Errorf("%d different events counted, want 10", got)
	}
	ids := new(tally.Bitset)
	_, err = ids.ReadFrom(resp.Body)
	resp.Body.Close()
	if err != nil || ids.Len() != 10 {
		t.Errorf("%d ids, %v, want 10", ids.Len(), err)
	}
	if resp, err = http.Post(control.URL+"/reset", "", nil); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	send()
	if got := s.Stats().Paths["/one"]; got.Events != 10 || got.Duplicates != 0 {
		t.Errorf("after reset %+v, want 10 events once", got)
	}
}

func TestASlowPathDelaysNoOther(t *testing.T) {
	s, address := serve(t)
	control := httptest.NewServer(s.Control())
	defer control.Close()
	for query, want := range map[string]int{"path=/slow&delay=50ms": 204, "path=/slow&delay=soon": 400, "path=/slow&delay=-1s": 400} {
		resp, err := http.Post(control.URL+"/delay?"+query, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", query, resp.StatusCode, want)
		}
	}
	once := func(path string) time.Duration {
		r, err := load.Run(t.Context(), load.Options{Address: address, Path: path, Events: 1}, new(tally.Bitset))
		if err != nil || r.Accepted != 1 {
			t.Errorf("%+v, %v, want one accepted", r, err)
		}
		return r.Max
	}
	slow := make(chan time.Duration)
	go func() { slow <- once("/slow") }()
	fast := once("/fast")
	for range 4 { // the quickest of a few: this machine may do something else
		fast = min(fast, once("/fast"))
	}
	if got := <-slow; got < 50*time.Millisecond || fast >= 50*time.Millisecond {
		t.Errorf("slow %v and fast %v, want at least 50ms and less", got, fast)
	}
	s.Reset()
	if got := once("/slow"); got > 50*time.Millisecond && once("/slow") > 50*time.Millisecond {
		t.Errorf("%v after a reset, want no delay", got)
	}
}

func TestTheSinkCountsWhatItDoesNotUnderstand(t *testing.T) {
	s, address := serve(t)
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: x\r\nCe-Id: 1\r\nCe-Sentns: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nX: " + strings.Repeat("x", 1<<15),
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		before := s.Stats().Bad
		_, _ = conn.Write([]byte(request)) // the sink may close it before the end
		if n, _ := conn.Read(make([]byte, 1)); n > 0 {
			t.Errorf("%.40q: answered", request)
		}
		conn.Close()
		if got := s.Stats().Bad - before; got != 1 {
			t.Errorf("%.40q: counted %d times, want once", request, got)
		}
	}
}

func TestOnlyWhatIsAnswered2xxIsAccepted(t *testing.T) {
	var n atomic.Int64
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		switch id, _ := strconv.Atoi(r.Header.Get("Ce-Id")); id % 3 {
		case 0:
			w.WriteHeader(http.StatusAccepted)
		case 1:
			if id > 1 { // the first is not told when to come back
				w.Header().Set("Retry-After", strconv.Itoa(id))
			}
			http.Error(w, "later", http.StatusTooManyRequests)
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	defer broker.Close()
	accepted := new(tally.Bitset)
	r, err := load.Run(t.Context(), load.Options{Address: broker.Listener.Addr().String(), Path: "/", Connections: 3, Events: 30}, accepted)
	if err != nil {
		t.Fatal(err)
	}
	if r.Sent != 30 || r.Accepted != 10 || r.Refused != 10 || r.Status[429] != 10 || r.Errors != 10 || r.Error == "" {
		t.Errorf("%+v, want 10 accepted, 10 refused with 429, 10 errors", r)
	}
	if r.NoRetryAfter != 1 || r.MaxRetryAfter != 28*time.Second || r.RefusedMax <= 0 || r.RefusedP50 > r.RefusedP99 || r.RefusedP99 > r.RefusedMax {
		t.Errorf("%+v, want one refusal without Retry-After and 28 s as the longest", r)
	}
	for id := range uint64(30) {
		if fresh := accepted.Add(id); fresh != (id%3 != 0) {
			t.Errorf("id %d: accepted %v", id, !fresh)
		}
	}
}

func TestOpenLoopLatencyCountsFromWhenTheEventWasDue(t *testing.T) {
	const rate, stall = 200, 150 * time.Millisecond
	var once atomic.Bool
	broker := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if once.CompareAndSwap(false, true) {
			<-time.After(stall)
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer broker.Close()
	r, err := load.Run(t.Context(), load.Options{Address: broker.Listener.Addr().String(), Path: "/", Connections: 1, Events: 40, Rate: rate}, new(tally.Bitset))
	if err != nil {
		t.Fatal(err)
	}
	// One connection, stalled for 30 events' time: those behind the first were
	// due meanwhile. A client that counts from the write would have a median
	// of well under a millisecond.
	if r.P50 < stall/10 || r.Max < stall {
		t.Errorf("p50 %v, max %v: want the wait of the events that were held up", r.P50, r.Max)
	}
	if want := 39 * time.Second / rate; r.Elapsed < want {
		t.Errorf("sent in %v, faster than the rate: want %v at least", r.Elapsed, want)
	}
}

func TestOptionsWithoutAnEndAreRefused(t *testing.T) {
	for _, o := range []load.Options{{}, {Events: 1, FirstType: -1}, {Events: 1, FirstType: 99_999, Types: 2}} {
		if _, err := load.Run(t.Context(), o, new(tally.Bitset)); err == nil {
			t.Errorf("%+v was run", o)
		}
	}
}
