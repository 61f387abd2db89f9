package engine

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/app/process"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/config/file"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/crowd"
)

const tenThousand = 10_000

// running is an engine over a file of Triggers, as `penstock serve` has it.
type running struct {
	*Engine
	life  *process.Lifecycle
	files *file.Source
}

func run(tb testing.TB, path, data string) *running {
	tb.Helper()
	e, err := Open(Options{Data: data, Logger: slog.New(slog.DiscardHandler), Guard: deliver.Guard{AllowLoopback: true}, ScrubRate: "0", JournalBytes: "0"})
	if err != nil {
		tb.Fatal(err)
	}
	r := &running{Engine: e, life: process.NewLifecycle()}
	e.StartChannels(r.life)
	r.files = file.New(file.Options{Paths: []string{path}, Dir: data, Compile: config.Options{DefaultChannel: e.Kind(), Channels: e.Kinds()}})
	first, err := r.files.Load()
	if err != nil {
		tb.Fatal(err)
	}
	e.StartDispatcher(r.life)
	if err := e.Put(context.Background(), first); err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *running) stop(tb testing.TB) {
	tb.Helper()
	if err := r.life.Stop(); err != nil {
		tb.Fatal(err)
	}
	r.Close()
}

// write replaces the file: nobody ever sees half of it.
func write(tb testing.TB, path string, documents ...string) {
	tb.Helper()
	if err := os.WriteFile(path+".new", []byte(strings.Join(documents, "")), 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		tb.Fatal(err)
	}
}

func subscriber(i int) string { return "http://127.0.0.1:9000/" + crowd.Name(i) }

// delivery is an event that came to a Trigger's subscriber.
type delivery struct{ trigger, id string }

// Ten thousand Triggers of all kinds, a change, a removal and a restart, with
// every file and socket real: each event comes to exactly the Triggers whose
// filter wants it, asked one by one.
func TestTenThousandMixedTriggersGetWhatTheirFiltersWant(t *testing.T) {
	came := make(chan delivery, 100_000)
	subscribers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		came <- delivery{strings.TrimPrefix(r.URL.Path, "/"), r.Header.Get("ce-id")}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer subscribers.Close()
	c := &declared{t: t, url: subscribers.URL, path: filepath.Join(t.TempDir(), "many.yaml"), specs: make(map[int]filter.Spec)}
	for i := range tenThousand {
		c.specs[i] = crowd.Mixed(i)
	}
	c.write()
	data := t.TempDir()
	r := run(t, c.path, data)
	inForce := make(chan map[channel.UID]bool)
	r.life.Start("configuration", func(ctx context.Context) error {
		return r.Follow(ctx, r.files, func(_ *config.Snapshot, failed map[channel.UID]bool) { inForce <- failed })
	})
	change := func() {
		t.Helper()
		c.write()
		if failed := <-inForce; len(failed) > 0 {
			t.Fatalf("not in force: %v", failed)
		}
	}

	every := make([]event.Event, 0, 110) // one of each kind, and some more
	for place := range 110 {
		every = append(every, crowd.MixedEvent(place+100*(place%90)))
	}
	c.expect(r, came, every)

	// One filter is another, one subscriber is another, one Trigger goes, one comes.
	c.specs[4200] = crowd.Mixed(77_777_780) // a prefix in place of a type
	delete(c.specs, 4300)
	c.specs[20_001] = crowd.Mixed(1)
	change()
	c.expect(r, came, append(every, crowd.MixedEvent(4200), crowd.MixedEvent(77_777_780), crowd.MixedEvent(4300), crowd.MixedEvent(1)))
	if held, ok := r.Snapshot().Trigger("default", crowd.Name(4300)); !ok || !held.Held {
		t.Errorf("the Trigger that is gone is not held in its grace: %+v", held)
	}
	c.specs[4200] = crowd.Mixed(4200)
	change()
	c.expect(r, came, []event.Event{crowd.MixedEvent(4200), crowd.MixedEvent(77_777_780)})

	r.stop(t)
	r = run(t, c.path, data)
	c.expect(r, came, every)
	r.stop(t)
	if len(came) > 0 {
		t.Errorf("%d deliveries nobody waits for, such as %v", len(came), <-came)
	}
}

