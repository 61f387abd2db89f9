package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/event"
)

// tiny makes many segments of few events, and reads them from the files.
var tiny = Options{FS: quickFS{}, SegmentSize: minSegmentSize, TailBytes: 1}

// quickFS is the real file system without the syncs. Where no power is cut
// nobody can tell, and the tests open hundreds of stores.
type quickFS struct{ osFS }

type quickFile struct{ File }

func (quickFile) Datasync() error { return nil }
func (quickFile) Sync() error     { return nil }
func (quickFile) Uncache() error  { return nil }

func (quickFS) SyncDir(string) error { return nil }

func (fs quickFS) Create(name string) (File, error) { return quick(fs.osFS.Create(name)) }
func (fs quickFS) Open(name string) (File, error)   { return quick(fs.osFS.Open(name)) }

func quick(f File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return quickFile{f}, nil
}

// running is a log whose Run is called.
type running struct {
	*Log
	t    testing.TB
	stop func() error // ends Run and returns its answer; only the first call counts
}

func start(t testing.TB, dir string, o Options) *running {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, l)
}

func serve(t testing.TB, l *Log) *running {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	r := &running{Log: l, t: t}
	r.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *running) broker(info channel.BrokerInfo) channel.BrokerLog {
	r.t.Helper()
	b, err := r.Broker(context.Background(), info)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// append stores one batch of events whose data follows from their ids.
func (r *running) append(uid channel.UID, size int, ids ...string) []channel.ID {
	r.t.Helper()
	var events []event.Event
	for _, id := range ids {
		events = append(events, made(r.t, id, size))
	}
	answer, err := r.Append(context.Background(), uid, events)
	if err != nil {
		r.t.Fatal(err)
	}
	var got []channel.ID
	for _, s := range answer {
		got = append(got, s.ID)
	}
	return got
}

// made is an event whose bytes follow from its id and size.
func made(t testing.TB, id string, size int) event.Event {
	t.Helper()
	data := make([]byte, size)
	h := fnv.New64a()
	h.Write([]byte(id))
	x := h.Sum64() | 1
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	var b event.Builder
	e, err := b.Set("id", id).Set("source", "/test").Set("specversion", "1.0").Set("type", "test").SetData(data).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// acked is what was acknowledged: by id within Penstock, the event's id.
type acked map[channel.ID]string

// contents reads everything a broker holds. Gaps come back as an error.
func contents(b channel.BrokerLog) (map[channel.ID]event.Event, error) {
	all := make(map[channel.ID]event.Event)
	var errs []error
	for _, shard := range b.Shards() {
		from, next := b.Range(shard)
		for from < next {
			records, to, err := b.Read(context.Background(), shard, from, make([]channel.Record, 0, 100))
			for _, r := range records {
				all[channel.ID{Shard: shard, Position: r.Position}] = r.Event
			}
			if err != nil {
				errs = append(errs, err)
				var gap *channel.GapError
				if !errors.As(err, &gap) {
					break
				}
			}
			from = to
		}
	}
	return all, errors.Join(errs...)
}

// verify compares what is stored with what was acknowledged. It returns what
// the log itself reported, and what it did not.
func verify(t testing.TB, dir string, o Options, want acked, size int) (loud, silent error) {
	t.Helper()
	l, err := Open(dir, o)
	if err != nil {
		return err, nil
	}
	r := serve(t, l)
	defer r.stop()
	b := l.broker("b")
	if b == nil {
		if len(want) == 0 {
			return nil, nil
		}
		return nil, errors.New("the broker is gone")
	}
	all, loud := contents(b)
	for id, e := range all {
		if string(e.Raw()) != string(made(t, e.ID(), size).Raw()) {
			return loud, fmt.Errorf("%s is altered", id)
		}
		if name, ok := want[id]; ok && name != e.ID() {
			return loud, fmt.Errorf("%s is %s, was %s", id, e.ID(), name)
		}
	}
	if gaps := b.Gaps(); loud == nil && len(gaps) > 0 {
		loud = fmt.Errorf("declared lost: %v", gaps)
	}
	if loud == nil {
		for id := range want {
			if _, ok := all[id]; !ok {
				return nil, fmt.Errorf("%s is lost, %d of %d are there", id, len(all), len(want))
			}
		}
	}
	return loud, nil
}

// fill appends n batches of k events of a size and returns what was acknowledged.
func fill(r *running, n, k, size int) acked {
	r.t.Helper()
	all := make(acked)
	for i := range n {
		var names []string
		for j := range k {
			names = append(names, fmt.Sprintf("%d-%d", i, j))
		}
		for j, id := range r.append("b", size, names...) {
			all[id] = names[j]
		}
	}
	return all
}

// image is a store as files in memory.
type image map[string][]byte

func read(t testing.TB, dir string) image {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	sort.SliceStable(entries, func(i, j int) bool { // each checkpoint speaks of segments as they were before it
		return strings.HasSuffix(entries[i].Name(), checkpointSuffix) && !strings.HasSuffix(entries[j].Name(), checkpointSuffix)
	})
	im := make(image)
	for _, e := range entries {
		if e.Name() == "LOCK" || strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if os.IsNotExist(err) {
			continue // removed between the listing and now
		}
		if err != nil {
			t.Fatal(err)
		}
		im[e.Name()] = b
	}
	return im
}

// write lays the image out in a new directory.
func (im image) write(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range im {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// with is the image with one file changed by edit, which may keep nothing.
func (im image) with(name string, edit func([]byte) []byte) image {
	changed := make(image)
	for n, b := range im {
		changed[n] = b
	}
	changed[name] = edit(append([]byte(nil), im[name]...))
	return changed
}

func (im image) without(name string) image {
	changed := im.with(name, func(b []byte) []byte { return b })
	delete(changed, name)
	return changed
}

// names of files with a suffix, ascending.
func (im image) names(suffix string) []string {
	var names []string
	for n := range im {
		if strings.HasSuffix(n, suffix) {
			names = append(names, n)
		}
	}
	sort.Strings(names)
	return names
}

// sumOf is the checksum of a checkpoint's whole file.
func sumOf(b []byte) uint32 {
	sum, err := checkpointSum(b[:checkpointHeader], bytes.NewReader(b), int64(len(b)))
	if err != nil {
		panic(err)
	}
	return sum
}
