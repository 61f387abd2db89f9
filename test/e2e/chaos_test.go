package e2e

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/filter"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
)

// chaos is a broker with Triggers of every temper and a load that does not
// wait for it, all of it recorded.
type chaos struct {
	t      *testing.T
	rec    *history.Recorder
	file   *os.File // the history
	yaml   string   // path of the Triggers
	b      *broker.Broker
	life   int64
	load   *history.Load
	cancel context.CancelFunc
	loaded sync.WaitGroup
	close  func() // ends everything; more than once is fine
}

// temper is a Trigger and what its subscriber is like.
type temper struct {
	name     string
	filters  string // YAML
	spec     []filter.Dialect
	delivery string // YAML
	policy   deliver.Policy
	ordered  bool // penstock.dev/order: key
	answer   func(w http.ResponseWriter, r *http.Request)
}

func tempers() []temper {
	defaults := deliver.Policy{Retry: 10, Delay: 200 * time.Millisecond}
	taken := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	typeIs := func(typ string) []filter.Dialect { return []filter.Dialect{{Exact: map[string]string{"type": typ}}} }
	return []temper{
		{name: "healthy", policy: defaults, answer: taken},
		{name: "only-a", filters: "[{exact: {type: a}}]", spec: typeIs("a"), policy: defaults, answer: taken},
		{name: "edited", filters: "[{exact: {type: b}}]", spec: typeIs("b"), policy: defaults, answer: taken},
		{name: "flaky", delivery: "{retry: 8, backoffPolicy: exponential, backoffDelay: PT0.05S}",
			policy: deliver.Policy{Retry: 8, Delay: 50 * time.Millisecond},
			answer: func(w http.ResponseWriter, _ *http.Request) {
				code := []int{503, 500, 404, 200, 200, 200, 200, 202, 204, 299}[rand.IntN(10)]
				if code == http.StatusServiceUnavailable {
					w.Header().Set("Retry-After", "1")
				}
				w.WriteHeader(code)
			}},
		{name: "ordered", filters: "[{exact: {type: a}}]", spec: typeIs("a"), ordered: true,
			delivery: "{retry: 8, backoffPolicy: exponential, backoffDelay: PT0.05S}", policy: deliver.Policy{Retry: 8, Delay: 50 * time.Millisecond},
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader([]int{500, 200, 200, 200, 204, 299, 202, 200, 200, 200}[rand.IntN(10)])
			}},
		{name: "down", delivery: "{retry: 2, backoffPolicy: linear, backoffDelay: PT0.1S}",
			policy: deliver.Policy{Retry: 2, Delay: 100 * time.Millisecond, Backoff: deliver.Linear},
			answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{name: "strict", filters: "[{not: {exact: {type: a}}}]", spec: []filter.Dialect{{Not: &typeIs("a")[0]}}, policy: defaults,
			answer: func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Ce-Type") == "c" {
					w.WriteHeader(http.StatusUnprocessableEntity) // final
				}
			}},
		{name: "slow", filters: "[{prefix: {source: /history/o}}]", spec: []filter.Dialect{{Prefix: map[string]string{"source": "/history/o"}}},
			policy: defaults,
			answer: func(w http.ResponseWriter, r *http.Request) {
				late := time.NewTimer(time.Duration(20+rand.IntN(150)) * time.Millisecond)
				defer late.Stop()
				select {
				case <-late.C:
				case <-r.Context().Done():
				}
			}},
	}
}

