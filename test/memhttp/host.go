package memhttp

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// Host is one process with a name of its own on the network, until it is
// killed. Any number of processes may bear a name one after the other, or at
// once where only one of them listens.
type Host struct {
	net  *Net
	name string

	mu        sync.Mutex
	dead      bool
	listeners []net.Listener
	conns     map[*Conn]struct{}
}

// Host starts a process.
func (n *Net) Host(name string) *Host {
	return &Host{net: n, name: name, conns: map[*Conn]struct{}{}}
}

// Listen opens a port on the host: "" is 80.
func (h *Host) Listen(port string) (net.Listener, error) {
	address := h.name
	if port != "" {
		address = net.JoinHostPort(h.name, port)
	}
	l, err := h.net.listen(h, address)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		l.Close()
		return nil, &net.OpError{Op: "listen", Net: "mem", Addr: l.Addr(), Err: syscall.ENETDOWN}
	}
	h.listeners = append(h.listeners, l)
	return l, nil
}

// DialContext is Net.DialContext from this host.
func (h *Host) DialContext(ctx context.Context, _, address string) (net.Conn, error) {
	h.mu.Lock()
	dead := h.dead
	h.mu.Unlock()
	if dead {
		return nil, &net.OpError{Op: "dial", Net: "mem", Addr: Addr(address), Err: syscall.ENETDOWN}
	}
	return h.net.dial(ctx, h, address)
}

// Kill is SIGKILL as the network sees it: ports are closed, connections reset,
// and whatever the process still does reaches nobody.
func (h *Host) Kill() {
	h.mu.Lock()
	h.dead = true
	listeners := h.listeners
	var conns []*Conn
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	for _, c := range conns {
		c.Reset()
	}
}

// add notes a connection of the host's; false if it is dead. A nil Host keeps
// no books.
func (h *Host) add(c *Conn) bool {
	if h == nil || h.conns == nil {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dead {
		h.conns[c] = struct{}{}
	}
	return !h.dead
}

func (h *Host) remove(c *Conn) {
	if h == nil || h.conns == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
}
