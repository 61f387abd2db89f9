package floor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

type stored struct {
	to     *url.URL
	header http.Header
	body   []byte
}

// NetHTTP is in memory, on net/http alone.
func NetHTTP(ctx context.Context, l net.Listener, o Options) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan stored, queueLength)
	targets := make([]*url.URL, len(o.Targets))
	for i, target := range o.Targets {
		var err error
		if targets[i], err = url.Parse(target); err != nil {
			return err
		}
	}
	transport := &http.Transport{MaxIdleConnsPerHost: senders, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-queue:
					if err := forward(ctx, transport, e); err != nil {
						o.Log.Error("an event is lost", "error", err)
					}
				}
			}
		})
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			w.WriteHeader(http.StatusLengthRequired)
			return
		}
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		header := make(http.Header, len(r.Header))
		for name, values := range r.Header {
			if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
				header[name] = values
			}
		}
		for _, to := range targets {
			select {
			case queue <- stored{to, header, body}:
			case <-ctx.Done():
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
		w.WriteHeader(http.StatusAccepted)
	})}
	context.AfterFunc(ctx, func() { server.Close() })
	err := server.Serve(l)
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// forward sends one event. Its header is another delivery's too, and a
// transport only reads it.
func forward(ctx context.Context, transport *http.Transport, e stored) error {
	req := (&http.Request{
		Method: http.MethodPost, URL: e.to, Host: e.to.Host, Header: e.header,
		Body: io.NopCloser(bytes.NewReader(e.body)), ContentLength: int64(len(e.body)),
	}).WithContext(ctx)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
