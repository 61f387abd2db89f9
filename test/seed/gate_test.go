package seed

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// gate is a subscriber that answers nobody until it is opened.
type gate struct {
	url    string
	opened chan struct{}
	once   sync.Once
}

func newGate(t *testing.T) *gate {
	g := &gate{opened: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-g.opened:
			w.WriteHeader(http.StatusNoContent)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { g.open(); server.Close() })
	g.url = server.URL
	return g
}

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }
