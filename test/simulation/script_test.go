package simulation_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/history"
)

const (
	played = time.Hour               // after it nothing goes wrong any more
	active = played - 10*time.Minute // after it nothing begins
	years  = 10 * 365 * 24 * time.Hour
)

// script is what happens in a run, drawn from a seed before it begins.
type script struct {
	steps []step
}

type step struct {
	at   time.Duration
	what string
	do   func(w *world)
}

func (s *script) add(at time.Duration, do func(w *world), format string, args ...any) {
	s.steps = append(s.steps, step{at, fmt.Sprintf(format, args...), do})
}

// String is the script as a failing run shows it, sends left out.
func (s *script) String() string {
	var b strings.Builder
	for _, st := range s.steps {
		if !strings.HasPrefix(st.what, "send") {
			fmt.Fprintf(&b, "%9s  %s\n", st.at.Round(time.Millisecond), st.what)
		}
	}
	return b.String()
}

// play brings the world up, does what the script says, heals everything, and
// waits until nothing is left to do.
func (s *script) play(w *world) {
	for len(s.steps) > 0 && s.steps[0].at == 0 {
		s.steps[0].do(w)
		s.steps = s.steps[1:]
	}
	w.graveyard()
	w.boot()
	for _, st := range s.steps {
		w.at(st.at)
		st.do(w)
	}
	w.at(played)
	w.makeRoom()
	w.settle(time.Hour)
}

// makeRoom is somebody who lifts the Brokers' quotas: a lane whose dead letters
// do not fit holds its events until then.
func (w *world) makeRoom() {
	w.change(func() string {
		for i, o := range w.objects {
			if o.Annotations["penstock.dev/max-bytes"] != "" {
				roomy := *o
				roomy.Annotations = nil
				w.objects[i] = &roomy
			}
		}
		return w.objects[0].Name
	})
}

// graveyard brings up the dead letter sink. It is no subscriber of a Trigger,
// and now and then it takes nothing.
func (w *world) graveyard() {
	l, err := w.net.Listen("graves")
	if err != nil {
		w.t.Error(err)
		return
	}
	w.sink = &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if time.Since(w.start)%(10*time.Minute) < 2*time.Minute {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	go func() { _ = w.sink.Serve(l) }()
}

// post is one sender's request, and its further tries.
func (w *world) post(host, broker string, events []history.Event, tries int, bad bool) {
	s := w.sender(host, broker)
	ctx := context.Background()
	for n := range tries {
		var code int
		switch {
		case bad:
			code = w.postNonsense(s, broker, events[0])
		case len(events) > 1:
			code = s.SendBatch(ctx, events...)
		default:
			code = s.Send(ctx, events[0])
		}
		if code/100 == 2 || code/100 == 4 && code != http.StatusTooManyRequests {
			return
		}
		time.Sleep(time.Second << n)
	}
}

// postNonsense posts what looks like an event and is none: it must be refused,
// and never arrive.
func (w *world) postNonsense(s *history.Sender, broker string, e history.Event) int {
	sending := w.rec.Send("default/"+broker, e)
	req, err := http.NewRequest(http.MethodPost, s.URL, nil)
	if err != nil {
		w.t.Error(err)
		return 0
	}
	e.Write(req.Header)
	req.Header.Del("Ce-Type")
	resp, err := s.Client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	sending.Answer(history.Answer{Code: resp.StatusCode})
	return resp.StatusCode
}
