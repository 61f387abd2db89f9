package overload

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
)

// The whole account of an overload, single events and batches, with
// subscribers that take, fail now and then, and fail always: judged by the
// checker, which also holds retries, dead letters and counters to the rules.
func TestTheHistoryOfAnOverloadKeepsEveryPromise(t *testing.T) {
	const rate = 50
	file, err := os.Create(filepath.Join(t.ArtifactDir(), "history.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rec := history.NewRecorder(file, history.Rules{Slack: history.MachineSlack, MaxRSS: memoryLimit}, nil)

	var n int
	var mu sync.Mutex
	retries := deliver.Policy{Retry: 10, Delay: 50 * time.Millisecond}
	twice := deliver.Policy{Retry: 2, Delay: 100 * time.Millisecond, Backoff: deliver.Linear}
	subscribers := map[string]http.HandlerFunc{
		"taking": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) },
		"flaky": func(w http.ResponseWriter, _ *http.Request) {
			mu.Lock()
			n++
			third := n%3 == 0
			mu.Unlock()
			if third {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		},
		"down": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	}
	mux := http.NewServeMux()
	for name, h := range subscribers {
		mux.Handle("/"+name, rec.Subscriber("default/"+name, h))
	}
	address, ln := listen(t)
	url := "http://" + address
	stop := serveHTTP(ln, mux)
	defer stop()

	objects := filepath.Join(t.TempDir(), "objects.yaml")
	write(t, objects, brokerYAML("limited", "rate: 50/s")+
		triggerYAML("taking", "limited", url+"/taking", "delivery: {retry: 10, backoffDelay: PT0.05S}")+
		triggerYAML("flaky", "limited", url+"/flaky", "delivery: {retry: 10, backoffDelay: PT0.05S}")+
		triggerYAML("down", "limited", url+"/down", "delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT0.1S}"))
	inForce := rec.Routes("default/limited", []history.Trigger{
		{Name: "default/taking", Policy: retries}, {Name: "default/flaky", Policy: retries}, {Name: "default/down", Policy: twice},
	})
	rec.Incarnation(1, 0)
	w := &world{t: t, Broker: broker.Start(t, broker.Options{Binary: penstock, Files: []string{objects}})}
	inForce()

	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	defer client.CloseIdleConnections()
	sender := &history.Sender{Recorder: rec, Client: client, URL: w.URL("default", "limited"), Broker: "default/limited", Timeout: broker.Patience}
	seed := proof.Seed(t)
	rng := proof.Rand(seed, 0)
	next := func() history.Event {
		mu.Lock()
		defer mu.Unlock()
		return history.NewEvent(rng)
	}
	load := &history.Load{Rate: times * rate * 0.8, Next: next, Send: sender.Send}
	loadOfBatches := &history.Load{ // a batch of ten weighs as much as ten: a fifth of what is offered
		Rate: times * rate * 0.2 / 10, Next: next,
		Send: func(ctx context.Context, e history.Event) int {
			events := []history.Event{e}
			for len(events) < 10 {
				events = append(events, next())
			}
			return sender.SendBatch(ctx, events...)
		},
	}
	over, memory := rec.Fault(history.Overload, ""), w.memory()
	ctx, cancel := context.WithTimeout(t.Context(), span(4*time.Second, time.Second))
	defer cancel()
	var loads sync.WaitGroup
	loads.Go(func() { load.Run(ctx) })
	loads.Go(func() { loadOfBatches.Run(ctx) })
	loads.Wait()
	rec.Sample(history.Sample{RSS: memory().most})
	over()

	w.AwaitSettled("taking", "flaky", "down")
	if err := rec.Collect(t.Context(), w.API); err != nil {
		t.Fatal(err)
	}
	w.Kill()
	if err := rec.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	v, err := history.Check(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%v", v)
	if err := v.Err(); err != nil {
		t.Errorf("to keep the history: go test -artifacts; then go run ./test/history/check FILE\n%v", err)
	}
	if f := v.Figures; f.Refused == 0 || f.Acked == 0 || f.Dead == 0 || f.Duplicates > 0 || f.Indeterminate > 0 {
		t.Errorf("figures are %+v; want some accepted, refused and dead, and nothing twice", f)
	}
}

// serveHTTP serves until the func that it returns has returned.
func serveHTTP(ln net.Listener, h http.Handler) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	return func() {
		_ = server.Close()
		<-served
	}
}
