package floor_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/floor"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
)

func TestAFloorForwardsEveryEventOnce(t *testing.T) {
	for name, serve := range map[string]func(context.Context, net.Listener, string, *slog.Logger) error{
		"net/http": floor.NetHTTP, "fasthttp": floor.FastHTTP,
	} {
		t.Run(name, func(t *testing.T) {
			var s sink.Sink
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			in, out := listen(t), listen(t)
			go func() { ended <- s.Serve(ctx, out) }()
			go func() {
				ended <- serve(ctx, in, "http://"+out.Addr().String()+"/one", slog.New(slog.DiscardHandler))
			}()
			r, err := load.Run(t.Context(), load.Options{Address: in.Addr().String(), Path: "/default/default", Connections: 4, Events: 500, Size: 1024}, new(tally.Bitset))
			if err != nil || r.Accepted != 500 {
				t.Fatalf("%+v, %v, want 500 accepted", r, err)
			}
			poll := time.NewTicker(time.Millisecond)
			defer poll.Stop()
			for deadline := time.Now().Add(20 * time.Second); s.Stats().Paths["/one"].Events < 500; <-poll.C {
				if time.Now().After(deadline) {
					t.Fatalf("sink has %+v, want 500 events", s.Stats())
				}
			}
			if got := s.Stats(); got.Paths["/one"].Duplicates != 0 || got.Bad != 0 {
				t.Errorf("sink has %+v, want each event once", got)
			}
			cancel()
			for range 2 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
