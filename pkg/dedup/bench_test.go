package dedup_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/dedup"
	"github.com/penstock-events/penstock/pkg/event"
)

// nowhere stores nothing, so that what is measured is ours.
type nowhere struct{ answer []channel.Stored }

func (n *nowhere) Append(context.Context, channel.UID, []event.Event) ([]channel.Stored, error) {
	return n.answer, nil
}

// BenchmarkAppend is what an append costs beside the log: without a window, of
// events that are new, and of those that have come before.
func BenchmarkAppend(b *testing.B) {
	const digits = "000000000000"
	for _, c := range []struct {
		name   string
		window time.Duration
		turns  int // of how many different events
	}{{"NoWindow", 0, 1 << 40}, {"New", time.Hour, 1 << 40}, {"Duplicate", time.Hour, 1 << 18}} {
		b.Run(c.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			log := memory.New(memory.Options{})
			logDone := make(chan struct{})
			go func() { defer close(logDone); _ = log.Run(ctx) }()
			defer func() { cancel(); <-logDone }()
			broker, err := log.Broker(ctx, channel.BrokerInfo{UID: "b", Name: "shop/orders"})
			if err != nil {
				b.Fatal(err)
			}
			a := dedup.New(&nowhere{make([]channel.Stored, 1)}, dedup.Options{Dir: b.TempDir()})
			if err := a.Set(ctx, dedup.Broker{UID: "b", Name: "shop/orders", Window: c.window, Log: broker}); err != nil {
				b.Fatal(err)
			}
			done := make(chan struct{})
			running, stop := context.WithCancel(ctx)
			go func() { defer close(done); _ = a.Run(running) }()
			defer func() { stop(); <-done }()

			// The same bytes with another number in them: to make an event costs more
			// than what is measured.
			raw := bytes.Clone(sent(b, "/sensors/hall-7", "5f0c2a3e-5d0e-4e5e-9a07-"+digits).Raw())
			id := raw[bytes.Index(raw, []byte(digits)):][:len(digits)]
			events := make([]event.Event, 1)
			next := func(n int) {
				for i := len(id) - 1; i >= 0; i-- {
					id[i] = '0' + byte(n%10)
					n /= 10
				}
				events[0], _ = event.Parse(raw)
			}
			if c.name == "Duplicate" {
				for n := range c.turns {
					next(n)
					_, _ = a.Append(ctx, "b", events)
				}
			}
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				next(n % c.turns)
				if _, err := a.Append(ctx, "b", events); err != nil {
					b.Fatal(err)
				}
				n++
			}
		})
	}
}
