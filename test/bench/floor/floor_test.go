package floor_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/floor"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
)

func TestAFloorForwardsEveryEventOnce(t *testing.T) {
	for name, c := range map[string]struct {
		serve   floor.Serve
		targets int
	}{
		"net/http": {floor.NetHTTP, 1}, "net/http to many": {floor.NetHTTP, 7},
		"fasthttp": {floor.FastHTTP, 1}, "fasthttp to many": {floor.FastHTTP, 7},
		"durable": {floor.Durable, 1}, "durable to many": {floor.Durable, 7},
	} {
		t.Run(name, func(t *testing.T) {
			var s sink.Sink
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 2)
			in, out := listen(t), listen(t)
			go func() { ended <- s.Serve(ctx, out) }()
			o := floor.Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}
			for i := range c.targets {
				o.Targets = append(o.Targets, fmt.Sprintf("http://%s/%d", out.Addr(), i))
			}
			go func() { ended <- c.serve(ctx, in, o) }()
			r, err := load.Run(t.Context(), load.Options{Address: in.Addr().String(), Path: "/default/default", Connections: 4, Events: 500, Size: 1024}, new(tally.Bitset))
			if err != nil || r.Accepted != 500 {
				t.Fatalf("%+v, %v, want 500 accepted", r, err)
			}
			for i := range c.targets {
				name := fmt.Sprintf("/%d", i)
				poll := time.NewTicker(time.Millisecond)
				defer poll.Stop()
				for deadline := time.Now().Add(20 * time.Second); s.Stats().Paths[name].Events < 500; <-poll.C {
					if time.Now().After(deadline) {
						t.Fatalf("sink has %+v, want 500 events at %s", s.Stats(), name)
					}
				}
				if got := s.Stats(); got.Paths[name].Duplicates != 0 || got.Bad != 0 {
					t.Errorf("sink has %+v, want each event once at %s", got, name)
				}
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

// What Durable has answered with 202 is in its files, whole.
func TestTheDurableFloorWritesWhatItAccepts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	dir, in := t.TempDir(), listen(t)
	nobody := listen(t)
	nobody.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- floor.Durable(ctx, in, floor.Options{
			Targets: []string{"http://" + nobody.Addr().String() + "/"}, Dir: dir, Log: slog.New(slog.DiscardHandler),
		})
	}()
	r, err := load.Run(t.Context(), load.Options{Address: in.Addr().String(), Path: "/default/default", Connections: 8, Events: 200, Size: 1024}, new(tally.Bitset))
	cancel()
	if err != nil || r.Accepted != 200 {
		t.Fatalf("%+v, %v, want 200 accepted", r, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "00000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for len(b) > 8 {
		length, sum := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if length == 0 {
			break
		}
		record := b[8 : 8+length]
		if crc32.Checksum(record, crc32.MakeTable(crc32.Castagnoli)) != sum {
			t.Fatalf("record %d: its checksum is wrong", len(ids))
		}
		_, rest, _ := bytes.Cut(record, []byte("Ce-Id: "))
		id, _, _ := bytes.Cut(rest, []byte("\r\n"))
		ids[string(id)] = true
		b = b[8+length:]
	}
	if len(ids) != 200 {
		t.Errorf("%d different events in the file, want 200", len(ids))
	}
}
