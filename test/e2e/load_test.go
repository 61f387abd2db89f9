package e2e

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// load is senders that do not stop: each sends an event until it is accepted
// and then goes on to the next.
type load struct {
	t       testing.TB
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu       sync.Mutex
	accepted map[string][]string // ids by type
	count    int
	odd      map[int]int // answers that nobody should get, by status
}

// startLoad sends events of the given types in turn from 8 goroutines.
func startLoad(t testing.TB, url string, types ...string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{t: t, cancel: cancel, accepted: make(map[string][]string), odd: make(map[int]int)}
	for worker := range 8 {
		l.workers.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id, typ := fmt.Sprintf("%d-%d", worker, n), types[n%len(types)]
				l.until202(ctx, url, id, typ)
			}
		})
	}
	t.Cleanup(func() { l.stop() })
	return l
}

func (l *load) until202(ctx context.Context, url, id, typ string) {
	for ctx.Err() == nil {
		status, _ := post(url, id, typ, "data of "+id)
		l.mu.Lock()
		switch status {
		case http.StatusAccepted:
			l.accepted[typ] = append(l.accepted[typ], id)
			l.count++
		case 0, http.StatusServiceUnavailable, http.StatusInternalServerError: // down, stopping, cut off
		default:
			l.odd[status]++
		}
		l.mu.Unlock()
		if status == http.StatusAccepted {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// total is how many events have been accepted.
func (l *load) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// more waits until n more events have been accepted.
func (l *load) more(n int) {
	l.t.Helper()
	from := l.total()
	broker.Await(l.t, fmt.Sprintf("%d more events accepted", n), func() bool { return l.total() >= from+n })
}

// stop ends the senders and returns the accepted ids by type.
func (l *load) stop() map[string][]string {
	l.t.Helper()
	l.cancel()
	l.workers.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	for status, n := range l.odd {
		l.t.Errorf("%d answers had status %d", n, status)
	}
	clear(l.odd)
	return l.accepted
}
