package deliver

import (
	"crypto/tls"
	"sync"
	"time"
)

// poolKey is what connections must agree on to be the same to us.
type poolKey struct {
	secure bool
	host   string // as certificates name it
	addr   string // host:port to dial
}

// pool keeps the idle connections to one host. The last one back is the first
// one out, so that those not needed grow old and go.
type pool struct {
	client *Client
	key    poolKey
	tls    *tls.Config // for https, else nil

	mu    sync.Mutex
	idle  []*conn
	timer *time.Timer // closes what has grown old; set while there is something idle
}

func newPool(c *Client, key poolKey) *pool {
	p := &pool{client: c, key: key}
	if key.secure {
		p.tls = &tls.Config{}
		if c.o.TLS != nil {
			p.tls = c.o.TLS.Clone()
		}
		p.tls.ServerName = key.host
		p.tls.MinVersion = max(p.tls.MinVersion, tls.VersionTLS12)
		p.tls.NextProtos = []string{"http/1.1"}
	}
	return p
}

// get hands out an idle connection, or nil if there is none. That its peer is
// still there is for the exchange to see.
func (p *pool) get(now time.Time) *conn {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		cn := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		p.client.idle.Add(-1)

		if !now.After(cn.expires) {
			return cn
		}
		cn.Close()
	}
}

// put takes back a connection on which an exchange has ended in order, just now.
func (p *pool) put(cn *conn, now time.Time, keep time.Duration) {
	keep = min(keep, p.client.o.IdleTimeout)
	if keep <= 0 || p.client.idle.Add(1) > int64(p.client.o.MaxIdle) {
		if keep > 0 {
			p.client.idle.Add(-1)
		}
		cn.Close()
		return
	}
	cn.reused, cn.expires = true, now.Add(keep)

	p.mu.Lock()
	full := len(p.idle) >= p.client.o.MaxIdlePerHost
	if !full {
		p.idle = append(p.idle, cn)
		if p.timer == nil {
			p.timer = time.AfterFunc(p.client.o.IdleTimeout, p.expire)
		}
	}
	p.mu.Unlock()

	if full {
		p.client.idle.Add(-1)
		cn.Close()
	} else if p.client.closed.Load() {
		// Close may have looked at this pool before the connection was in it.
		p.closeIdle(func(*conn) bool { return true })
	}
}

// expire closes what has grown old and comes again while anything is left.
func (p *pool) expire() {
	now := time.Now()
	p.closeIdle(func(cn *conn) bool { return !now.Before(cn.expires) })
}

// closeIdle closes the idle connections that which names.
func (p *pool) closeIdle(which func(*conn) bool) {
	p.mu.Lock()
	var gone []*conn
	kept := p.idle[:0]
	for _, cn := range p.idle {
		if which(cn) {
			gone = append(gone, cn)
		} else {
			kept = append(kept, cn)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if len(kept) > 0 {
		p.timer = time.AfterFunc(p.client.o.IdleTimeout, p.expire)
	}
	p.mu.Unlock()

	p.client.idle.Add(-int64(len(gone)))
	for _, cn := range gone {
		cn.Close()
	}
}
