package cli

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/rerun"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestMain(m *testing.M) {
	time.Local = time.UTC // tables show local time
	for _, name := range []string{"PENSTOCK_API", "PENSTOCK_URL"} {
		os.Unsetenv(name)
	}
	os.Exit(m.Run())
}

// result is what one run of penstock left behind.
type result struct {
	code     int
	out, err string
}

// penstock runs one command line as a shell would, without a terminal.
func penstock(ctx context.Context, stdin string, args ...string) result {
	var out, err bytes.Buffer
	code := Main(ctx, args, Streams{In: strings.NewReader(stdin), Out: &out, Err: &err})
	return result{code, out.String(), err.String()}
}

// must runs a command that has to end well and print nothing on standard error.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := penstock(t.Context(), "", args...)
	if r.code != ExitDone || r.err != "" {
		t.Fatalf("penstock %s: exit code %d: %s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// golden compares with testdata/name, or rewrites it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update if it should); got:\n%s\nwant:\n%s", path, got, want)
	}
}

// noon is when everything in the fixture happens.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// shop is a running broker as the API sees it: a Broker default/default with
// three Triggers, one of which never matches, and two dead letters.
type shop struct {
	t        *testing.T
	log      *memory.Log
	snapshot *config.Snapshot
	lanes    atomic.Pointer[[]api.Lane]
	control  *controlled
	url      string
	deliver  func(ctx context.Context, id string) (dispatch.Outcome, error) // what becomes of what a job sends
}

// runJobs runs jobs whose events go to s.deliver.
func (s *shop) runJobs() *rerun.Manager {
	jobs, err := rerun.New(rerun.Options{
		Snapshot: s.Snapshot, Log: s.Log, Deliverer: s, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return noon().Add(time.Hour) },
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- jobs.Run(ctx) }()
	s.t.Cleanup(func() { stop(); <-ended })
	return jobs
}

func (s *shop) Knows(_, trigger channel.UID) bool { return true }
func (s *shop) Deliver(ctx context.Context, _ channel.UID, x dispatch.Extra) (dispatch.Outcome, error) {
	return s.deliver(ctx, x.Event.ID())
}

func (s *shop) Snapshot() *config.Snapshot       { return s.snapshot }
func (s *shop) Lanes(context.Context) []api.Lane { return *s.lanes.Load() }
func (s *shop) Log(uid channel.UID) (channel.BrokerLog, bool) {
	b, ok := s.snapshot.Broker("default", "default")
	if !ok || uid != b.UID {
		return nil, false
	}
	log, err := s.log.Broker(s.t.Context(), b.Info())
	return measured{log}, err == nil
}

// measured is a log whose sizes do not depend on how memory counts.
type measured struct{ channel.BrokerLog }

func (measured) Stats() channel.Stats {
	return channel.Stats{Bytes: 1536, DeadBytes: 512, MaxBytes: 256 << 20}
}

func trigger(name string, spec filter.Spec, subscriber string) *config.Object {
	return &config.Object{Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID("uid-" + name), File: "shop.yaml", Line: 9,
		Trigger: &config.TriggerSpec{Broker: "default", Filter: spec, Subscriber: &config.Destination{URI: subscriber}}}
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, log: memory.New(memory.Options{Now: noon})}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.log.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })

	s.snapshot = config.Compile([]*config.Object{
		{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: "uid-default", Broker: &config.BrokerSpec{}, File: "shop.yaml", Line: 2},
		trigger("orders", filter.Spec{Filters: []filter.Dialect{{Exact: map[string]string{"type": "order.created"}}}}, "http://localhost:3000/orders"),
		trigger("europe", filter.Spec{Filters: []filter.Dialect{{CESQL: "region = 'eu'"}}}, "http://localhost:3000/eu"),
		trigger("broken", filter.Spec{Filters: []filter.Dialect{{CESQL: "type ="}}}, "http://localhost:3000/broken"),
	}, config.Options{DefaultChannel: config.ChannelMemory})
	s.deliver = func(context.Context, string) (dispatch.Outcome, error) {
		return dispatch.Outcome{End: dispatch.Delivered, Attempts: 1}, nil
	}
	s.lanes.Store(&[]api.Lane{
		{Trigger: "uid-orders", Backlog: 12, Oldest: noon().Add(-5*time.Minute - 3*time.Second), InFlight: 4, Waiting: 2, Delivered: 1234, Failed: 9, Window: 64},
		{Trigger: "uid-europe", Delivered: 7},
	})
	log, ok := s.Log("uid-default")
	if !ok {
		t.Fatal("the fixture has no log")
	}
	for i, id := range []string{"o-1", "o-2\x1b[31m"} {
		e := cloudEvent(t, id, "order.created", `{"total": 12}`)
		if err := log.AppendDead(t.Context(), []channel.DeadLetter{{
			ID: channel.ID{Shard: 1, Position: channel.Position(40 + i)}, Trigger: "uid-orders", TriggerName: "default/orders",
			Accepted: noon().Add(-time.Hour), Died: noon().Add(time.Duration(i) * time.Minute), Attempts: 11,
			Reason: "status 503\x1b]0;owned\x07", Code: 503, Destination: "http://localhost:3000/orders", Answer: []byte("busy\nnow"), Event: e,
		}}); err != nil {
			t.Fatal(err)
		}
	}

	s.control = &controlled{shop: s}
	handler := api.New(api.Options{
		Source: s, Control: s.control, IngressURL: "http://localhost:8080", Now: noon, Logger: slog.New(slog.DiscardHandler),
		Traffic: func(string) (uint64, uint64) { return 1300, 1250 },
		Jobs:    s.runJobs(),
	})
	server := httptest.NewServer(handler)
	t.Cleanup(func() { handler.Close(); server.Close() })
	s.url = server.URL
	t.Setenv("PENSTOCK_API", server.URL)
	return s
}

// cloudEvent builds without Validate: ids with control characters may come
// from older stores.
func cloudEvent(t *testing.T, id, eventType, data string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set("specversion", "1.0").Set("id", id).Set("source", "/shop").Set("type", eventType)
	if data != "" {
		b.SetData([]byte(data)).Set("datacontenttype", "application/json")
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (s *shop) accept(events ...event.Event) {
	s.t.Helper()
	for _, e := range events {
		if _, err := s.log.Append(s.t.Context(), "uid-default", []event.Event{e}); err != nil {
			s.t.Fatal(err)
		}
	}
}
