package ingress

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/penstock-events/penstock/pkg/telemetry"
)

// client is what one sender is taken to be: an IPv4 address, or an IPv6 /64,
// which is what one host is given.
type client struct{ netip.Prefix }

// clientOf returns the zero client for an address that is not IP's; all of
// those count as one.
func clientOf(addr net.Addr) client {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return client{}
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, err := ip.Prefix(bits)
	if err != nil {
		return client{}
	}
	return client{prefix}
}

// connLimits counts open connections.
type connLimits struct {
	total, perClient int
	metrics          *telemetry.Metrics

	mu      sync.Mutex
	open    int
	clients map[client]int // only those with open connections
	parting int            // refused connections that still get their answer
	parted  sync.WaitGroup
}

// enter counts a connection in, or says which bound forbids it.
func (l *connLimits) enter(c client) (telemetry.Bound, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.total:
		return telemetry.BoundTotal, false
	case l.clients[c] >= l.perClient:
		return telemetry.BoundClient, false
	}
	l.open++
	l.clients[c]++
	return "", true
}

func (l *connLimits) leave(c client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.clients[c]--; l.clients[c] == 0 {
		delete(l.clients, c)
	}
}

// limitListener refuses connections over the limits with an answer, so that
// the sender learns more than that its connection broke.
type limitListener struct {
	net.Listener
	limits *connLimits
}

// Accept returns the next connection within the limits.
func (ln *limitListener) Accept() (net.Conn, error) {
	for {
		conn, err := ln.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := clientOf(conn.RemoteAddr())
		bound, ok := ln.limits.enter(from)
		if ok {
			ln.limits.metrics.Connection(+1)
			return &countedConn{Conn: conn, limits: ln.limits, from: from}, nil
		}
		ln.limits.metrics.ConnectionRefused(bound)
		ln.limits.part(conn, bound)
	}
}

const (
	tooManyConns = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Retry-After: 1\r\nConnection: close\r\nContent-Length: 26\r\n\r\ntoo many open connections\n"
	tooManyOfOne = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=utf-8\r\n" +
		"Retry-After: 1\r\nConnection: close\r\nContent-Length: 44\r\n\r\ntoo many open connections from your address\n"
)

// A connection closed while the request is still on its way resets, and the
// sender may never see the answer. So some refused connections are held open
// for a moment: some, since more would be the very cost that is bounded.
const (
	maxParting  = 64
	partingTime = 500 * time.Millisecond
)

func (l *connLimits) part(conn net.Conn, bound telemetry.Bound) {
	said := tooManyConns
	if bound == telemetry.BoundClient {
		said = tooManyOfOne
	}
	// A fresh socket takes this much without waiting; the deadlines bound the rest.
	_ = conn.SetDeadline(time.Now().Add(partingTime))
	l.mu.Lock()
	waits := l.parting < maxParting
	if waits {
		l.parting++
	}
	l.mu.Unlock()
	if !waits {
		_ = conn.Close()
		return
	}
	l.parted.Go(func() {
		defer func() {
			_ = conn.Close()
			l.mu.Lock()
			l.parting--
			l.mu.Unlock()
		}()
		if _, err := conn.Write([]byte(said)); err != nil {
			return
		}
		linger(conn)
	})
}

// countedConn counts its connection out when it is closed.
type countedConn struct {
	net.Conn
	limits *connLimits
	from   client
	once   sync.Once
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.limits.leave(c.from)
		c.limits.metrics.Connection(-1)
	})
	return c.Conn.Close()
}

// CloseWrite ends our side first, so that a sender still writing sees the
// answer before a reset.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
