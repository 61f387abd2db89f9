package tokenreview

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

const (
	// maxFlights bounds the questions that are asked or wait to be: beyond it the
	// answer is ErrUnavailable at once.
	maxFlights = 512

	// maxAsking bounds those that the API server is asked at the same time; the
	// others wait. A flood of made-up tokens must not become its flood.
	maxAsking = 16
)

// flights makes one question of all that are the same at the same time.
type flights struct {
	mu     sync.Mutex
	flying map[key]*flight
	slots  chan struct{}
}

type flight struct {
	landed chan struct{}
	err    error // once landed is closed
}

// begin asks, or joins who is asking. ask has a context of its own, since
// nobody's giving up may end what others wait for.
func (f *flights) begin(id key, timeout time.Duration, ask func(context.Context) error) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying == nil {
		f.flying, f.slots = make(map[key]*flight), make(chan struct{}, maxAsking)
	}
	if one := f.flying[id]; one != nil {
		return one, nil
	}
	if len(f.flying) >= maxFlights {
		return nil, fmt.Errorf("%w: too many tokens are being verified", ErrUnavailable)
	}
	one := &flight{landed: make(chan struct{})}
	f.flying[id] = one
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		one.err = f.wait(ctx, ask)
		f.mu.Lock()
		delete(f.flying, id)
		f.mu.Unlock()
		close(one.landed)
	}()
	return one, nil
}

// wait asks when it is its turn.
func (f *flights) wait(ctx context.Context, ask func(context.Context) error) error {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
		return ask(ctx)
	case <-ctx.Done():
		return fmt.Errorf("%w: too many tokens are being verified", ErrUnavailable)
	}
}

// do is begin, and the answer.
func (f *flights) do(ctx context.Context, id key, timeout time.Duration, ask func(context.Context) error) error {
	one, err := f.begin(id, timeout, ask)
	if err != nil {
		return err
	}
	select {
	case <-one.landed:
		return one.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// unavailable says in one line why the API server gave no answer. Its own
// words are left out where they could repeat what it was sent.
func unavailable(err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("%w: ask Kubernetes: %w", ErrUnavailable, outer.Err)
	}
	if reason := apierrors.ReasonForError(err); reason != "" {
		return fmt.Errorf("%w: Kubernetes answers %s", ErrUnavailable, reason)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: Kubernetes does not answer", ErrUnavailable)
	}
	return fmt.Errorf("%w: Kubernetes could not be asked", ErrUnavailable)
}
