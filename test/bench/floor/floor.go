// Package floor holds the smallest brokers that can be written on two HTTP
// libraries: accept, keep, answer 202, forward. They have no filter, no retry and no
// metrics, and are the yardstick for what a broker's own work costs on top. NetHTTP
// and FastHTTP promise: 202 only after the event is in a queue of at most
// queueLength deliveries; when the queue is full the sender waits. Durable promises
// more: 202 only after the event is on stable storage. What is queued when they are
// told to stop is not forwarded.
package floor

import (
	"context"
	"log/slog"
	"net"
)

// Options are what all floors need.
type Options struct {
	Targets []string // URLs; each event goes to each of them
	Dir     string   // where Durable writes
	Log     *slog.Logger
}

// Serve answers on l until ctx ends.
type Serve func(ctx context.Context, l net.Listener, o Options) error

const (
	queueLength = 1 << 16
	senders     = 64
)
