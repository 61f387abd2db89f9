package history_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/memhttp"
)

// lines reads back what was recorded, without the begin line.
func lines(t *testing.T, out *bytes.Buffer) []history.Line {
	t.Helper()
	var all []history.Line
	for text := range bytes.Lines(out.Bytes()) {
		var l history.Line
		if err := json.Unmarshal(text, &l); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	return all[1:]
}

// serve records what comes to handler at http://till in a bubble, and calls
// with with a client.
func serve(t *testing.T, handler http.HandlerFunc, with func(*http.Client, *history.Recorder)) (recorded []history.Line) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		rec := history.NewRecorder(&out, history.Rules{}, nil)
		net := memhttp.New()
		net.Serve(t, "till", rec.Subscriber(till, handler))
		transport := &http.Transport{DialContext: net.DialContext}
		with(&http.Client{Transport: transport}, rec)
		transport.CloseIdleConnections()
		synctest.Wait()
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
		recorded = lines(t, &out)
	})
	return recorded
}

func post(client *http.Client, e history.Event, structured bool) (*http.Response, error) {
	h := make(http.Header)
	body := e.Write(h)
	if structured {
		h, body = http.Header{"Content-Type": {"application/cloudevents+json; charset=utf-8"}}, e.JSON()
	}
	req, err := http.NewRequest(http.MethodPost, "http://till/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = h
	resp, err := client.Do(req)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

func TestWhatComesIsRecordedAsItWasSent(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for n := range 20 {
		e := history.NewEvent(rng)
		got := serve(t, func(w http.ResponseWriter, r *http.Request) {
			again, err := history.Read(r.Header, r.Body)
			if err != nil || !bytes.Equal(again.Data, e.Data) {
				t.Errorf("the handler reads %v, %v", again, err)
			}
			history.Respond(w, http.StatusServiceUnavailable, 7*time.Second)
		}, func(client *http.Client, _ *history.Recorder) {
			resp, err := post(client, e, n%2 == 0)
			if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "7" {
				t.Errorf("answer is %v, %v", resp, err)
			}
		})
		if len(got) != 2 || got[0].Do != "receipt" || got[1].Do != "subscriber" {
			t.Fatalf("recorded is %+v", got)
		}
		if r := got[0]; r.ID != e.ID() || r.SHA != e.SHA() || r.Trigger != till || fmt.Sprint(r.Attrs) != fmt.Sprint(e.Attrs) {
			t.Errorf("receipt is %+v\nsent was %+v", r, e.Attrs)
		}
		if a := got[1].Answer; *a != (history.Answer{Code: 503, RetryAfter: 7 * time.Second}) || got[1].N != got[0].N {
			t.Errorf("answer is %+v", got[1])
		}
	}
}

// leaving notes when the first byte of an answer leaves.
type leaving struct {
	http.ResponseWriter
	rec  *history.Recorder
	once sync.Once
}

func (l *leaving) WriteHeader(code int) {
	l.once.Do(func() { l.rec.Cancelled("bytes leave") })
	l.ResponseWriter.WriteHeader(code)
}

// The checker counts on it that the broker cannot act on an answer whose line
// is not written.
func TestTheAnswerIsWrittenDownBeforeTheBrokerCanKnow(t *testing.T) {
	for n, handler := range []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) {},
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) },
		func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write(make([]byte, 1<<20)) // more than net/http keeps back
		},
	} {
		var out bytes.Buffer
		rec := history.NewRecorder(&out, history.Rules{}, nil)
		req := httptest.NewRequest(http.MethodPost, "/", nil)
		body := history.NewEvent(rand.New(rand.NewPCG(1, 1))).Write(req.Header)
		req.Body = io.NopCloser(bytes.NewReader(body))
		rec.Subscriber(till, handler).ServeHTTP(&leaving{ResponseWriter: httptest.NewRecorder(), rec: rec}, req)
		if err := rec.Close(); err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, l := range lines(t, &out) {
			order = append(order, l.Do)
		}
		if want := []string{"receipt", "subscriber", "cancelled"}; !slices.Equal(order, want) {
			t.Errorf("handler %d: order is %v, want %v", n, order, want)
		}
	}
}

