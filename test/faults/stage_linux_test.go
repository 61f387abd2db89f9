package faults

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
)

// The Triggers of a stage. Late is the one that matters: what it refuses at
// first is still to be there after the fault.
const (
	everything = "default/everything" // takes what comes
	late       = "default/late"       // refuses what is not yet released
	refused    = "default/refused"    // a few, all of which end as dead letters when it is time
)

var triggers = []history.Trigger{
	{Name: everything, Policy: deliver.Policy{Retry: 20, Backoff: deliver.Linear, Delay: 100 * time.Millisecond, BackoffMax: time.Second}},
	{Name: late, Policy: deliver.Policy{Retry: 1000, Backoff: deliver.Linear, Delay: 500 * time.Millisecond, BackoffMax: time.Second}},
	{Name: refused, Filter: filter.Spec{Filters: []filter.Dialect{{Exact: map[string]string{"type": "d", "colour": "red", "subject": "apple"}}}},
		Policy: deliver.Policy{Retry: 1000, Backoff: deliver.Linear, Delay: 500 * time.Millisecond, BackoffMax: time.Second}},
}

// generation is the extension attribute that events are released by.
const generation = "generation"

// stage is one broker with its senders and subscribers, and the history of all.
type stage struct {
	*history.Recorder
	t       *testing.T
	b       *broker.Broker
	o       broker.Options
	path    string // of the history
	sender  *history.Sender
	number  int64 // of the incarnation
	made    atomic.Int64
	held    atomic.Int64 // events of this generation and later are refused by late
	dying   atomic.Bool  // what refused gets is dead at once; before, it is to come again
	pad     atomic.Int64 // bytes of data that events have besides their own
	answers [600]atomic.Int64
	told    bool

	resident int64 // bytes, the most that look has seen

	// broken, where it is set, names what must never be acknowledged again once
	// an answer of 500 or 503 has come: from that answer on, in this incarnation.
	broken atomic.Pointer[string]

	senders sync.WaitGroup
	cancel  context.CancelFunc
}

// newStage starts a broker and its subscribers. The history lies on the
// system's temporary folder, not on what is going to break.
func newStage(t *testing.T, rules history.Rules, o broker.Options) *stage {
	t.Helper()
	dir := t.TempDir()
	s := &stage{t: t, path: filepath.Join(dir, "history.jsonl"), cancel: func() {}}
	file, err := os.Create(s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if rules.Slack == 0 {
		rules.Slack = history.MachineSlack
	}
	s.Recorder = history.NewRecorder(file, rules, nil)
	if o.Binary == "" {
		o.Binary = penstock
	}
	o.Files = []string{filepath.Join(dir, "triggers.yaml")}
	if err := os.WriteFile(o.Files[0], []byte(s.subscribe()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.o = o
	inForce := s.Routes("default/default", triggers)
	s.number++
	s.Incarnation(s.number, 0)
	s.b = broker.Start(t, o)
	inForce()
	s.sender = &history.Sender{
		Recorder: s.Recorder, URL: s.b.Default(), Broker: "default/default",
		Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1024}},
	}
	t.Cleanup(s.quiet)
	t.Cleanup(s.tell)
	return s
}

// tell says how things stood when the test failed.
func (s *stage) tell() {
	if !s.t.Failed() || s.told {
		return
	}
	s.told = true
	counts := make(map[int]int64)
	for code := range s.answers {
		if n := s.answers[code].Load(); n > 0 {
			counts[code] = n
		}
	}
	code, text := s.b.Probe("/api/v1/brokers", 5*time.Second)
	if code == 0 {
		s.b.Quit() // it hangs: the log gets the stacks of its goroutines
	}
	s.t.Logf("answers by status: %v\n/api/v1/brokers: %d %s\nlog of the broker:\n%s", counts, code, text, s.b.Log())
}

// subscribe starts the subscribers and returns their Triggers as YAML.
func (s *stage) subscribe() string {
	s.t.Helper()
	mux := http.NewServeMux()
	for _, tr := range triggers {
		mux.Handle("/"+tr.Name, s.Subscriber(tr.Name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(s.verdict(tr.Name, r))
		})))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	s.t.Cleanup(func() {
		_ = server.Close()
		<-served
	})
	var yaml strings.Builder
	for _, tr := range triggers {
		fmt.Fprintf(&yaml, "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: %s\n  annotations: {penstock.dev/backoff-max: %v}\nspec:\n  broker: default\n",
			strings.TrimPrefix(tr.Name, "default/"), tr.Policy.BackoffMax)
		if len(tr.Filter.Filters) > 0 {
			exact := tr.Filter.Filters[0].Exact
			fmt.Fprintf(&yaml, "  filters: [{exact: {type: %s, colour: %s, subject: %s}}]\n", exact["type"], exact["colour"], exact["subject"])
		}
		fmt.Fprintf(&yaml, "  subscriber: {uri: \"http://%s/%s\"}\n", ln.Addr(), tr.Name)
		fmt.Fprintf(&yaml, "  delivery: {retry: %d, backoffPolicy: linear, backoffDelay: PT%vS}\n", tr.Policy.Retry, tr.Policy.Delay.Seconds())
	}
	return yaml.String()
}

