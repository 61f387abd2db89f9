package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2/roaring64"
	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/proof"
)

// restarts is how often each log is killed and started. The quickest of them
// are compared: what else the machine did is in the others.
const restarts = 5

// Opening a log costs its tail and its footers: ten times the events must not
// cost three times the wait. `make recovery` fills 10 GiB.
func TestRecoveryToTheFirst202DoesNotGrowWithTheLog(t *testing.T) {
	needs(t, root) // the page cache must not make it look good
	small, large := int64(64<<20), int64(512<<20)
	if proof.Soaking() {
		small, large = 1<<30, 10<<30
	}
	t.Parallel()
	dir := t.TempDir()
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	if free, want := int64(s.Bavail)*s.Bsize, (small+large)*3/2; free < want {
		needs(t, func() error { return fmt.Errorf("needs %d GiB free in %s", want>>30+1, os.TempDir()) })
	}
	times := make(map[int64][]time.Duration)
	logs := []*filled{fill(t, filepath.Join(dir, "small"), small), fill(t, filepath.Join(dir, "large"), large)}
	disturbance.Lock() // the others have their turn before and after
	defer disturbance.Unlock()
	for range restarts {
		for _, l := range logs {
			times[l.size] = append(times[l.size], l.recovery())
		}
	}
	short, long := times[small], times[large]
	slices.Sort(short)
	slices.Sort(long)
	ratio := float64(long[0]) / float64(short[0])
	figure(t, "a log of %d MiB: first 202 after %v (median %v); of %d MiB: after %v (median %v); %.2f times, quickest of %d kills each",
		small>>20, short[0].Round(time.Millisecond), short[restarts/2].Round(time.Millisecond),
		large>>20, long[0].Round(time.Millisecond), long[restarts/2].Round(time.Millisecond), ratio, restarts)
	if ratio > 3 {
		t.Errorf("%.2f times as long, want at most 3: %v and %v", ratio, short, long)
	}
}

// filled is a broker whose log has a certain size.
type filled struct {
	t    *testing.T
	b    *broker.Broker
	size int64
}

// fill makes a store of size bytes, half of it pending for a subscriber that
// takes connections and never answers.
func fill(t *testing.T, data string, size int64) *filled {
	t.Helper()
	hung, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hung.Close() })
	file := filepath.Join(t.TempDir(), "t.yaml")
	text := "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata: {name: hung}\nspec:\n  broker: default\n" +
		"  filters: [{exact: {type: a}}]\n  subscriber: {uri: \"http://" + hung.Addr().String() + "\"}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := &filled{t: t, size: size}
	f.b = broker.Start(t, broker.Options{Binary: penstock, Data: data, Files: []string{file}, Args: []string{"--drain-timeout", "100ms"}})
	if code := f.b.Stop(); code != 0 {
		t.Fatalf("exit code is %d\n%s", code, f.b.Log())
	}
	start := time.Now()
	f.append(filepath.Join(data, "log"))
	t.Logf("%d MiB were written in %v", size>>20, time.Since(start).Round(time.Millisecond))
	f.b.Restart()
	if n := f.b.Trigger("hung").Backlog; n < uint64(size)/eventBytes*9/20 {
		t.Fatalf("%d events are pending", n)
	}
	return f
}

const eventBytes = 4 << 10

// append fills the log as the broker would, and says in one go what of it is
// pending: every other event.
func (f *filled) append(dir string) {
	f.t.Helper()
	log, err := disk.Open(dir, disk.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- log.Run(ctx) }()
	info := log.Brokers()[0]
	b, err := log.Broker(ctx, info)
	if err != nil {
		f.t.Fatal(err)
	}
	trigger := b.Routes()[0].Set[0].Trigger

	const writers, batch = 4, 64
	pending := make([]roaring64.Bitmap, len(b.Shards()))
	var mu sync.Mutex
	var errs []error
	var running sync.WaitGroup
	for range writers {
		running.Go(func() {
			events := sample(f.t, batch)
			for range f.size / eventBytes / batch / writers {
				ids, err := log.Append(ctx, info.UID, events)
				mu.Lock()
				for i := 0; i < len(ids); i += 2 {
					pending[ids[i].Shard].Add(uint64(ids[i].Position))
				}
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	var changes []channel.ShardProgress
	for _, shard := range b.Shards() {
		_, next := b.Range(shard)
		changes = append(changes, channel.ShardProgress{
			Shard: shard, Scanned: next,
			Lanes: []channel.LaneProgress{{Trigger: trigger, Added: &pending[shard]}},
		})
	}
	errs = append(errs, b.SaveProgress(ctx, changes))
	cancel()
	if err := errors.Join(append(errs, <-ran)...); err != nil {
		f.t.Fatal(err)
	}
}

// sample is a batch of events, of the types a and b in turn.
func sample(t *testing.T, n int) []event.Event {
	t.Helper()
	data := make([]byte, eventBytes-200) // what it says does not matter to an index
	var events []event.Event
	for i := range n {
		var b event.Builder
		e, err := b.Set("id", strconv.Itoa(i)).Set("source", "/recovery").Set("type", []string{"a", "b"}[i%2]).SetData(data).Build()
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// recovery kills the broker in the middle of its work and returns how long
// after the start of the next one the first event is accepted. What the
// machine has in memory of the log is dropped in between.
func (f *filled) recovery() time.Duration {
	f.t.Helper()
	for range 200 {
		if code := f.post(); code != http.StatusAccepted {
			f.t.Fatalf("answer is %d", code)
		}
	}
	f.b.Kill()
	f.uncache()
	start := time.Now()
	f.b.Restart()
	broker.Await(f.t, "the first 202", func() bool { return f.post() == http.StatusAccepted })
	return time.Since(start)
}

func (f *filled) post() int {
	f.t.Helper()
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPost, f.b.Default(), strings.NewReader("x"))
	if err != nil {
		f.t.Fatal(err)
	}
	for name, value := range map[string]string{"Id": "1", "Source": "/recovery", "Type": "b", "Specversion": "1.0"} {
		req.Header.Set("Ce-"+name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

func (f *filled) uncache() {
	f.t.Helper()
	names, err := filepath.Glob(filepath.Join(f.b.Data, "log", "*"))
	if err != nil {
		f.t.Fatal(err)
	}
	for _, name := range names {
		file, err := os.Open(name)
		if err == nil {
			err = errors.Join(unix.Fdatasync(int(file.Fd())), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close())
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}
