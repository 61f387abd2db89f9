package process

import (
	"context"
	"errors"
	"fmt"
)

// Lifecycle runs components that depend on each other. They are started in
// order and stopped in reverse, each only after the one that came later has
// ended, so that nobody writes to what is closed.
//
// It belongs to one goroutine.
type Lifecycle struct {
	parts  []*part
	failed chan error // a part that ended by itself
}

type part struct {
	name   string
	cancel context.CancelFunc
	done   chan error
}

// NewLifecycle returns one without components.
func NewLifecycle() *Lifecycle { return &Lifecycle{failed: make(chan error, 1)} }

// Start runs one component until Stop.
func (l *Lifecycle) Start(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{name: name, cancel: cancel, done: make(chan error, 1)}
	l.parts = append(l.parts, p)
	go func() {
		err := run(ctx)
		if ctx.Err() == nil {
			if err == nil {
				err = errors.New("ended by itself")
			}
			select {
			case l.failed <- fmt.Errorf("%s: %w", name, err):
			default:
			}
		}
		p.done <- err
	}()
}

// Await waits for something that a component does. It reports false, and the
// error if there is one, when ctx or a component ends before.
func (l *Lifecycle) Await(ctx context.Context, done <-chan struct{}) (bool, error) {
	select {
	case <-done:
		return true, nil
	case <-ctx.Done():
		return false, nil
	case err := <-l.failed:
		return false, err
	}
}

// Wait returns when ctx ends, or with an error when a component ends before.
func (l *Lifecycle) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-l.failed:
		return err
	}
}

// Stop ends the components that were started, the last first.
func (l *Lifecycle) Stop() error {
	var errs []error
	for i := len(l.parts) - 1; i >= 0; i-- {
		p := l.parts[i]
		p.cancel()
		if err := <-p.done; err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
	}
	l.parts = nil
	return errors.Join(errs...)
}
