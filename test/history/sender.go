package history

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Sender posts events to one Broker and records what came of each. It may be
// used by any number of goroutines.
type Sender struct {
	Recorder *Recorder
	Client   *http.Client
	URL      string        // of the Broker
	Broker   string        // namespace/name, as in Routes
	Timeout  time.Duration // of one request; 0 is 10 s
}

// Send posts one event in binary mode and returns the status of the answer, 0
// where none came.
func (s *Sender) Send(ctx context.Context, e Event) int {
	h := make(http.Header)
	body := e.Write(h)
	return s.post(ctx, h, body, e)
}

// SendBatch posts events as one batch.
func (s *Sender) SendBatch(ctx context.Context, events ...Event) int {
	h := http.Header{"Content-Type": {"application/cloudevents-batch+json"}}
	return s.post(ctx, h, JSONBatch(events...), events...)
}

func (s *Sender) post(ctx context.Context, h http.Header, body []byte, events ...Event) int {
	timeout := s.Timeout
	if timeout == 0 {
		timeout = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	sendings := make([]Sending, len(events))
	for i, e := range events {
		sendings[i] = s.Recorder.Send(s.Broker, e)
	}
	a := s.exchange(ctx, h, body)
	for _, sending := range sendings {
		sending.Answer(a)
	}
	return a.Code
}

func (s *Sender) exchange(ctx context.Context, h http.Header, body []byte) (a Answer) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return a
	}
	req.Header = h
	resp, err := s.Client.Do(req)
	if err != nil {
		return a
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // the status is the answer
	a.Code = resp.StatusCode
	if links := resp.Header.Values("Penstock-Event"); len(links) == 1 {
		if link, err := url.Parse(links[0]); err == nil {
			a.Stored = path.Base(link.Path)
		}
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		a.RetryAfter = time.Duration(seconds) * time.Second
	}
	return a
}

// Load is an open-loop load: events are sent when their time comes, whatever
// became of those before.
type Load struct {
	Rate float64      // events a second
	Most int          // requests under way at once, 0 is 256; what does not fit is left out
	Next func() Event // makes the next event; called by one goroutine
	Send func(context.Context, Event) int

	accepted, other, left atomic.Int64
}

// Run sends until ctx ends, and returns when every request has. Requests under
// way are not cut off by ctx.
func (l *Load) Run(ctx context.Context) {
	most := l.Most
	if most == 0 {
		most = 256
	}
	slots := make(chan struct{}, most)
	var requests sync.WaitGroup
	defer requests.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	began := time.Now()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case slots <- struct{}{}:
			e := l.Next()
			requests.Go(func() {
				defer func() { <-slots }()
				if l.Send(context.WithoutCancel(ctx), e) == http.StatusAccepted {
					l.accepted.Add(1)
				} else {
					l.other.Add(1)
				}
			})
		default:
			l.left.Add(1)
		}
		timer.Reset(time.Until(began.Add(time.Duration(float64(n) / l.Rate * float64(time.Second)))))
	}
}

// Counts are the events so far: answered 202, answered otherwise or not at
// all, and left out for want of a slot.
func (l *Load) Counts() (accepted, other, left int64) {
	return l.accepted.Load(), l.other.Load(), l.left.Load()
}
