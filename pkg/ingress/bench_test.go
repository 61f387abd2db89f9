package ingress_test

import (
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