func TestAnAnswerInPiecesIsMarkedAsStreamed(t *testing.T) {
	got := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("one"))
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		_, _ = w.Write([]byte("two"))
	}, func(client *http.Client, _ *history.Recorder) {
		_, _ = post(client, history.NewEvent(rand.New(rand.NewPCG(1, 1))), false)
	})
	if a := got[1].Answer; *a != (history.Answer{Code: 200, Streamed: true}) {
		t.Errorf("answer is %+v", a)
	}
}

func TestABrokerThatHungUpHasNotHeard(t *testing.T) {
	got := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}, func(client *http.Client, _ *history.Recorder) {
		client.Timeout = time.Second
		_, _ = post(client, history.NewEvent(rand.New(rand.NewPCG(1, 1))), false)
	})
	if a := got[1].Answer; *a != (history.Answer{Code: 200, Gone: true}) || got[1].T != time.Second {
		t.Errorf("answer after %v is %+v", got[1].T, a)
	}
}

func TestAConnectionThatIsCutIsNoAnswer(t *testing.T) {
	for _, handler := range []http.HandlerFunc{
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		},
	} {
		got := serve(t, handler, func(client *http.Client, _ *history.Recorder) {
			if resp, err := post(client, history.NewEvent(rand.New(rand.NewPCG(1, 1))), false); err == nil {
				t.Errorf("answer is %d", resp.StatusCode)
			}
		})
		if len(got) != 1 || got[0].Do != "receipt" {
			t.Errorf("recorded is %+v", got)
		}
	}
}

// A broker that is killed while it writes leaves half a request.
func TestHalfARequestIsNoReceipt(t *testing.T) {
	got := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") },
		func(client *http.Client, _ *history.Recorder) {
			conn, err := client.Transport.(*http.Transport).DialContext(context.Background(), "tcp", "till:80")
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: till\r\nCe-Id: 1\r\nContent-Length: 10\r\n\r\nhalf")
			_ = conn.Close()
		})
	if len(got) != 0 {
		t.Errorf("recorded is %+v", got)
	}
}

func TestWhatIsNoEventIsARefusedReceiptOfNothing(t *testing.T) {
	got := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the handler was called") },
		func(client *http.Client, _ *history.Recorder) {
			resp, err := client.Post("http://till/", "text/plain", strings.NewReader("x"))
			if err != nil || resp.StatusCode != http.StatusBadRequest {
				t.Errorf("answer is %v, %v", resp, err)
			}
			_ = resp.Body.Close()
		})
	if len(got) != 2 || got[0].ID != "" || got[1].Answer.Code != http.StatusBadRequest {
		t.Errorf("recorded is %+v", got)
	}
}

// Open loop: a server that hangs does not slow the load, and each request that
// finds no slot is counted.
func TestALoadDoesNotWaitForItsServer(t *testing.T) {
	var accepted, other, left int64
	got := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		func(client *http.Client, rec *history.Recorder) {
			rng := rand.New(rand.NewPCG(1, 1))
			sender := history.Sender{Recorder: rec, Client: client, URL: "http://till/", Broker: shop, Timeout: time.Hour}
			load := history.Load{Rate: 100, Most: 30, Send: sender.Send, Next: func() history.Event { return history.NewEvent(rng) }}
			client.Timeout = 5 * time.Second
			ctx, cancel := context.WithTimeout(context.Background(), time.Second-time.Millisecond)
			defer cancel()
			load.Run(ctx)
			accepted, other, left = load.Counts()
		})
	if accepted != 0 || other != 30 || left != 70 {
		t.Errorf("%d accepted, %d other, %d left out, want 0, 30, 70", accepted, other, left)
	}
	for _, l := range got {
		if l.Do == "answer" && l.Answer.Code != 0 {
			t.Errorf("answer is %+v", l.Answer)
		}
	}
}

func TestPayloadsBelongToTheirIDs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	large := 0
	for range 500 {
		e := history.NewEvent(rng)
		if !bytes.Equal(e.Data, history.Payload(e.ID())) || len(e.Data) == 0 {
			t.Fatalf("event %s does not have its payload", e.ID())
		}
		if len(e.Data) > 512 {
			large++
		}
	}
	if large == 0 || large > 100 {
		t.Errorf("%d of 500 are large", large)
	}
}