// declared are Triggers as they stand in a file.
type declared struct {
	t     *testing.T
	url   string
	path  string
	specs map[int]filter.Spec
	sent  int
}

func (c *declared) write() {
	var documents []string
	for _, i := range slices.Sorted(maps.Keys(c.specs)) {
		documents = append(documents, crowd.Document(i, c.specs[i], c.url+"/"+crowd.Name(i)))
	}
	write(c.t, c.path, documents...)
}

// expect posts events and waits until each has come to every Trigger that wants
// it. One that comes to another fails.
func (c *declared) expect(r *running, came <-chan delivery, events []event.Event) {
	c.t.Helper()
	filters := make(map[int]*filter.Filter, len(c.specs))
	for i, s := range c.specs {
		f, err := filter.Compile(s)
		if err != nil {
			c.t.Fatal(err)
		}
		filters[i] = f
	}
	broker, _ := r.Snapshot().Broker("default", "default")
	log, err := r.Appender(broker.UID)
	if err != nil {
		c.t.Fatal(err)
	}
	waiting := make(map[delivery]bool)
	for _, e := range events {
		c.sent++
		id := strconv.Itoa(c.sent)
		if e, err = event.Edit(e).Set("id", id).Build(); err != nil {
			c.t.Fatal(err)
		}
		for i, f := range filters {
			if f.Match(e) {
				waiting[delivery{crowd.Name(i), id}] = true
			}
		}
		if _, err := log.Append(c.t.Context(), broker.UID, []event.Event{e}); err != nil {
			c.t.Fatal(err)
		}
	}
	for late := time.After(30 * time.Second); len(waiting) > 0; {
		select {
		case d := <-came:
			if !waiting[d] {
				c.t.Fatalf("%v: the filter does not want it, or it came before", d)
			}
			delete(waiting, d)
		case <-late:
			c.t.Fatalf("%d deliveries do not come, such as %v", len(waiting), slices.Collect(maps.Keys(waiting))[0])
		}
	}
}

func BenchmarkStartTenThousand(b *testing.B) {
	for _, again := range []bool{false, true} {
		b.Run(map[bool]string{false: "first", true: "again"}[again], func(b *testing.B) {
			path, data := filepath.Join(b.TempDir(), "many.yaml"), b.TempDir()
			write(b, path, crowd.File(tenThousand, subscriber))
			if again {
				run(b, path, data).stop(b)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !again {
					data = b.TempDir()
				}
				r := run(b, path, data)
				b.StopTimer()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				b.ReportMetric(float64(m.HeapAlloc)/(1<<20), "heap-MiB")
				r.stop(b)
				b.StartTimer()
			}
		})
	}
}

func BenchmarkPutOneOfTenThousand(b *testing.B) {
	path := filepath.Join(b.TempDir(), "many.yaml")
	for _, what := range []string{"subscriber", "filter"} {
		b.Run(what, func(b *testing.B) {
			documents := make([]string, tenThousand)
			for i := range documents {
				documents[i] = crowd.Document(i, crowd.Mixed(i), subscriber(i))
			}
			write(b, path, documents...)
			r := run(b, path, b.TempDir())
			defer r.stop(b)
			two := make([]*config.Snapshot, 2)
			two[0] = r.Snapshot()
			documents[5000] = crowd.Document(5000, crowd.Mixed(5000), subscriber(1))
			if what == "filter" {
				documents[5000] = crowd.Document(5000, crowd.Mixed(tenThousand), subscriber(5000))
			}
			write(b, path, documents...)
			ctx, cancel := context.WithCancel(context.Background())
			_ = r.files.Run(ctx, func(s *config.Snapshot) { two[1] = s; cancel() })
			b.ReportAllocs()
			for i := 1; b.Loop(); i++ {
				if err := r.Put(context.Background(), two[i%2]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
