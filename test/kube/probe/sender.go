package probe

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	window   = 256             // events of one stream under way
	giveUp   = 2 * time.Minute // for one event
	patience = 30 * time.Second
)

// Sender sends. It may be used by any number of goroutines.
type Sender struct {
	client *http.Client

	mu      sync.Mutex
	streams map[string]*stream
	running sync.WaitGroup
}

type stream struct {
	Stream
	stop context.CancelFunc

	mu       sync.Mutex
	progress Progress
	last     time.Time // of a 202
}

// NewSender returns a sender that keeps connections, follows no redirect and
// knows no proxy.
func NewSender() *Sender {
	return &Sender{
		streams: make(map[string]*stream),
		client: &http.Client{
			Timeout:       time.Minute,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				MaxIdleConnsPerHost: window,
				IdleConnTimeout:     30 * time.Second,
			},
		},
	}
}

// Send makes one request and reads the answer.
func (s *Sender) Send(ctx context.Context, m Send) Answer {
	if m.Method == "" {
		m.Method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for times := 1; ; times++ {
		a := s.once(ctx, m)
		a.Times = times
		if m.Until == 0 || a.Status == m.Until {
			return a
		}
		select {
		case <-ctx.Done():
			return a
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *Sender) once(ctx context.Context, m Send) Answer {
	req, err := http.NewRequestWithContext(ctx, m.Method, m.URL, bytes.NewReader(m.Body))
	if err != nil {
		return Answer{Error: err.Error()}
	}
	for name, value := range m.Headers {
		req.Header.Set(name, value)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Answer{Error: err.Error()}
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Headers: resp.Header}
	if a.Body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20)); err != nil {
		a.Error = err.Error()
	}
	return a
}

// Start begins a stream under a name, until it is done, stopped or ctx ends.
func (s *Sender) Start(ctx context.Context, name string, m Stream) bool {
	ctx, stop := context.WithCancel(ctx)
	st := &stream{Stream: m, stop: stop, last: time.Now()}
	st.progress.Codes = make(map[string]int)
	s.mu.Lock()
	_, taken := s.streams[name]
	if !taken {
		s.streams[name] = st
	}
	s.mu.Unlock()
	if taken || m.Rate <= 0 {
		stop()
		return false
	}
	s.running.Go(func() {
		defer stop()
		s.run(ctx, st)
	})
	return true
}

// Stop ends a stream: no further events, those under way to their end.
func (s *Sender) Stop(name string) {
	if st := s.stream(name); st != nil {
		st.stop()
	}
}

// Progress is how far a stream is. ok is false where there is none.
func (s *Sender) Progress(name string) (p Progress, ok bool) {
	st := s.stream(name)
	if st == nil {
		return Progress{}, false
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	p = st.progress
	p.Codes = make(map[string]int, len(st.progress.Codes))
	for code, n := range st.progress.Codes {
		p.Codes[code] = n
	}
	return p, true
}

// Wait returns when all streams have ended.
func (s *Sender) Wait() { s.running.Wait() }

func (s *Sender) stream(name string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[name]
}

func (s *Sender) run(ctx context.Context, st *stream) {
	tick := time.NewTicker(time.Second / time.Duration(st.Rate))
	defer tick.Stop()
	var under sync.WaitGroup
	slots := make(chan struct{}, window)
	for i := 0; st.Events == 0 || i < st.Events; i++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case slots <- struct{}{}:
		default:
			st.note(func(p *Progress) { p.Late++ })
			slots <- struct{}{}
		}
		st.note(func(p *Progress) { p.Begun++ })
		under.Go(func() {
			defer func() { <-slots }()
			s.insist(st, i)
		})
	}
	under.Wait()
	st.note(func(p *Progress) { p.Done = true })
}

// insist posts one event until it is accepted. It outlives Stop: an event that
// was begun is brought to its end, so that what was accepted is known.
func (s *Sender) insist(st *stream, i int) {
	headers := map[string]string{
		"ce-specversion": "1.0", "ce-type": "stream", "ce-source": "/probe", "ce-id": st.Prefix + strconv.Itoa(i),
		"content-type": "text/plain",
	}
	for name, value := range st.Set {
		headers["ce-"+name] = value
	}
	size := st.Size
	if size == 0 {
		size = 100
	}
	m := Send{URL: st.URL, Method: http.MethodPost, Headers: headers, Body: []byte(strings.Repeat("x", size))}
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	begun, wait := time.Now(), 20*time.Millisecond
	for ctx.Err() == nil {
		a := s.once(ctx, m)
		st.answered(a, begun)
		if a.Status == http.StatusAccepted {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, time.Second)
	}
	st.note(func(p *Progress) { p.Given++ })
}

func (st *stream) note(f func(*Progress)) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f(&st.progress)
}

func (st *stream) answered(a Answer, begun time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	p := &st.progress
	p.Codes[kind(a)]++
	if a.Status != http.StatusAccepted {
		return
	}
	now := time.Now()
	p.Accepted++
	p.Worst = max(p.Worst, now.Sub(begun))
	p.Gap = max(p.Gap, now.Sub(st.last))
	st.last = now
}

// kind is a status, or a short name for what went wrong instead.
func kind(a Answer) string {
	switch {
	case a.Status != 0:
		return strconv.Itoa(a.Status)
	case strings.Contains(a.Error, "refused"):
		return "refused"
	case strings.Contains(a.Error, "reset"):
		return "reset"
	case strings.Contains(a.Error, "EOF"):
		return "EOF"
	case strings.Contains(a.Error, "imeout"), strings.Contains(a.Error, "deadline"):
		return "timeout"
	}
	return "error"
}