func (s *stage) verdict(trigger string, r *http.Request) int {
	switch trigger {
	case late:
		if n, err := strconv.ParseInt(r.Header.Get("Ce-"+generation), 10, 64); err != nil || n >= s.held.Load() {
			return http.StatusServiceUnavailable
		}
	case refused:
		if !s.dying.Load() {
			return http.StatusServiceUnavailable
		}
		return http.StatusUnprocessableEntity
	}
	return http.StatusNoContent
}

// event makes the next event, of the newest generation.
func (s *stage) event(rng *rand.Rand) history.Event {
	e := history.NewEvent(rng).With(generation, strconv.FormatInt(s.made.Load(), 10))
	if pad := s.pad.Load(); pad > 0 {
		e.Data = append(e.Data, bytes.Repeat(e.Data[:1], int(pad))...)
	}
	return e
}

// release lets late have all that was made so far.
func (s *stage) release() { s.held.Store(s.made.Add(1)) }

// load sends from n more senders at once until quiet, each one event after the
// other. Who is refused waits a little.
func (s *stage) load(n int) {
	ctx, cancel := context.WithCancel(s.t.Context())
	others := s.cancel
	s.cancel = func() { others(); cancel() }
	for range n {
		s.senders.Go(func() {
			rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
			for ctx.Err() == nil {
				if s.send(ctx, rng) != http.StatusAccepted {
					pause(ctx, 5*time.Millisecond)
				}
			}
		})
	}
}

// send sends one event and returns the status, 0 where no answer came.
func (s *stage) send(ctx context.Context, rng *rand.Rand) int {
	return s.sendEvent(ctx, s.event(rng))
}

func (s *stage) sendEvent(ctx context.Context, e history.Event) int {
	code := s.sender.Send(context.WithoutCancel(ctx), e)
	if code == http.StatusInternalServerError || code == http.StatusServiceUnavailable {
		if broken := s.broken.Swap(nil); broken != nil {
			s.Fault(history.SyncError, *broken)
		}
	}
	s.answers[code].Add(1)
	return code
}

// accepted is how many events have been acknowledged.
func (s *stage) accepted() int64 { return s.answers[http.StatusAccepted].Load() }

// more waits until n more events have been acknowledged.
func (s *stage) more(n int64) {
	s.t.Helper()
	want := s.accepted() + n
	broker.Await(s.t, fmt.Sprintf("%d more events are acknowledged", n), func() bool { return s.accepted() >= want })
}

// answered waits for an answer with this status that is yet to come.
func (s *stage) answered(code int) {
	s.t.Helper()
	before := s.answers[code].Load()
	broker.Await(s.t, fmt.Sprintf("an answer %d", code), func() bool { return s.answers[code].Load() > before })
}

// look samples the process.
func (s *stage) look() {
	s.t.Helper()
	now := history.Sample{RSS: resident(s.t, s.b.PID()), FDs: descriptors(s.t, s.b.PID())}
	s.resident = max(s.resident, now.RSS)
	s.Sample(now)
}

// resident is the memory of a process in bytes, 0 once it has ended.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	for line := range strings.Lines(kernelFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// quiet ends the load.
func (s *stage) quiet() {
	s.cancel()
	s.senders.Wait()
}

// pause waits, but not for longer than ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// restart starts the next incarnation.
func (s *stage) restart() {
	s.t.Helper()
	if err := s.tryRestart(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) tryRestart() error {
	s.number++
	s.Incarnation(s.number, 0)
	err := s.b.TryRestart()
	s.t.Cleanup(s.tell) // before this process is ended
	return err
}

// finish waits until all is delivered or dead, and judges the history.
func (s *stage) finish() *history.Verdict {
	s.t.Helper()
	s.quiet()
	s.release()
	s.dying.Store(true)
	s.b.AwaitSettled("everything", "late", "refused")
	if err := s.Collect(s.t.Context(), s.b.API); err != nil {
		s.t.Fatal(err)
	}
	v := s.judge()
	if err := v.Err(); err != nil {
		s.keep()
		s.t.Error(err)
	}
	return v
}

// judge has the history checked as far as it goes.
func (s *stage) judge() *history.Verdict {
	s.t.Helper()
	if err := s.Close(); err != nil {
		s.t.Fatal(err)
	}
	file, err := os.Open(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer file.Close()
	v, err := history.Check(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

// keep saves the history of a failed test from being removed with its folder.
func (s *stage) keep() {
	file, err := os.CreateTemp("", "penstock-history-*.jsonl")
	if err != nil {
		s.t.Error(err)
		return
	}
	defer file.Close()
	text, err := os.ReadFile(s.path)
	if err == nil {
		_, err = file.Write(text)
	}
	s.t.Logf("the history is kept as %s: %v", file.Name(), err)
}
