package ingress_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

// nowhere takes every event and keeps none.
var nowhere = appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) { return nil, nil })

// discard is an answer that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// WriteString is what net/http's own has, too.
func (d *discard) WriteString(s string) (int, error) { return len(s), nil }

// again is a body that can be read once for each Reset.
type again struct{ bytes.Reader }

func (*again) Close() error { return nil }

// handling calls the handler with one event of 1 KiB, as net/http would.
func handling(t testing.TB, routes ingress.Routes) func() {
	h := ingress.New(ingress.Options{Routes: routes})
	payload := bytes.Repeat([]byte("x"), 1024)
	body := &again{}
	r, err := http.NewRequest("POST", "http://x/default/default", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = int64(len(payload))
	for _, header := range binary("User-Agent: bench", "Accept: */*", "Ce-Time: 2026-01-02T03:04:05Z") {
		name, value, _ := strings.Cut(header, ": ")
		r.Header.Add(name, value)
	}
	w := &discard{header: http.Header{}}
	return func() {
		clear(w.header)
		body.Reset(payload)
		h.ServeHTTP(w, r)
	}
}

func TestAcceptingAnEventAllocatesLittle(t *testing.T) {
	// The event itself, the slice it is handed over in and its time of arrival;
	// the rest is the lookup of a test's routes.
	handle := handling(t, only(nowhere))
	handle()
	if n := testing.AllocsPerRun(200, handle); n > 9 {
		t.Errorf("%v allocations, want at most 9", n)
	}
}

func TestRefusingAnEventOverTheRateAllocatesNothing(t *testing.T) {
	target, _ := limited(nowhere, 1)("default", "default")
	handle := handling(t, func(string, string) (ingress.Target, bool) { return target, true })
	handle()
	if n := testing.AllocsPerRun(200, handle); n > 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkHandler(b *testing.B) {
	for name, routes := range map[string]ingress.Routes{"accepted": only(nowhere), "over the rate": limited(nowhere, 1)} {
		b.Run(name, func(b *testing.B) {
			handle := handling(b, routes)
			handle()
			b.ReportAllocs()
			for b.Loop() {
				handle()
			}
		})
	}
}

// BenchmarkRequest is the handler behind its server on loopback, beside a server that
// reads the body and answers 202: what is above it is ours.
func BenchmarkRequest(b *testing.B) {
	payload := strings.Repeat("x", 1024)
	post := func(b *testing.B, url string) {
		b.ReportAllocs()
		for b.Loop() {
			if got := send(b, "POST", url, strings.NewReader(payload), binary()...); got.StatusCode != 202 {
				b.Fatal(got.StatusCode)
			}
		}
	}
	b.Run("ingress", func(b *testing.B) {
		post(b, open(b, ingress.Options{Routes: only(nowhere)}, ingress.ServerOptions{}).url)
	})
	b.Run("floor", func(b *testing.B) {
		ln, err := ingress.Listen(b.Context(), "127.0.0.1:0", "--listen")
		if err != nil {
			b.Fatal(err)
		}
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			w.WriteHeader(http.StatusAccepted)
		})}
		go func() { _ = s.Serve(ln) }()
		b.Cleanup(func() { _ = s.Close() })
		post(b, "http://"+ln.Addr().String()+"/default/default")
	})
}
