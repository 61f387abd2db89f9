package backupjob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/penstock-events/penstock/pkg/auth"
)

// httpClient shows a token, follows no redirect and uses no proxy: what it
// asks is in the cluster, and what it gets are everybody's events.
type httpClient struct{ *http.Client }

func newHTTPClient(tokenFile string) *httpClient {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	// The cut is made before the answer begins.
	transport.ResponseHeaderTimeout = time.Minute
	web := &http.Client{Transport: transport, CheckRedirect: auth.NoRedirects}
	if tokenFile != "" {
		web.Transport = &auth.Transport{Tokens: auth.NewTokenFile(tokenFile), Next: transport}
	}
	return &httpClient{web}
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
