package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
)

// running is a broker without ingress and dispatch: a memory channel, compiled
// objects, and lanes that count what the test says.
type running struct {
	t        *testing.T
	log      *memory.Log
	snapshot *config.Snapshot
	lanes    []Lane
}

func (r *running) Snapshot() *config.Snapshot   { return r.snapshot }
func (r *running) Lanes(context.Context) []Lane { return r.lanes }
func (r *running) Log(uid channel.UID) (channel.BrokerLog, bool) {
	for _, info := range r.log.Brokers() {
		if info.UID == uid {
			log, err := r.log.Broker(r.t.Context(), info)
			return log, err == nil
		}
	}
	return nil, false
}

// start runs the channel and opens the Brokers of the objects.
func start(t *testing.T, objects ...*config.Object) *running {
	t.Helper()
	r := &running{t: t, log: memory.New(memory.Options{})}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.log.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	r.configure(objects...)
	return r
}

func (r *running) configure(objects ...*config.Object) {
	r.t.Helper()
	r.snapshot = config.Compile(objects, config.Options{DefaultChannel: config.ChannelMemory, IngressURL: "http://localhost:8080"})
	for _, b := range r.snapshot.Brokers() {
		if !b.Ready {
			continue
		}
		if _, err := r.log.Broker(r.t.Context(), b.Info()); err != nil {
			r.t.Fatal(err)
		}
	}
}

func brokerObject(name string) *config.Object {
	return &config.Object{Kind: config.KindBroker, Namespace: "default", Name: name, UID: channel.UID("uid-" + name),
		Broker: &config.BrokerSpec{}, File: "brokers.yaml", Line: 3}
}

func triggerObject(name, broker string, spec filter.Spec) *config.Object {
	return &config.Object{Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID("uid-" + name),
		Trigger: &config.TriggerSpec{Broker: broker, Filter: spec, Subscriber: &config.Destination{URI: "http://localhost:3000/" + name}},
		File:    "triggers.yaml", Line: 7}
}

func exact(attribute, want string) filter.Spec {
	return filter.Spec{Filters: []filter.Dialect{{Exact: map[string]string{attribute: want}}}}
}

// newEvent makes an event of name=value attributes over sensible ones.
func newEvent(t *testing.T, attributes ...string) event.Event {
	t.Helper()
	var b event.Builder
	b.Set("specversion", "1.0").Set("id", "e1").Set("source", "/tests").Set("type", "order.created")
	for _, a := range attributes {
		name, value, _ := strings.Cut(a, "=")
		if name == "data" {
			b.SetData([]byte(value)).Set("datacontenttype", "application/json")
			continue
		}
		b.Set(name, value)
	}
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	e, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (r *running) append(broker string, events ...event.Event) []channel.ID {
	r.t.Helper()
	answer, err := r.log.Append(r.t.Context(), channel.UID("uid-"+broker), events)
	if err != nil {
		r.t.Fatal(err)
	}
	var ids []channel.ID
	for _, s := range answer {
		ids = append(ids, s.ID)
	}
	return ids
}

func (r *running) bury(broker string, letters ...channel.DeadLetter) {
	r.t.Helper()
	log, ok := r.Log(channel.UID("uid-" + broker))
	if !ok {
		r.t.Fatalf("broker %s has no log", broker)
	}
	if err := log.AppendDead(r.t.Context(), letters); err != nil {
		r.t.Fatal(err)
	}
}

func options(r *running) Options {
	return Options{Source: r, IngressURL: "http://localhost:8080", Logger: slog.New(slog.DiscardHandler)}
}

// serve gives the API a real address.
func serve(t *testing.T, o Options) *httptest.Server {
	t.Helper()
	s := New(o)
	server := httptest.NewServer(s)
	t.Cleanup(func() { s.Close(); server.Close() })
	return server
}

// get asks and decodes the answer; code is the status it must have.
func get[T any](t *testing.T, server *httptest.Server, path string, code int) T {
	t.Helper()
	resp, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return decode[T](t, resp, code)
}

func decode[T any](t *testing.T, resp *http.Response, code int) T {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != code {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, code, body)
	}
	if got := resp.Header.Get("Content-Type"); got != "application/json" {
		t.Fatalf("content type %q of %s", got, body)
	}
	var v T
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

// refused asks for what must fail and returns the error's text.
func refused(t *testing.T, server *httptest.Server, path string, code int) string {
	t.Helper()
	e := get[v1.Error](t, server, path, code)
	if e.Code != code || e.Error == "" || strings.Contains(e.Error, "\n") {
		t.Fatalf("error body %+v, want code %d and one line", e, code)
	}
	return e.Error
}

func letter(e event.Event, id channel.ID, trigger string) channel.DeadLetter {
	return channel.DeadLetter{
		ID: id, Trigger: channel.UID("uid-" + trigger), TriggerName: "default/" + trigger, Event: e,
		Accepted: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), Died: time.Date(2026, 3, 1, 10, 5, 0, 0, time.UTC),
		Attempts: 11, Reason: "status 503", Code: 503, Destination: "http://localhost:3000/" + trigger, Answer: []byte("busy"),
	}
}
