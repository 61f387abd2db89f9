package remote_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/remote"
	"github.com/penstock-events/penstock/pkg/event"
)

// anEvent is an event with so much data; with a key where key is not "".
func anEvent(t testing.TB, id, key string, size int) event.Event {
	t.Helper()
	var b event.Builder
	b.Set(event.AttrID, id).Set(event.AttrSource, "/remote").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "dev.penstock.test")
	if key != "" {
		b.Set(event.ExtPartition, key)
	}
	e, err := b.SetData([]byte(strings.Repeat("x", size))).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func everybody(*http.Request) error { return nil }

// appenderFunc is a log that only appends.
type appenderFunc func(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error)

func (f appenderFunc) Append(ctx context.Context, broker channel.UID, events []event.Event) ([]channel.Stored, error) {
	return f(ctx, broker, events)
}

// of is a Server's Appender that has one log for every Broker.
func of(log channel.Appender) func(channel.UID) (channel.Appender, error) {
	return func(channel.UID) (channel.Appender, error) { return log, nil }
}

// storing is a log that stores everything, in a shard, and remembers.
type storing struct {
	shard channel.ShardID

	mu    sync.Mutex
	calls [][]event.Event
	next  channel.Position
}

func (s *storing) Append(_ context.Context, _ channel.UID, events []event.Event) ([]channel.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, events)
	var ids []channel.Stored
	for range events {
		s.next++
		ids = append(ids, channel.Stored{ID: channel.ID{Shard: s.shard, Position: s.next}})
	}
	return ids, nil
}

func (s *storing) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, call := range s.calls {
		for _, e := range call {
			ids = append(ids, e.ID())
		}
	}
	return ids
}

// serve runs a Server on loopback until the test ends, or stop is called.
func serve(t testing.TB, o remote.ServerOptions) (address string, server *remote.Server, stop func()) {
	t.Helper()
	if o.Authorize == nil {
		o.Authorize = everybody
	}
	if o.Grace == 0 {
		o.Grace = 10 * time.Second
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := remote.NewServer(o)
	stop = run(t, func(ctx context.Context) error { return s.Run(ctx, ln) })
	return ln.Addr().String(), s, stop
}

// run runs a lifetime until the test ends, or stop is called.
func run(t testing.TB, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// client runs a Client over these addresses, ordinals from 0.
func client(t testing.TB, o remote.Options, addresses ...string) *remote.Client {
	t.Helper()
	c, _ := stoppable(t, o, addresses...)
	return c
}

func stoppable(t testing.TB, o remote.Options, addresses ...string) (*remote.Client, func()) {
	t.Helper()
	if o.Pulse == 0 {
		o.Pulse = 100 * time.Millisecond
	}
	c := remote.New(o)
	c.SetOwners(owners(addresses...))
	return c, run(t, c.Run)
}

func owners(addresses ...string) remote.Owners {
	o := remote.Owners{Declared: len(addresses)}
	for i, address := range addresses {
		if address != "" {
			o.Serving = append(o.Serving, remote.Owner{Ordinal: i, Address: address})
		}
	}
	return o
}

// keyOf is a key at home with an ordinal.
func keyOf(ordinal, declared int) string {
	for i := 0; ; i++ {
		if key := fmt.Sprint("key-", i); remote.Home(key, declared) == ordinal {
			return key
		}
	}
}

// eventually waits on the real clock until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(10 * time.Second); !so(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after 10 s it is still not so that %s", what)
		}
	}
}
