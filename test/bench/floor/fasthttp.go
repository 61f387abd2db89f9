package floor

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// FastHTTP is NetHTTP on github.com/valyala/fasthttp, with its requests reused.
func FastHTTP(ctx context.Context, l net.Listener, o Options) error {
	return fast(ctx, l, o, func(*fasthttp.Request) error { return nil })
}

// fast keeps each event as store says, before its 202.
func fast(ctx context.Context, l net.Listener, o Options, store func(*fasthttp.Request) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	queue := make(chan delivery, queueLength)
	client := &fasthttp.Client{
		MaxConnsPerHost: senders, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		NoDefaultUserAgentHeader: true, DisableHeaderNamesNormalizing: true, DisablePathNormalizing: true,
	}
	uris := make([]*fasthttp.URI, len(o.Targets))
	for i, target := range o.Targets {
		uris[i] = new(fasthttp.URI)
		if err := uris[i].Parse(nil, []byte(target)); err != nil {
			return err
		}
	}
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			response := fasthttp.AcquireResponse()
			defer fasthttp.ReleaseResponse(response)
			var own fasthttp.Request
			for {
				select {
				case <-ctx.Done():
					return
				case d := <-queue:
					if err := client.Do(d.own(&own), response); err != nil {
						o.Log.Error("an event is lost", "error", err)
					}
					d.done()
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
			request.SetRequestURI(o.Targets[0])
			for name, value := range c.Request.Header.All() {
				if bytes.HasPrefix(name, []byte("Ce-")) || string(name) == "Content-Type" {
					request.Header.SetBytesKV(name, value)
				}
			}
			request.SetBody(c.PostBody())
			if err := store(request); err != nil {
				o.Log.Error("an event is refused", "error", err)
				c.SetStatusCode(fasthttp.StatusServiceUnavailable)
				return
			}
			d := delivery{request: request}
			if len(uris) > 1 {
				d.left = new(atomic.Int32)
				d.left.Store(int32(len(uris)))
			}
			for _, d.to = range uris {
				select {
				case queue <- d:
				case <-ctx.Done():
					c.SetStatusCode(fasthttp.StatusServiceUnavailable)
					return
				}
			}
			c.SetStatusCode(fasthttp.StatusAccepted)
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

// delivery is an event for one target. An event for several shares its header
// and body; left counts those that still need them.
type delivery struct {
	request *fasthttp.Request
	to      *fasthttp.URI
	left    *atomic.Int32 // nil: this one only
}

// own is what to send: the event itself where nobody else needs it.
func (d delivery) own(r *fasthttp.Request) *fasthttp.Request {
	if d.left == nil {
		return d.request
	}
	r.Reset()
	d.request.Header.CopyTo(&r.Header)
	r.SetURI(d.to)
	r.SetBodyRaw(d.request.Body())
	return r
}

func (d delivery) done() {
	if d.left == nil || d.left.Add(-1) == 0 {
		fasthttp.ReleaseRequest(d.request)
	}
}
