package dispatch_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/dispatch"
	"github.com/penstock-events/penstock/pkg/event"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/pkg/telemetry"
	"github.com/penstock-events/penstock/test/memhttp"
)

const brokerUID = channel.UID("b-1")

// world is a broker's delivery in a bubble of virtual time: the memory
// channel, real HTTP over an in-memory network, and a dispatcher that can be
// stopped and started again over the same log.
type world struct {
	t       *testing.T
	net     *memhttp.Net
	log     channel.Log
	client  *deliver.Client
	metrics *telemetry.Metrics
	objects map[string]*config.Object
	gone    []config.Removed
	options dispatch.Options

	fragileAt string // the id of an event that makes the sender panic

	dispatcher *dispatch.Dispatcher
	stop       context.CancelFunc
	stopped    chan error
	start      time.Time
}

// inWorld runs a story.
func inWorld(t *testing.T, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: memhttp.New(), metrics: telemetry.New(nil), objects: map[string]*config.Object{}, start: time.Now()}
		w.log = memory.New(memory.Options{})
		ctx, stopLog := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func(log channel.Log) { ended <- log.Run(ctx) }(w.log)
		w.client = deliver.New(deliver.Options{Dial: w.net.DialContext})
		defer func() {
			w.shutdown()
			w.client.Close()
			stopLog()
			if err := <-ended; err != nil {
				t.Errorf("log: %v", err)
			}
		}()
		story(w)
	})
}

// run starts a dispatcher with the triggers declared so far.
func (w *world) run() {
	w.t.Helper()
	w.begin()
	w.apply()
}

// begin starts a dispatcher that has nothing to do yet.
func (w *world) begin() {
	o := w.options
	o.Sender, o.Metrics, o.Logs = w.client, w.metrics, map[string]channel.Log{config.ChannelMemory: w.log}
	o.Logger = slog.New(slog.DiscardHandler)
	if w.fragileAt != "" {
		o.Sender = fragile{w.client, w.fragileAt}
	}
	w.dispatcher = dispatch.New(o)
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.stopped = stop, make(chan error, 1)
	go func(d *dispatch.Dispatcher) { w.stopped <- d.Run(ctx) }(w.dispatcher)
}

func (w *world) shutdown() {
	if w.stop == nil {
		return
	}
	w.stop()
	if err := <-w.stopped; err != nil {
		w.t.Errorf("dispatcher: %v", err)
	}
	w.stop = nil
}

// apply puts the declared triggers in force.
func (w *world) apply() {
	w.t.Helper()
	if err := w.tryApply(); err != nil {
		w.t.Fatalf("apply: %v", err)
	}
}

func (w *world) tryApply() error {
	w.t.Helper()
	objects := []*config.Object{{Kind: config.KindBroker, Namespace: "default", Name: "default", UID: brokerUID, Broker: &config.BrokerSpec{}}}
	for _, o := range w.objects {
		objects = append(objects, o)
	}
	s := config.Compile(objects, config.Options{
		DefaultChannel: config.ChannelMemory, Removed: w.gone, Keys: w.options.Keys,
		Resolve: func(r config.Reference) (string, error) { return "http://" + r.Name, nil },
	})
	if b, ok := s.Broker("default", "default"); !ok || !b.Ready {
		w.t.Fatalf("the broker is not ready: %+v", b)
	}
	return w.dispatcher.Apply(context.Background(), s)
}

// trigger declares a trigger for a type ("" for all) to a host.
func (w *world) trigger(name, eventType, host string, change ...func(*config.Object)) {
	o := &config.Object{
		Kind: config.KindTrigger, Namespace: "default", Name: name, UID: channel.UID("t-" + name),
		Trigger: &config.TriggerSpec{Broker: "default", Subscriber: &config.Destination{URI: "http://" + host}},
	}
	if eventType != "" {
		o.Trigger.Filter = filter.Spec{Attributes: map[string]string{"type": eventType}}
	}
	for _, f := range change {
		f(o)
	}
	w.objects[name] = o
}

// remove takes a trigger away for good.
func (w *world) remove(name string) {
	w.gone = append(w.gone, config.Removed{Kind: config.KindTrigger, UID: w.objects[name].UID, Namespace: "default", Name: name, Broker: "default", At: time.Now()})
	delete(w.objects, name)
}

