package floor

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// FastHTTP is NetHTTP on github.com/valyala/fasthttp, with its requests reused.
func FastHTTP(ctx context.Context, l net.Listener, target string, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan *fasthttp.Request, queueLength)
	client := &fasthttp.Client{
		MaxConnsPerHost: senders, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
	}
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			response := fasthttp.AcquireResponse()
			defer fasthttp.ReleaseResponse(response)
			for {
				select {
				case <-ctx.Done():
					return
				case request := <-queue:
					if err := client.Do(request, response); err != nil {
						log.Error("an event is lost", "error", err)
					}
					fasthttp.ReleaseRequest(request)
					response.Reset()
				}
			}
		})
	}
	server := &fasthttp.Server{
		NoDefaultServerHeader: true, NoDefaultDate: true,
		Handler: func(c *fasthttp.RequestCtx) {
			request := fasthttp.AcquireRequest()
			request.Header.SetMethod(fasthttp.MethodPost)
			request.SetRequestURI(target)
			for name, value := range c.Request.Header.All() {
				if bytes.HasPrefix(name, []byte("Ce-")) || string(name) == "Content-Type" {
					request.Header.SetBytesKV(name, value)
				}
			}
			request.SetBody(c.PostBody())
			select {
			case queue <- request:
				c.SetStatusCode(fasthttp.StatusAccepted)
			case <-ctx.Done():
				c.SetStatusCode(fasthttp.StatusServiceUnavailable)
			}
		},
	}
	context.AfterFunc(ctx, func() { l.Close() })
	err := server.Serve(l)
	if ctx.Err() != nil {
		err = nil // the listener was closed on purpose
	}
	cancel()
	wg.Wait()
	return err
}
