package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// Defaults of ServerOptions.
const (
	DefaultHeaderTimeout = 5 * time.Second
	DefaultIdleTimeout   = 2 * time.Minute
	DefaultDrainTimeout  = 30 * time.Second
	DefaultMaxHeader     = 32 << 10
	DefaultMaxConns      = 16384
)

// ServerOptions bound what connections may cost. A value of 0 is the default.
type ServerOptions struct {
	Metrics *telemetry.Metrics // nil counts for nobody
	Logger  *slog.Logger       // nil logs nothing

	HeaderTimeout time.Duration // from a request's first byte to the end of its headers
	IdleTimeout   time.Duration // between two requests of one connection
	DrainTimeout  time.Duration // for the requests in flight when the server stops

	// LameDuck is how long a stop goes on taking events first, while whoever
	// spreads requests learns that this server goes: each answer ends its
	// connection, so that senders find another. 0 is not at all.
	LameDuck time.Duration

	MaxHeader         int // bytes of a request's line and headers: 431
	MaxConns          int // open connections in all: 503
	MaxConnsPerClient int // open connections of one IPv4 address or IPv6 /64: 429; the default is half of MaxConns
}

// Server serves a Handler to the network in HTTP/1.1 and HTTP/1.0.
type Server struct {
	handler *Handler
	log     *slog.Logger
	conns   connLimits
	clock   clock

	headerTimeout, idleTimeout, answerTimeout time.Duration
	drain, lameDuck                           time.Duration
	maxHeader                                 int

	lame    atomic.Bool // answers end their connections
	parting atomic.Bool // so does being idle

	mu      sync.Mutex
	open    map[*conn]struct{}
	serving sync.WaitGroup
}

// NewServer returns a server for h. It starts nothing.
func NewServer(h *Handler, o ServerOptions) *Server {
	if o.Metrics == nil {
		o.Metrics = telemetry.New(nil)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	total := orDefault(o.MaxConns, DefaultMaxConns)
	return &Server{
		handler: h,
		log:     o.Logger,
		conns: connLimits{
			total:     total,
			perClient: orDefault(o.MaxConnsPerClient, (total+1)/2),
			metrics:   o.Metrics,
			clients:   make(map[client]int),
		},
		headerTimeout: orDefault(o.HeaderTimeout, DefaultHeaderTimeout),
		idleTimeout:   orDefault(o.IdleTimeout, DefaultIdleTimeout),
		answerTimeout: h.bodies.answer,
		drain:         orDefault(o.DrainTimeout, DefaultDrainTimeout),
		lameDuck:      o.LameDuck,
		maxHeader:     orDefault(o.MaxHeader, DefaultMaxHeader),
		open:          make(map[*conn]struct{}),
	}
}

// Run serves on ln until ctx ends and for LameDuck longer, and then drains: no
// new connection is taken, answers close theirs, and requests in flight have
// DrainTimeout to be stored and answered. It returns nil after a stop that ctx asked for, even
// where requests had to be cut off (their senders do not get a 202), and an
// error where serving ended by itself. It closes ln. Run may be called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	defer s.conns.parted.Wait() // half a second at most
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	accepted := make(chan error, 1)
	go func() { accepted <- s.accept(requests, &limitListener{Listener: ln, limits: &s.conns}) }()

	var failed error
	select {
	case failed = <-accepted:
	case <-ctx.Done():
		s.lame.Store(true)
		if s.lameDuck > 0 {
			until := time.NewTimer(s.lameDuck)
			defer until.Stop()
			select {
			case failed = <-accepted:
			case <-until.C:
			}
		}
	}
	_ = ln.Close()
	if failed == nil {
		<-accepted
		s.part(s.drain)
	}
	// Too slow: their connections end without an answer, which senders must
	// read as "unknown".
	cut()
	s.closeAll()
	if failed != nil {
		return fmt.Errorf("serve ingress on %s: %w", ln.Addr(), failed)
	}
	return nil
}

// accept takes connections until the listener is closed.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	for wait := time.Duration(0); ; {
		raw, err := ln.Accept()
		if err == nil {
			wait = 0
			s.enter(ctx, newConn(s, raw))
			continue
		}
		// No more file descriptors, say: others will be given back.
		temporary, ok := errors.AsType[interface {
			error
			Temporary() bool
		}](err)
		if !ok || !temporary.Temporary() {
			return err
		}
		wait = min(max(2*wait, 5*time.Millisecond), time.Second)
		s.log.Error("connections cannot be accepted", telemetry.KeyError, err)
		time.Sleep(wait)
	}
}

// enter serves a connection in a goroutine of its own.
func (s *Server) enter(ctx context.Context, c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[c] = struct{}{}
	s.serving.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
		}()
		c.serve(ctx)
	})
}

// part ends what is idle at once, and gives what is busy so much time.
func (s *Server) part(within time.Duration) {
	s.parting.Store(true)
	s.mu.Lock()
	for c := range s.open {
		if c.state.CompareAndSwap(idle, closed) {
			_ = c.peer.Close()
		}
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		s.serving.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(within):
	}
}

// closeAll cuts off what there is. It does not wait: whoever stores an event
// cannot be made to stop, and hears that its sender is gone when it answers.
func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.peer.Close()
	}
}

// Listen opens a TCP address. flag is what a person changes to get another
// one, such as "--listen"; the error names it.
func Listen(ctx context.Context, address, flag string) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	switch {
	case err == nil:
		return ln, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listen on %s: another process uses this address; stop it or choose another with %s", address, flag)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("listen on %s: permission denied; choose a port above 1023 with %s", address, flag)
	}
	var bad *net.AddrError
	if errors.As(err, &bad) {
		return nil, fmt.Errorf("listen on %s: %s; write HOST:PORT or :PORT with %s", address, bad.Err, flag)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("listen on %s: %w; change it with %s", address, err, flag)
}
