package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// A connect that is not answered is given up and made anew, with twice the time:
// 2, 4, 8, 16 seconds. The address of a Kubernetes Service leads nowhere until
// each node has heard of its pods, and a connection whose first packet was lost
// there stays lost: the node remembers where it goes. Another one has another
// port and is looked at again. It costs nothing, for nothing was sent yet.
const (
	firstConnect = 2 * time.Second
	connects     = 4

	// MaxConnect is how long all of them take, if none is answered: then the
	// attempt has failed.
	MaxConnect = firstConnect * (1<<connects - 1)
)

// connect opens a connection and, for https, secures it.
func (c *Client) connect(ctx context.Context, p *pool, deadline time.Time) (*conn, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := c.reach(ctx, p.key.addr)
	if err != nil {
		return nil, err
	}
	if !p.key.secure {
		return newConn(raw, raw), nil
	}
	secure := tls.Client(raw, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, &handshakeError{err}
	}
	return newConn(secure, raw), nil
}

// reach opens a TCP connection.
func (c *Client) reach(ctx context.Context, addr string) (net.Conn, error) {
	for limit := firstConnect; limit < firstConnect<<connects; limit *= 2 {
		raw, err := c.dialWithin(ctx, limit, addr)
		if err == nil || !errors.Is(err, errUnanswered) {
			return raw, err
		}
	}
	return nil, fmt.Errorf("%w within %v", errUnanswered, MaxConnect)
}

var errUnanswered = errors.New("no answer to a connection")

// dialWithin is one try. Its error is errUnanswered where only its own time was up.
func (c *Client) dialWithin(ctx context.Context, limit time.Duration, addr string) (net.Conn, error) {
	end := time.Now().Add(limit)
	if last, ok := ctx.Deadline(); ok && !last.After(end) {
		return c.dial(ctx, "tcp", addr)
	}
	try, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	raw, err := c.dial(try, "tcp", addr)
	if isTimeout(err) && ctx.Err() == nil && !time.Now().Before(end) {
		return nil, errUnanswered
	}
	return raw, err
}

// handshakeError tells TLS's part of a failed connect from the dial's.
type handshakeError struct{ cause error }

func (e *handshakeError) Error() string { return "tls: " + e.cause.Error() }
func (e *handshakeError) Unwrap() error { return e.cause }

func dialClass(err error) Class {
	var denied *deniedError
	var handshake *handshakeError
	switch {
	case errors.As(err, &denied):
		return ClassDenied
	case errors.As(err, &handshake):
		return ClassTLS
	}
	return ClassDial
}
