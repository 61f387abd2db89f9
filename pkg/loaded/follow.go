package loaded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Pauses between two tries to read a pod's Board: they double, and begin anew
// once everything was read. Up to half is taken off at random.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 5 * time.Second
)

// errSilent ends a stream that has nothing to say, not even that it is there.
var errSilent = errors.New("its stream has fallen silent")

// follow reads one pod's Board, again and again, until ctx ends.
func (w *Watcher) follow(ctx context.Context, m *member) {
	pause := firstPause
	for {
		whole, err := w.read(ctx, m)
		if ctx.Err() != nil {
			return
		}
		if whole {
			pause = firstPause
		}
		w.lose(m, err)
		wait := time.NewTimer(pause - rand.N(pause/2))
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		pause = min(2*pause, lastPause)
	}
}

// lose notes that no stream stands. It is told once, however often it is
// tried again in vain.
func (w *Watcher) lose(m *member, err error) {
	w.mu.Lock()
	news := m.whole || !m.lost
	m.whole, m.lost, m.lacks = false, true, "cannot be asked: "+err.Error()
	w.mu.Unlock()
	if news {
		w.o.Logger.Warn("what a pod has loaded is not known", "pod", m.pod.Name, "error", err)
		w.o.OnPods()
	}
}

// read opens one stream and reads it to its end. whole tells whether it has
// shown all there is at some time.
func (w *Watcher) read(ctx context.Context, m *member) (whole bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(w.o.Silence, func() { cancel(errSilent) })
	defer silence.Stop()
	body, err := w.open(ctx, m.pod.Address)
	if err != nil {
		if context.Cause(ctx) == errSilent {
			err = errors.New("it does not answer")
		}
		return false, err
	}
	defer body.Close()

	lines := bufio.NewReaderSize(body, 16<<10)
	view := view{w: w, m: m}
	for {
		l, err := readLine(lines)
		switch {
		case err == nil:
			silence.Reset(w.o.Silence)
			err = view.take(l)
		case context.Cause(ctx) == errSilent:
			err = errSilent
		case errors.Is(err, io.EOF):
			err = errors.New("it has ended its stream")
		case errors.As(err, new(net.Error)), errors.Is(err, io.ErrUnexpectedEOF):
			err = errors.New("its stream has broken off") // the cause names a port, another each time
		}
		if err != nil {
			return view.whole, err
		}
	}
}

// open asks for a stream.
func (w *Watcher) open(ctx context.Context, address string) (io.ReadCloser, error) {
	at := "http://" + address + Path
	if w.o.Types {
		at += "?types=true"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fmt.Errorf("address %q is not host:port", address)
	}
	token := ""
	if w.o.Token != nil {
		if token, err = w.o.Token(); err != nil {
			return nil, fmt.Errorf("our own token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := w.client.Do(req)
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // without the URL, which is known
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized && w.o.Rejected != nil {
		w.o.Rejected(token)
	}
	return nil, fmt.Errorf("it answers %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
}

// view is what one stream has shown.
type view struct {
	w     *Watcher
	m     *member
	whole bool
	first map[channel.UID]string // until it is whole; nil before Reset
}

func (v *view) take(l line) error {
	if l.Reset {
		if v.first != nil || v.whole {
			return errors.New("its stream begins twice")
		}
		v.first = make(map[channel.UID]string)
		v.loading()
	}
	if len(l.Types) > 0 {
		v.w.o.OnTypes(l.Types)
	}
	switch {
	case v.whole:
		return v.change(l)
	case v.first == nil:
		return errors.New("its stream has no beginning")
	}
	if err := merge(v.first, l); err != nil {
		return err
	}
	if l.Whole {
		v.complete()
	}
	return nil
}

func merge(into map[channel.UID]string, l line) error {
	for uid, version := range l.Set {
		into[uid] = version
	}
	for _, uid := range l.Unset {
		delete(into, uid)
	}
	if len(into) > MaxObjects {
		return fmt.Errorf("it shows more than %d objects", MaxObjects)
	}
	return nil
}

// loading notes that the pod answers and is not through.
func (v *view) loading() {
	v.w.mu.Lock()
	defer v.w.mu.Unlock()
	v.m.lacks = "has not loaded everything yet"
}

// complete puts in force what the stream has shown.
func (v *view) complete() {
	v.w.mu.Lock()
	v.m.objects, v.m.whole, v.m.lost = v.first, true, false
	v.w.mu.Unlock()
	v.first, v.whole = nil, true
	v.w.o.Logger.Info("what a pod has loaded is known", "pod", v.m.pod.Name)
	v.w.o.OnPods()
}

// change applies a line of a stream that is whole.
func (v *view) change(l line) error {
	changed := make([]channel.UID, 0, len(l.Set)+len(l.Unset))
	v.w.mu.Lock()
	for uid, version := range l.Set {
		if v.m.objects[uid] != version {
			changed = append(changed, uid)
		}
	}
	for _, uid := range l.Unset {
		if _, there := v.m.objects[uid]; there {
			changed = append(changed, uid)
		}
	}
	err := merge(v.m.objects, l)
	v.w.mu.Unlock()
	if len(changed) > 0 {
		v.w.o.OnChange(changed)
	}
	return err
}
