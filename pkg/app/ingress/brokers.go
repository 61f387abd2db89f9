package ingress

import (
	"sync"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/config"
	front "github.com/penstock-events/penstock/pkg/ingress"
)

// brokers are what senders meet at this pod: the Brokers of a Snapshot, and of
// each one's rate the part of one pod among so many.
type brokers struct {
	table atomic.Pointer[front.Table]

	mu       sync.Mutex
	snapshot *config.Snapshot
	pods     int
}

func newBrokers() *brokers {
	b := &brokers{snapshot: &config.Snapshot{}, pods: 1}
	b.table.Store(&front.Table{})
	return b
}

// show makes a Snapshot what senders meet.
func (b *brokers) show(s *config.Snapshot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.snapshot = s
	b.next()
}

// share says among how many pods a rate is divided. Pods that start or stop
// count: for a moment a Broker accepts less than its rate, and never more.
func (b *brokers) share(pods int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pods = max(1, pods)
	b.next()
}

func (b *brokers) next() {
	next := b.table.Load().Next(b.snapshot, b.pods)
	b.table.Store(&next)
}