// startChaos starts it all. The load goes on until finish.
func startChaos(t *testing.T, rate float64) *chaos {
	t.Helper()
	file, err := os.Create(filepath.Join(t.ArtifactDir(), "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	c := &chaos{t: t, file: file, rec: history.NewRecorder(file, history.Rules{Slack: 20 * time.Millisecond}, nil)}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, s := range tempers() {
		mux.Handle("/"+s.name, c.rec.Subscriber("default/"+s.name, http.HandlerFunc(s.answer)))
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	c.cancel = cancel
	c.close = sync.OnceFunc(func() {
		cancel()
		c.loaded.Wait()
		client.CloseIdleConnections()
		_ = server.Close()
		<-served
		_ = file.Close()
	})
	t.Cleanup(c.close)

	c.yaml = filepath.Join(t.TempDir(), "chaos.yaml")
	inForce := c.configure("http://"+ln.Addr().String(), "b")
	c.life = 1
	c.rec.Incarnation(1, 0)
	c.b = start(t, c.yaml)
	inForce()

	sender := &history.Sender{Recorder: c.rec, Client: client, URL: c.b.Default(), Broker: "default/default", Timeout: 3 * time.Second}
	rng, n := rand.New(rand.NewPCG(rand.Uint64(), 0)), 0
	c.load = &history.Load{Rate: rate, Send: sender.Send, Next: func() history.Event {
		e := history.NewEvent(rng)
		if n++; n%50 == 0 {
			delete(e.Attrs, "source") // no event: 400
		}
		return e
	}}
	c.loaded.Go(func() { c.load.Run(ctx) })
	beside := t.TempDir()
	c.loaded.Go(func() {
		if err := c.rec.Metronome(ctx, beside); err != nil {
			t.Error(err)
		}
	})
	return c
}

// configure writes the Triggers; the one named edited wants events of a type.
func (c *chaos) configure(subscribers, edited string) (inForce func()) {
	var text strings.Builder
	var set []history.Trigger
	for _, s := range tempers() {
		if s.name == "edited" {
			s.filters = "[{exact: {type: " + edited + "}}]"
			s.spec = []filter.Dialect{{Exact: map[string]string{"type": edited}}}
		}
		one := trigger(s.name, s.filters, subscribers+"/"+s.name, s.delivery)
		if s.ordered {
			one = strings.Replace(one, "metadata: {", "metadata: {annotations: {penstock.dev/order: key}, ", 1)
		}
		text.WriteString(one)
		set = append(set, history.Trigger{Name: "default/" + s.name, Filter: filter.Spec{Filters: s.spec}, Policy: s.policy, Ordered: s.ordered})
	}
	inForce = c.rec.Routes("default/default", set)
	write(c.t, c.yaml, text.String())
	return inForce
}

// edit changes a filter while events flow.
func (c *chaos) edit(typ string) {
	c.t.Helper()
	subscriber := strings.TrimSuffix(c.b.Trigger("edited").Subscriber, "/edited")
	inForce := c.configure(subscriber, typ)
	broker.Await(c.t, "the edit is in force", func() bool {
		tr := c.b.Trigger("edited")
		return tr.Ready && strings.Contains(string(tr.Filter), `"`+typ+`"`)
	})
	inForce()
}

// more waits until n more events have been accepted.
func (c *chaos) more(n int) {
	c.t.Helper()
	accepted := func() int {
		n, _, _ := c.load.Counts()
		return int(n)
	}
	from := accepted()
	broker.Await(c.t, "more events are accepted", func() bool { return accepted() >= from+n })
}

// end ends the process in the way of a kind of fault, and starts the next.
func (c *chaos) end(kind history.Kind) {
	c.t.Helper()
	c.rec.Fault(kind, "")
	if kind == history.Stop {
		if code := c.b.Stop(); code != 0 {
			c.t.Errorf("exit code is %d\n%s", code, c.b.Log())
		}
	} else {
		c.b.Kill()
	}
	c.life++
	c.rec.Incarnation(c.life, 0)
	c.b.Restart()
}

// finish ends the load, waits until nothing is pending, and has the history
// judged.
func (c *chaos) finish() *history.Verdict {
	c.t.Helper()
	c.cancel()
	c.loaded.Wait()
	var names []string
	for _, s := range tempers() {
		names = append(names, s.name)
	}
	c.b.AwaitSettled(names...)
	if err := c.rec.Collect(c.t.Context(), c.b.API); err != nil {
		c.t.Fatal(err)
	}
	c.b.Kill()
	if err := c.rec.Close(); err != nil {
		c.t.Fatal(err)
	}
	c.close()
	v, err := history.Check(bytes.NewReader(c.text()))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Logf("\n%v", v)
	if err := v.Err(); err != nil {
		c.t.Errorf("to keep the history: go test -artifacts; then go run ./test/history/check FILE\n%v", err)
	}
	if _, _, left := c.load.Counts(); left > 0 {
		c.t.Logf("%d events were left out: too many under way", left)
	}
	if err := os.RemoveAll(c.b.Data); err != nil { // a soak makes many
		c.t.Fatal(err)
	}
	return v
}

func (c *chaos) text() []byte {
	c.t.Helper()
	text, err := os.ReadFile(c.file.Name())
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}
