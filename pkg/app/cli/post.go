package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
)

const (
	// Waits between tries that were told no Retry-After.
	firstWait = 200 * time.Millisecond
	lastWait  = 10 * time.Second

	// maxWait is the longest Retry-After that is followed.
	maxWait = 5 * time.Minute
)

// poster sends events to one address. Any number of goroutines may use it.
type poster struct {
	url, broker string
	mode        event.Mode
	retry       int
	http        *http.Client
}

func newPoster(address, broker string, mode event.Mode, retry int, timeout time.Duration, connections int) *poster {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
		// No HTTP/2: a broker's ingress speaks 1.1, and one connection for each
		// request under way is what --concurrency is understood to mean.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	return &poster{
		url: address, broker: broker, mode: mode, retry: retry,
		http: &http.Client{
			Transport: transport,
			Timeout:   timeout,
			// A redirect of a POST may lose the body: what it means is for a person to decide.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// outcome is what became of one request after all its tries.
type outcome struct {
	code    int    // 0 if no answer came
	reason  string // of an answer that is not 2xx, one line
	retries int
	err     error // why no answer came; *noIngress if nothing was sent
}

// noIngress says that no connection came about, so that nothing was sent.
type noIngress struct {
	url string
	err error
}

func (n *noIngress) Error() string {
	return fmt.Sprintf("no broker takes events at %s (%v): is `penstock serve` running? Use --url or PENSTOCK_URL", n.url, dialCause(n.err))
}
func (n *noIngress) Unwrap() error { return n.err }

// post sends the events in one request, and again while it is refused for now.
func (p *poster) post(ctx context.Context, events []event.Event) outcome {
	header := make(http.Header)
	body, err := p.encode(header, events)
	if err != nil {
		return outcome{err: err}
	}
	wait := firstWait
	for tries := 0; ; tries++ {
		out, after := p.try(ctx, header, body)
		out.retries = tries
		if tries == p.retry || !out.again() {
			return out
		}
		if after == 0 {
			after = wait
			wait = min(2*wait, lastWait)
		}
		timer := time.NewTimer(min(after, maxWait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return out
		}
	}
}

// again reports whether the events were certainly not stored and may be later.
func (o outcome) again() bool {
	switch o.code {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusInsufficientStorage:
		return true
	}
	_, nothingSent := errors.AsType[*noIngress](o.err)
	return nothingSent
}

func (p *poster) try(ctx context.Context, header http.Header, body []byte) (outcome, time.Duration) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return outcome{err: err}, 0
	}
	req.Header = header
	resp, err := p.http.Do(req)
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && ctx.Err() == nil {
			err = &noIngress{p.url, err}
		} else if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the address is in the summary already
		}
		return outcome{err: err}, 0
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what came of it is enough for a reason
	out := outcome{code: resp.StatusCode}
	if resp.StatusCode/100 != 2 {
		out.reason = firstLine(answer)
	}
	return out, deliver.RetryAfter(resp.Header.Get("Retry-After"), time.Now())
}

func (p *poster) encode(header http.Header, events []event.Event) ([]byte, error) {
	if p.mode != event.Batch {
		return events[0].WriteHTTP(header, p.mode, nil)
	}
	header.Set("Content-Type", event.ContentTypeBatch)
	body := []byte{'['}
	for i, e := range events {
		if i > 0 {
			body = append(body, ',')
		}
		var err error
		if body, err = e.AppendJSON(body, nil); err != nil {
			return nil, err
		}
	}
	return append(body, ']'), nil
}

// firstLine is the beginning of an answer, short enough for a summary.
func firstLine(answer []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(answer)), "\n")
	if len(line) > 300 {
		line = strings.ToValidUTF8(line[:300], "") + "..."
	}
	return strings.TrimSpace(line)
}
