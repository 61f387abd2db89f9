package rerun_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/rerun"
	"github.com/penstock-events/penstock/pkg/telemetry"
	"github.com/penstock-events/penstock/test/memfs"
	"github.com/penstock-events/penstock/test/memhttp"
)

const brokerUID = channel.UID("b-1")

// world is a broker with jobs in a bubble of virtual time: a real log, real
// HTTP over an in-memory network, and a process that can stop, or be killed
// between any two moments, and start again.
type world struct {
	t        *testing.T
	kind     string
	net      *memhttp.Net
	fs       *memfs.FS // of the disk channel
	dir      string    // of the jobs; "" for a broker that keeps nothing
	objects  map[string]*config.Object
	removed  []config.Removed
	retains  string // annotation of the broker
	start    time.Time
	count    int
	mute     bool // crashes come before a start learns where live events begin
	snapshot *config.Snapshot

	log        channel.Log
	dispatcher *dispatch.Dispatcher
	jobs       *rerun.Manager
	parts      []part // in the order they were started
}

type part struct {
	stop  context.CancelFunc
	ended chan error
}

// inWorlds runs a story over each channel.
func inWorlds(t *testing.T, story func(w *world)) {
	for _, kind := range []string{config.ChannelMemory, config.ChannelDisk} {
		t.Run(kind, func(t *testing.T) { inWorld(t, kind, story) })
	}
}

func inWorld(t *testing.T, kind string, story func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, kind: kind, net: memhttp.New(), dir: dir, objects: map[string]*config.Object{}, start: time.Now(), retains: "24h,1Gi"}
		w.fs = memfs.New(memfs.Options{})
		defer func() { w.halt(0) }()
		story(w)
	})
}

// run starts a part of the process.
func (w *world) run(part_ func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	w.parts = append(w.parts, part{stop, ended})
	go func() { ended <- part_(ctx) }()
}

// halt stops the parts but the first so many, the last first.
func (w *world) halt(leave int) {
	for len(w.parts) > leave {
		p := w.parts[len(w.parts)-1]
		w.parts = w.parts[:len(w.parts)-1]
		p.stop()
		if err := <-p.ended; err != nil {
			w.t.Errorf("stop: %v", err)
		}
	}
}

