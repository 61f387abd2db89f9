package remote

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of the connections that Run serves.
const (
	headerTimeout = 5 * time.Second
	answerTimeout = 2 * time.Minute // above what a Client waits for
	idleTimeout   = 5 * time.Minute // a Client closes first, after maxIdle
	maxHeader     = 32 << 10
	closeTimeout  = 5 * time.Second // for what is in the log when the last words are said
)

// Run serves on ln until ctx ends and then stops as Grace says: no append that
// a Client of this package sends meanwhile is left unknown. It returns nil
// after a stop that ctx asked for, and an error where serving ended by itself.
// It closes ln. Run may be called once. The log must outlive it.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       s.o.BodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         s.conns.changed,
		ErrorLog:          slog.NewLogLogger(s.o.Logger.Handler(), slog.LevelError),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		_ = server.Close()
		return fmt.Errorf("serve appends on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	// Clients that hear it let go: an end without connections is the good one.
	// Nobody can be cut off then, for a connection that comes now and is not
	// taken has carried no event.
	s.Drain()
	if !s.conns.gone(s.o.Grace) {
		s.Refuse()
		s.conns.gone(s.o.LastWords)
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if server.Shutdown(bounded) != nil {
		_ = server.Close()
	}
	<-served
	return nil
}

// Drain has every answer from now on say that the owner stops, and Refuse has
// every append refused. Run calls them in its time; they are for who serves
// the handler otherwise.
func (s *Server) Drain() { s.draining.Store(true) }

// Refuse implies Drain.
func (s *Server) Refuse() {
	s.draining.Store(true)
	s.refusing.Store(true)
}

// connections counts those that are open.
type connections struct {
	mu   sync.Mutex
	open int
	none chan struct{} // closed when open is 0, for who waits; nil where nobody does
}

func (c *connections) changed(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		c.add(1)
	case http.StateClosed, http.StateHijacked:
		c.add(-1)
	}
}

func (c *connections) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open += n; c.open == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// gone waits until no connection is open, or for so long.
func (c *connections) gone(atMost time.Duration) bool {
	c.mu.Lock()
	if c.open == 0 {
		c.mu.Unlock()
		return true
	}
	none := make(chan struct{})
	c.none = none
	c.mu.Unlock()
	timer := time.NewTimer(atMost)
	defer timer.Stop()
	select {
	case <-none:
		return true
	case <-timer.C:
		return false
	}
}
