//go:build unix

package remote_test

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// cpu is the time that this process has computed.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkHop is what an event of 1 KiB costs from Append to the log and
// back, both ends in this process. The log counts and keeps nothing, for a
// memory log that nobody reads is full in no time: what is above direct is the
// hop's.
func BenchmarkHop(b *testing.B) {
	for _, appenders := range []int{1, 64} {
		for _, hop := range []bool{false, true} {
			name := "direct"
			if hop {
				name = "hop"
			}
			b.Run(fmt.Sprintf("%s/%d", name, appenders), func(b *testing.B) {
				positions := &counting{}
				var to channel.Appender = positions
				if hop {
					address, _, _ := serve(b, remote.ServerOptions{Appender: of(positions)})
					to = client(b, remote.Options{}, address)
				}
				e := []event.Event{anEvent(b, "1", "", 1024)}
				if _, err := to.Append(b.Context(), "a", e); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				start := cpu()
				var wg sync.WaitGroup
				for n := range appenders {
					wg.Go(func() {
						for i := n; i < b.N; i += appenders {
							if _, err := to.Append(b.Context(), "a", e); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// counting is a log of one shard that keeps nothing.
type counting struct {
	mu   sync.Mutex
	next channel.Position
}

func (c *counting) Append(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
	ids := make([]channel.Stored, len(events))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range ids {
		c.next++
		ids[i].Position = c.next
	}
	return ids, nil
}
