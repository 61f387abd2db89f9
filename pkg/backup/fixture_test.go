package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/RoaringBitmap/roaring/v2/roaring64"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/event"
)

var quiet = slog.New(slog.DiscardHandler)

const ordersYAML = `apiVersion: eventing.knative.dev/v1
kind: Broker
metadata: {name: orders, namespace: shop}
`

// store is the data folder of a broker, with its log open.
type store struct {
	t    testing.TB
	dir  string
	yaml string
	log  *disk.Log
	uids map[string]channel.UID // by namespace/name
	stop func()
}

// openStore makes a data folder with the Brokers default/default and
// shop/orders as serve does, and opens its log.
func openStore(t testing.TB) *store {
	t.Helper()
	s := &store{t: t, dir: t.TempDir(), uids: make(map[string]channel.UID)}
	s.yaml = filepath.Join(t.TempDir(), "Orders and more.yaml")
	if err := os.WriteFile(s.yaml, []byte(ordersYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	snapshot, err := file.New(file.Options{
		Paths: []string{s.yaml}, Dir: s.dir,
		Compile: config.Options{DefaultChannel: config.ChannelDisk, Channels: []string{config.ChannelDisk}},
	}).Load()
	if err != nil {
		t.Fatal(err)
	}
	s.open()
	for _, b := range snapshot.Brokers() {
		s.uids[b.FullName()] = b.UID
		info := b.Info()
		info.Shards = 1
		if _, err := s.log.Broker(t.Context(), info); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// open opens the log, of small segments.
func (s *store) open() {
	s.t.Helper()
	var err error
	if s.log, err = disk.Open(filepath.Join(s.dir, "log"), disk.Options{SegmentSize: 64 << 10}); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.log.Run(ctx) }()
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			s.t.Error(err)
		}
	}
	s.t.Cleanup(func() { s.stop() })
}

func (s *store) broker(name string) channel.BrokerLog {
	s.t.Helper()
	for _, info := range s.log.Brokers() {
		if info.Name == name {
			b, err := s.log.Broker(s.t.Context(), info)
			if err != nil {
				s.t.Fatal(err)
			}
			return b
		}
	}
	s.t.Fatalf("there is no broker %s", name)
	return nil
}

// send appends events 1 to n of a size to a broker.
func (s *store) send(name string, n, size int) {
	s.t.Helper()
	for i := range n {
		if _, err := s.log.Append(s.t.Context(), s.uids[name], []event.Event{made(s.t, i+1, size)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func made(t testing.TB, n, size int) event.Event {
	t.Helper()
	var b event.Builder
	e, err := b.Set("id", fmt.Sprint(n)).Set("source", "/test").Set("specversion", "1.0").Set("type", "test").
		SetData(bytes.Repeat([]byte{byte(n)}, size)).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// settle says that all events up to a position are matched, and of these only
// some are pending.
func (s *store) settle(name string, scanned channel.Position, pending ...uint64) {
	s.t.Helper()
	lane := channel.LaneProgress{Trigger: "t", Added: roaring64.BitmapOf(pending...)}
	if err := s.broker(name).SaveProgress(s.t.Context(), []channel.ShardProgress{{Scanned: scanned, Lanes: []channel.LaneProgress{lane}}}); err != nil {
		s.t.Fatal(err)
	}
}

// begin takes a cut.
func (s *store) begin(o Options) *Archive {
	s.t.Helper()
	o.Dir, o.Files = s.dir, append(o.Files, s.yaml)
	a, err := New(s.t.Context(), s.log, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(a.Close)
	return a
}

// archive takes a whole backup.
func (s *store) archive() []byte {
	s.t.Helper()
	a := s.begin(Options{Resolve: []string{"service/orders=http://localhost:3000"}})
	defer a.Close()
	var b bytes.Buffer
	if err := a.Write(s.t.Context(), &b); err != nil {
		s.t.Fatal(err)
	}
	if int64(b.Len()) != a.Bytes() {
		s.t.Errorf("the archive has %d bytes, %d were announced", b.Len(), a.Bytes())
	}
	return b.Bytes()
}

// small is the archive of a store with one event and one dead letter.
func small(t testing.TB) []byte {
	t.Helper()
	s := openStore(t)
	defer s.stop()
	s.send("default/default", 1, 10)
	letter := channel.DeadLetter{ID: channel.ID{Position: 1}, Trigger: "t", Event: made(t, 1, 10)}
	if err := s.broker("default/default").AppendDead(t.Context(), []channel.DeadLetter{letter}); err != nil {
		t.Fatal(err)
	}
	return s.archive()
}

// forged is an archive with sums that are right, whatever is in it: entries
// of the small one after edit.
func forged(t testing.TB, edit func(m *Manifest, contents map[string][]byte)) []byte {
	t.Helper()
	contents := make(map[string][]byte)
	m, err := Read(bytes.NewReader(small(t)), func(_ *Manifest, e Entry, r io.Reader) (err error) {
		contents[e.Name], err = io.ReadAll(r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	edit(m, contents)
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	ball := &tarball{out: &outlet{ctx: t.Context(), w: &b}, created: m.Created}
	add := func(name string, data []byte) {
		if err := ball.add(name, int64(len(data)), func(w io.Writer) error { return put(w, data) }); err != nil {
			t.Fatal(err)
		}
	}
	add(manifestName, text)
	for _, e := range m.Contents {
		add(e.Name, contents[e.Name])
	}
	if err := ball.end(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
