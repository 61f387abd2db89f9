package process

import (
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/ingress"
)

// Descriptors divides the file descriptors that this process may have, so that a
// flood of senders meets a bound with an answer and not the end of them all:
// half are for connections of senders, an eighth for idle ones to subscribers.
// The rest is the log's and that of deliveries under way.
func Descriptors() (senders, idle int) { return share(descriptorLimit()) }

// share divides them. limit 0 is not known.
func share(limit uint64) (senders, idle int) {
	senders, idle = ingress.DefaultMaxConns, deliver.DefaultMaxIdle
	if limit > 0 {
		senders = int(min(uint64(senders), max(limit/2, 1)))
		idle = int(min(uint64(idle), max(limit/8, 1)))
	}
	return senders, idle
}