// boot starts the process.
func (w *world) boot() {
	w.t.Helper()
	if len(w.parts) == 0 {
		if w.kind == config.ChannelDisk {
			log, err := disk.Open("/data", disk.Options{FS: w.fs, SegmentSize: 64 << 10, MaxBytes: 64 << 20, ScrubRate: -1})
			if err != nil {
				w.t.Fatal(err)
			}
			w.log = log
		} else {
			w.log = memory.New(memory.Options{})
		}
		w.run(w.log.Run)
	}
	client := deliver.New(deliver.Options{Dial: w.net.DialContext})
	w.run(func(ctx context.Context) error {
		<-ctx.Done()
		client.Close()
		return nil
	})
	relay := &newcomers{w: w}
	w.dispatcher = dispatch.New(dispatch.Options{
		Sender: client, Metrics: telemetry.New(nil), Logger: slog.New(slog.DiscardHandler),
		Logs: map[string]channel.Log{w.kind: w.log}, Newcomers: relay,
	})
	w.run(w.dispatcher.Run)
	jobs, err := rerun.New(rerun.Options{
		Dir: w.dir, Snapshot: func() *config.Snapshot { return w.snapshot }, Log: w.dispatcher.Log,
		Deliverer: w.dispatcher, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.jobs, relay.Manager = jobs, jobs
	w.apply()
	w.run(w.jobs.Run)
	synctest.Wait()
}

// newcomers breaks the circle: the dispatcher is made first.
type newcomers struct {
	*rerun.Manager
	w *world
}

func (n *newcomers) Came(broker channel.UID, triggers []*config.Trigger, from map[channel.ShardID]channel.Position) {
	if !n.w.mute {
		n.Manager.Came(broker, triggers, from)
	}
}

// restart stops the process in order and starts it again.
func (w *world) restart() {
	w.t.Helper()
	keep := 0
	if w.kind == config.ChannelMemory {
		keep = 1 // its log would forget
	}
	w.halt(keep)
	w.boot()
}

// kill ends the process without a word, the power with it, and starts another.
func (w *world) kill() {
	w.t.Helper()
	synctest.Wait()
	dir := w.t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	fs := w.fs.Crash(rand.New(rand.NewPCG(1, 2)))
	keep := 0
	if w.kind == config.ChannelMemory {
		keep = 1
	}
	w.halt(keep) // what it still writes goes nowhere
	w.dir, w.fs = dir, fs
	w.boot()
}

func (w *world) apply() {
	w.t.Helper()
	if err := w.tryApply(); err != nil {
		w.t.Fatalf("apply: %v", err)
	}
}

func (w *world) tryApply() error {
	objects := []*config.Object{{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: brokerUID, Broker: &config.BrokerSpec{},
		Annotations: map[string]string{"penstock.dev/retention": w.retains}}}
	for _, o := range w.objects {
		objects = append(objects, o)
	}
	w.snapshot = config.Compile(objects, config.Options{DefaultChannel: w.kind, Removed: w.removed})
	return w.dispatcher.Apply(context.Background(), w.snapshot)
}

// trigger declares a trigger with no retries and no filter, to a host.
func (w *world) trigger(name, host string, change ...func(*config.Object)) {
	zero := 0
	o := &config.Object{Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID("t-" + name),
		Trigger: &config.TriggerSpec{Broker: "default", Subscriber: &config.Destination{URI: "http://" + host}, Delivery: &config.DeliverySpec{Retry: &zero}}}
	for _, f := range change {
		f(o)
	}
	w.objects[name] = o
}

func annotate(key, value string) func(*config.Object) {
	return func(o *config.Object) {
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[key] = value
	}
}

// remove takes a trigger away for good.
func (w *world) remove(name string) {
	w.removed = append(w.removed, config.Removed{Kind: config.KindTrigger, UID: w.objects[name].UID, Namespace: "default", Name: name, Broker: "default", At: time.Now()})
	delete(w.objects, name)
	w.apply()
}

// send appends so many events and returns their ids, which are numbered through.
func (w *world) send(n int, attributes ...string) []string {
	w.t.Helper()
	var names []string
	for range n {
		name := fmt.Sprintf("e%05d", w.count)
		w.count++
		var b event.Builder
		b.Set(event.AttrID, name).Set(event.AttrSource, "/story").Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, "order")
		for i := 0; i < len(attributes); i += 2 {
			b.Set(attributes[i], attributes[i+1])
		}
		e, err := b.Build()
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.log.Append(context.Background(), brokerUID, []event.Event{e}); err != nil {
			w.t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func (w *world) letters(trigger channel.UID) []string {
	w.t.Helper()
	log, _ := w.dispatcher.Log(brokerUID)
	var names []string
	for after := ""; ; {
		page, next, err := log.Dead(context.Background(), trigger, after, 1000)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, l := range page {
			names = append(names, l.Event.ID())
		}
		if next == "" {
			return names
		}
		after = next
	}
}

// begin starts a job that must be taken.
func (w *world) begin(kind string, q v1.JobRequest) v1.Job {
	w.t.Helper()
	j, err := w.jobs.Begin(context.Background(), kind, q, "tester")
	if err != nil {
		w.t.Fatalf("%s: %v", kind, err)
	}
	return j
}

func (w *world) job(id string) v1.Job {
	w.t.Helper()
	j, ok := w.jobs.Get(id)
	if !ok {
		w.t.Fatalf("no job %s", id)
	}
	return j
}

// ended lets time pass until a job has ended.
func (w *world) ended(id string) v1.Job {
	w.t.Helper()
	for range 100_000 {
		if j := w.job(id); j.State != v1.JobRunning && j.State != v1.JobInterrupted {
			return j
		}
		w.after(100 * time.Millisecond)
	}
	w.t.Fatalf("job does not end: %+v", w.job(id))
	return v1.Job{}
}

// after lets virtual time pass until everything waits.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// subscriber answers with its code and remembers what it took.
type subscriber struct {
	mu    sync.Mutex
	code  int
	delay time.Duration
	fails map[string]bool // these are answered 422
	stuck string          // this one is not answered for a minute, and not taken
	took  []receipt
}

type receipt struct {
	id, mark, key string
}

func (w *world) subscribe(host string) *subscriber {
	s := &subscriber{code: 200}
	w.net.Serve(w.t, host, s)
	return s
}

func (s *subscriber) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
	s.mu.Lock()
	code, delay := s.code, s.delay
	id := req.Header.Get("Ce-Id")
	if s.stuck == id {
		delay, code = time.Minute, 500
	}
	if s.fails[id] {
		code = 422
	}
	if code == 200 {
		mark := req.Header.Get("Ce-Penstockreplay") + req.Header.Get("Ce-Penstockredrive")
		s.took = append(s.took, receipt{id, mark, req.Header.Get("Ce-Subject")})
	}
	s.mu.Unlock()
	time.Sleep(delay)
	rw.WriteHeader(code)
}

func (s *subscriber) set(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

func (s *subscriber) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = nil
}

func (s *subscriber) receipts() []receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.took)
}

// ids are those it took, sorted, with how often each came.
func (s *subscriber) ids() (ids []string, most int) {
	times := map[string]int{}
	for _, r := range s.receipts() {
		times[r.id]++
		most = max(most, times[r.id])
	}
	for id := range times {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, most
}

// same fails unless a subscriber took these and no others, each at most so often.
func (s *subscriber) same(t *testing.T, want []string, most int) {
	t.Helper()
	got, times := s.ids()
	want = slices.Clone(want)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the subscriber took %d events %v, want %d %v", len(got), short(got), len(want), short(want))
	}
	if times > most {
		t.Errorf("an event came %d times, want at most %d", times, most)
	}
}

func short(ids []string) []string { return ids[:min(len(ids), 8)] }

// auditLines are what the audit log has.
func (w *world) auditLines() string {
	text, err := os.ReadFile(filepath.Join(w.dir, "audit.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

const orders = "default/orders"