// delivery sets a trigger's spec.delivery.
func delivery(retry int, policy, delay string, more ...func(*config.DeliverySpec)) func(*config.Object) {
	return func(o *config.Object) {
		d := &config.DeliverySpec{Retry: &retry}
		if policy != "" {
			d.BackoffPolicy = &policy
		}
		if delay != "" {
			d.BackoffDelay = &delay
		}
		for _, f := range more {
			f(d)
		}
		o.Trigger.Delivery = d
	}
}

func sink(host string) func(*config.DeliverySpec) {
	return func(d *config.DeliverySpec) { d.DeadLetterSink = &config.Destination{URI: "http://" + host} }
}

func timeout(iso string) func(*config.DeliverySpec) {
	return func(d *config.DeliverySpec) { d.Timeout = &iso }
}

func annotate(key, value string) func(*config.Object) {
	return func(o *config.Object) {
		if o.Annotations == nil {
			o.Annotations = map[string]string{}
		}
		o.Annotations[key] = value
	}
}

// send appends events of a type and returns their ids.
func (w *world) send(eventType string, n int) []string {
	w.t.Helper()
	var ids []string
	for i := range n {
		id := fmt.Sprintf("%s-%d-%d", eventType, time.Since(w.start), i)
		w.append(newEvent(w.t, id, eventType))
		ids = append(ids, id)
	}
	return ids
}

func (w *world) append(events ...event.Event) {
	w.t.Helper()
	appender, ok := w.dispatcher.Appender(brokerUID)
	if !ok {
		w.t.Fatal("the broker has no appender")
	}
	if _, err := appender.Append(context.Background(), brokerUID, events); err != nil {
		w.t.Fatalf("append: %v", err)
	}
}

func newEvent(t *testing.T, id, eventType string) event.Event {
	t.Helper()
	var b event.Builder
	e, err := b.Set(event.AttrID, id).Set(event.AttrSource, "/story").Set(event.AttrSpecVersion, "1.0").
		Set(event.AttrType, eventType).SetData([]byte("data of " + id)).Build()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// lane is the status of a trigger's lane.
func (w *world) lane(name string) dispatch.LaneStatus {
	w.t.Helper()
	for _, l := range w.dispatcher.Lanes(context.Background()) {
		if l.Trigger == "default/"+name {
			return l
		}
	}
	w.t.Fatalf("no lane for %s", name)
	return dispatch.LaneStatus{}
}

// letters are the dead letters kept for a trigger.
func (w *world) letters(name string) []channel.DeadLetter {
	w.t.Helper()
	log, _ := w.dispatcher.Log(brokerUID)
	letters, _, err := log.Dead(context.Background(), channel.UID("t-"+name), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	return letters
}

// receipt is one request that a subscriber got.
type receipt struct {
	id     string
	at     time.Duration // since the story began
	header http.Header
	body   string
}

// subscriber answers with what its function says and remembers what it got.
type subscriber struct {
	w      *world
	answer func(n int, r receipt, rw http.ResponseWriter)

	mu   sync.Mutex
	got  []receipt
	open int
	most int
}

// subscribe puts a subscriber on the network. The nil answer is 200, empty.
func (w *world) subscribe(host string, answer func(n int, r receipt, rw http.ResponseWriter)) *subscriber {
	s := &subscriber{w: w, answer: answer}
	w.net.Serve(w.t, host, s)
	return s
}

func (s *subscriber) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	s.mu.Lock()
	r := receipt{id: req.Header.Get("Ce-Id"), at: time.Since(s.w.start), header: req.Header.Clone(), body: string(body)}
	s.got = append(s.got, r)
	n := len(s.got)
	s.open++
	s.most = max(s.most, s.open)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	if s.answer != nil {
		s.answer(n, r, rw)
	}
}

func (s *subscriber) receipts() []receipt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]receipt(nil), s.got...)
}

func (s *subscriber) count() int { return len(s.receipts()) }

func status(code int) func(int, receipt, http.ResponseWriter) {
	return func(_ int, _ receipt, rw http.ResponseWriter) { rw.WriteHeader(code) }
}

// hang keeps a request until the story ends.
func hang(d time.Duration) func(int, receipt, http.ResponseWriter) {
	return func(int, receipt, http.ResponseWriter) { time.Sleep(d) }
}

// after lets virtual time pass until everything waits, then d more.
func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func one(e event.Event) []event.Event { return []event.Event{e} }
