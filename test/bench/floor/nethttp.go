// Package floor holds the smallest brokers that can be written on two HTTP
// libraries: accept, keep in memory, answer 202, forward. They have no filter,
// no retry, no storage and no metrics, and are the yardstick for what a broker's own work
// costs on top. Both promise: 202 only after the event is in a queue of at most
// queueLength; when the queue is full the sender waits. What is queued when they
// are told to stop is lost.
package floor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

const (
	queueLength = 1 << 16
	senders     = 64
)

type stored struct {
	header http.Header
	body   []byte
}

// NetHTTP serves on l with net/http and forwards to target with net/http until
// ctx ends.
func NetHTTP(ctx context.Context, l net.Listener, target string, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan stored, queueLength)
	to, err := url.Parse(target)
	if err != nil {
		return err
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
					if err := forward(ctx, transport, to, e); err != nil {
						log.Error("an event is lost", "error", err)
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
		select {
		case queue <- stored{header, body}:
			w.WriteHeader(http.StatusAccepted)
		case <-ctx.Done():
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	context.AfterFunc(ctx, func() { server.Close() })
	err = server.Serve(l)
	cancel()
	wg.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func forward(ctx context.Context, transport *http.Transport, to *url.URL, e stored) error {
	req := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Header: e.header,
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
