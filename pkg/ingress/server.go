package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
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

// Server serves a Handler to the network.
type Server struct {
	http  *http.Server
	conns connLimits
	drain time.Duration
	lame  time.Duration
	going atomic.Bool // answers end their connections
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
	// net/http reads 4 KiB more than it is told before it refuses.
	const slack = 4 << 10
	s := &Server{
		lame:  o.LameDuck,
		drain: orDefault(o.DrainTimeout, DefaultDrainTimeout),
		conns: connLimits{
			total:     total,
			perClient: orDefault(o.MaxConnsPerClient, (total+1)/2),
			metrics:   o.Metrics,
			clients:   make(map[client]int),
		},
		http: &http.Server{
			ReadHeaderTimeout: orDefault(o.HeaderTimeout, DefaultHeaderTimeout),
			ReadTimeout:       h.bodies.timeout,
			IdleTimeout:       orDefault(o.IdleTimeout, DefaultIdleTimeout),
			WriteTimeout:      h.bodies.answer,
			MaxHeaderBytes:    max(1, orDefault(o.MaxHeader, DefaultMaxHeader)-slack),
			ErrorLog:          slog.NewLogLogger(quiet{o.Logger.Handler()}, slog.LevelError),
			// OPTIONS * is ours to answer.
			DisableGeneralOptionsHandler: true,
		},
	}
	s.http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.going.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
	return s
}

// Run serves on ln until ctx ends and for LameDuck longer, and then drains: no
// new connection is taken, answers close theirs, and requests in flight have
// DrainTimeout to be stored and answered. It returns nil after a stop that ctx asked for, even
// where requests had to be cut off (their senders do not get a 202), and an
// error where serving ended by itself. It closes ln. Run may be called once.
func (s *Server) Run(ctx context.Context, ln net.Listener) error {
	defer s.conns.parted.Wait() // half a second at most
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(&limitListener{Listener: ln, limits: &s.conns}) }()

	select {
	case err := <-served:
		_ = s.http.Close()
		return fmt.Errorf("serve ingress on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	if s.lame > 0 {
		s.going.Store(true)
		until := time.NewTimer(s.lame)
		defer until.Stop()
		select {
		case err := <-served:
			return fmt.Errorf("serve ingress on %s: %w", ln.Addr(), err)
		case <-until.C:
		}
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.drain)
	defer cancel()
	s.http.SetKeepAlivesEnabled(false)
	if s.http.Shutdown(bounded) != nil {
		// Too slow: their connections end without an answer, which senders must
		// read as "unknown".
		_ = s.http.Close()
	}
	<-served
	return nil
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

// quiet passes on what net/http says of our own faults (a panic, no more file
// descriptors) and drops its lines on what clients do: those come at any rate
// the client likes.
type quiet struct{ slog.Handler }

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !strings.HasPrefix(r.Message, "http: panic") && !strings.HasPrefix(r.Message, "http: Accept error") {
		return nil
	}
	// The message differs each time, so it goes where values go.
	what, stack, panicked := strings.Cut(r.Message, "\ngoroutine ")
	said := slog.NewRecord(r.Time, r.Level, "http server", r.PC)
	said.AddAttrs(slog.String(telemetry.KeyError, what))
	if panicked {
		said.AddAttrs(slog.Any("stack", telemetry.Stack("goroutine "+stack)))
	}
	return q.Handler.Handle(ctx, said)
}
