// Package process is what every program of Penstock has around its parts: the
// order in which they start and stop, the small HTTP servers for people and
// probes, the log handler, the share of file descriptors, the exit code of a
// wrong flag. It knows no broker and no event.
package process

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// NewLogger writes to w in one of telemetry's formats, from a level on. Its
// errors name the flag.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var from slog.Level
	if err := from.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	h, err := telemetry.NewLogHandler(w, format, from)
	if err != nil {
		return nil, fmt.Errorf("--log-format: %w", err)
	}
	return slog.New(h), nil
}

// UsageError says that a program was started with a flag or an environment
// variable that has no such value: exit code 2, as for an unknown flag.
type UsageError struct{ Err error }

func (u *UsageError) Error() string { return u.Err.Error() }

// ExitCode is that of a wrong use.
func (*UsageError) ExitCode() int { return 2 }

func (u *UsageError) Unwrap() error { return u.Err }

// ServeHTTP is a component for Lifecycle: a small server for people, probes
// and other processes of ours. When it stops it calls onShutdown, if there is
// one, to end streams, and gives requests two seconds.
func ServeHTTP(ln net.Listener, h http.Handler, onShutdown func()) func(context.Context) error {
	return func(ctx context.Context) error {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10}
		if onShutdown != nil {
			s.RegisterOnShutdown(onShutdown)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(ln) }()
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if s.Shutdown(bounded) != nil {
			_ = s.Close()
		}
		<-ended
		return nil
	}
}
