//go:build !race

package ingress_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/ingress"
)

// The link costs one allocation.
func TestTheLinkIsOnePieceOfMemory(t *testing.T) {
	answer := make([]channel.Stored, 1)
	allocations := func(a []channel.Stored) float64 {
		h := ingress.New(ingress.Options{EventLink: "http://127.0.0.1:8088", Routes: only(appenderFunc(func(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
			return a, nil
		}))})
		r := httptest.NewRequest(http.MethodPost, "/default/default", http.NoBody)
		for _, line := range binary() {
			name, value, _ := strings.Cut(line, ": ")
			r.Header.Set(name, value)
		}
		w := &silent{header: make(http.Header)}
		return testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) })
	}
	if without, with := allocations(nil), allocations(answer); with > without+1 {
		t.Errorf("%v allocations with a link, %v without", with, without)
	}
}

type silent struct{ header http.Header }

func (s *silent) Header() http.Header       { return s.header }
func (*silent) Write(b []byte) (int, error) { return len(b), nil }
func (*silent) WriteHeader(int)             {}
