// Package memhttp is a network in memory for tests: net/http clients and
// servers run over it unchanged, and inside a testing/synctest bubble, where
// real sockets would keep virtual time from moving.
//
// A Net has any number of named hosts. Between two of them is a Link, perfect
// until a test delays, slows, cuts or resets it; as over TCP, nothing is ever
// lost or reordered within a connection. Connections are buffered like
// sockets, so that a peer may write before the other reads; they know
// deadlines, an orderly end (Close, CloseWrite) and a hard one (Reset). Not
// simulated: the limits of a listen queue, and TCP's habit of taking bytes for
// a peer that is gone.
//
// All of it may be used by any number of goroutines. A Net must be made inside
// the bubble that uses it.
package memhttp

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// Net is a network of named hosts. Make one with New.
type Net struct {
	mu    sync.Mutex
	hosts map[string]*listener
	dials map[string]int
	links map[[2]string]*Link
}

// New makes a network without hosts.
func New() *Net {
	return &Net{hosts: map[string]*listener{}, dials: map[string]int{}, links: map[[2]string]*Link{}}
}

// Listen opens a host. A name without a port gets port 80. A name that is in
// use is an error, as with a real port.
func (n *Net) Listen(host string) (net.Listener, error) { return n.listen(nil, host) }

func (n *Net) listen(owner *Host, host string) (net.Listener, error) {
	name := withPort(host)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hosts[name] != nil {
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: Addr(name), Err: syscall.EADDRINUSE}
	}
	l := &listener{net: n, name: name, owner: owner, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.hosts[name] = l
	return l, nil
}

// DialContext connects to a host, and fits http.Transport.DialContext. It
// waits until the host accepts. An unknown name is a *net.DNSError, a known
// name without a listener on that port is a refused connection. Who dials is
// called "client"; a Host dials under its own name.
func (n *Net) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	return n.dial(ctx, &Host{net: n, name: "client"}, address)
}

func (n *Net) dial(ctx context.Context, from *Host, address string) (net.Conn, error) {
	name := withPort(address)
	link := n.Link(from.name, address)
	failed := link.pass(ctx)
	n.mu.Lock()
	l := n.hosts[name]
	n.dials[name]++
	known := l != nil || n.knows(name)
	n.mu.Unlock()

	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: Addr(name), Err: err}
	}
	if failed != nil {
		return fail(failed)
	}
	if l == nil && !known {
		host, _, _ := net.SplitHostPort(name)
		return fail(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	}
	if l == nil {
		return fail(syscall.ECONNREFUSED)
	}
	client, server := pipe(Addr(from.name), Addr(name), link)
	// Until both ends are closed there may be bytes on their way.
	ends := new(atomic.Int32)
	ended := func() {
		if ends.Add(1) == 2 {
			link.remove(client)
			from.remove(client)
			l.owner.remove(client)
		}
	}
	client.ended, server.ended = sync.OnceFunc(ended), sync.OnceFunc(ended)
	link.add(client)
	for _, h := range []*Host{from, l.owner} {
		if !h.add(client) {
			client.Reset()
			return fail(syscall.ECONNREFUSED)
		}
	}
	select {
	case l.accept <- server:
		return client, nil
	case <-l.closed:
		client.Reset()
		return fail(syscall.ECONNREFUSED)
	case <-ctx.Done():
		client.Reset()
		return fail(ctx.Err())
	}
}

// Dials counts the connections that were asked for, answered or not.
func (n *Net) Dials(host string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[withPort(host)]
}

// knows reports whether any port of the name's host is open. n.mu is held.
func (n *Net) knows(name string) bool {
	host, _, _ := net.SplitHostPort(name)
	for other := range n.hosts {
		if h, _, _ := net.SplitHostPort(other); h == host {
			return true
		}
	}
	return false
}

// Serve answers for a host with h until the test ends, when it closes the
// server with all its connections and waits for its goroutines. A handler that
// waits must give up when its request's context ends; connections it hijacks
// are its own. The server is returned so that a test can stop it earlier.
func (n *Net) Serve(t testing.TB, host string, h http.Handler) *http.Server {
	t.Helper()
	s := &http.Server{Handler: h}
	n.Start(t, host, s)
	return s
}

// Start is Serve for a server with settings of its own.
func (n *Net) Start(t testing.TB, host string, s *http.Server) {
	t.Helper()
	l, err := n.Listen(host)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	before := s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			running.Add(1)
		case http.StateClosed, http.StateHijacked:
			running.Done()
		}
		if before != nil {
			before(c, state)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve %s: %v", host, err)
		}
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
		// net/http keeps a connection for a moment after an early answer; a
		// bubble must not end before that.
		running.Wait()
	})
}

// Addr is an address of the network: host and port.
type Addr string

// Network is "mem".
func (a Addr) Network() string { return "mem" }
func (a Addr) String() string  { return string(a) }

func withPort(host string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(host, "80")
}

type listener struct {
	net    *Net
	name   string
	owner  *Host // nil for nobody's
	accept chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "accept", Net: "mem", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.net.mu.Lock()
		delete(l.net.hosts, l.name)
		l.net.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return Addr(l.name) }
