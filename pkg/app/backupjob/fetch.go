package backupjob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// httpClient shows a token, follows no redirect and uses no proxy: what it
// asks is in the cluster, and what it gets are everybody's events.
type httpClient struct{ *http.Client }

func newHTTPClient(tokenFile string) *httpClient {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	// The cut is made before the answer begins.
	transport.ResponseHeaderTimeout = time.Minute
	return &httpClient{&http.Client{
		Transport:     bearer{tokenFile, transport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// maxToken bounds what is read as a token.
const maxToken = 64 << 10

// bearer adds the token to each request.
type bearer struct {
	file string
	next *http.Transport
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.file == "" {
		return b.next.RoundTrip(r)
	}
	token, err := readToken(b.file) // Kubernetes renews it in place
	if err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return b.next.RoundTrip(r)
}

// CloseIdleConnections makes that of http.Client reach the transport.
func (b bearer) CloseIdleConnections() { b.next.CloseIdleConnections() }

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := bytes.TrimSpace(text)
	if len(token) == 0 || len(text) > maxToken || bytes.ContainsAny(token, " \r\n\t\x00") {
		return "", fmt.Errorf("read the token: %s does not hold one", path)
	}
	return string(token), nil
}

var errSilent = errors.New("sends nothing more")

// watched is an archive on its way that is given up when it stands still.
type watched struct {
	r        io.Reader
	patience time.Duration
	timer    *time.Timer
}

func newWatched(r io.Reader, patience time.Duration, cancel context.CancelCauseFunc) *watched {
	return &watched{r, patience, time.AfterFunc(patience, func() {
		cancel(fmt.Errorf("%w for %v", errSilent, patience))
	})}
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if n > 0 {
		w.timer.Reset(w.patience)
	}
	return n, err
}

func (w *watched) stop() { w.timer.Stop() }
