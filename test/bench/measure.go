package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/penstock-events/penstock/test/bench/flush"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/tally"
)

const (
	// recordSize is about what an event of eventSize takes in the log, its
	// attributes and its frame included.
	recordSize = 1_250

	idleStarts  = 10
	idleSettle  = 3 * time.Second // after the start, before a process counts as idle
	idleWatched = 10 * time.Second

	readyLimit = 30 * time.Second
)

// measureFlush is what one flush takes on this disk, now, with nothing around it.
func measureFlush(_ context.Context, b *bench, _ system, p plan) ([]sample, error) {
	dir, err := os.MkdirTemp(b.dir, "flush-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var took tally.Histogram
	if err := flush.Measure(filepath.Join(dir, "flush"), p.events, recordSize, &took); err != nil {
		return nil, err
	}
	return []sample{{accept: quantiles{took.Quantile(0.5), took.Quantile(0.99)}, accepted: took.Count()}}, nil
}

// measurePending fills a broker whose one subscriber is gone, and says what each
// event that waits keeps resident. Every accepted event must be pending.
func measurePending(ctx context.Context, b *bench, sys system, p plan) ([]sample, error) {
	sys.start = startPenstock([]trigger{{name: "dead", url: nobody, retry: deadRetry}}, "--memory")
	t, end, err := b.begin(ctx, sys)
	if err != nil {
		return nil, err
	}
	defer end()
	send := load.Options{
		Address: t.address, Path: ingressPath, Connections: p.connections, Size: eventSize, Events: p.warm, Duration: time.Minute,
	}
	warm, err := b.pass(ctx, sys.name, t, outlets{}, send)
	if err != nil {
		return nil, fmt.Errorf("warm-up: %w", err)
	}
	before, _ := t.memory()
	send.Events, send.FirstID = p.events, uint64(p.warm)
	s, err := b.pass(ctx, sys.name, t, outlets{}, send)
	if err != nil {
		return nil, err
	}
	after, _ := t.memory()
	pending, err := pendingEvents(ctx, t.metrics, "dead")
	if err != nil {
		return nil, err
	}
	if pending != warm.accepted+s.accepted {
		return nil, &voidError{fmt.Sprintf("%s: %d events accepted, %d pending", sys.name, warm.accepted+s.accepted, pending)}
	}
	if refused := warm.refused + s.refused; refused > 0 {
		return nil, &voidError{fmt.Sprintf("%s: %d events refused: fewer wait than are to", sys.name, refused)}
	}
	s.perPending = float64(after-before) / float64(s.accepted)
	return []sample{s}, nil
}

// idle is what a broker costs that has nothing to do.
type idle struct {
	ready    time.Duration // from its start
	resident int64
	binary   int64
	wakeups  float64 // a second, of all its threads
}

// measureIdle starts a few brokers one after the other, lets them settle, and
// watches all of them at once.
func measureIdle(ctx context.Context, b *bench, sys system, _ plan) (samples []sample, err error) {
	file, err := os.Stat(b.penstock)
	if err != nil {
		return nil, err
	}
	var all []*target
	for range idleStarts {
		var ready time.Duration
		sys.start = func(ctx context.Context, b *bench, dir string) (t *target, err error) {
			t, ready, err = b.startPlain(ctx, dir)
			return t, err
		}
		t, end, err := b.begin(ctx, sys)
		if err != nil {
			return nil, err
		}
		defer end()
		all = append(all, t)
		samples = append(samples, sample{idle: idle{ready: ready, binary: file.Size()}})
	}
	if err := wait(ctx, idleSettle); err != nil {
		return nil, err
	}
	switches := make([]uint64, len(all))
	for i, t := range all {
		switches[i] = t.switches()
	}
	begin := time.Now()
	if err := wait(ctx, idleWatched); err != nil {
		return nil, err
	}
	for i, t := range all {
		woken := float64(int64(t.switches()) - int64(switches[i])) // less if a thread has ended
		if err := t.alive(); err != nil {
			return nil, err
		}
		samples[i].idle.wakeups = woken / time.Since(begin).Seconds()
		samples[i].idle.resident, samples[i].peak = t.memory()
	}
	return samples, nil
}

// startPlain is `penstock serve` with nothing but addresses and a folder, and
// how long it takes to say that it is ready.
func (b *bench) startPlain(ctx context.Context, dir string) (*target, time.Duration, error) {
	var ports [3]string
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, 0, err
		}
	}
	begin := time.Now()
	p, err := start("penstock", dir, b.penstock, "serve", "--data", filepath.Join(dir, "data"),
		"--listen", ports[0], "--api-listen", ports[1], "--metrics-listen", ports[2])
	if err != nil {
		return nil, 0, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // a kept connection would be something to do
	err = p.poll(ctx, time.Millisecond, readyLimit, "become ready", func() bool {
		resp, err := client.Get("http://" + ports[1] + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err != nil {
		p.stop()
		return nil, 0, err
	}
	return &target{process: p, address: ports[0]}, time.Since(begin), nil
}

// switches is how often a thread of the process has gone to sleep of its own
// accord, and so been woken: in all threads that live.
func (p *process) switches() (n uint64) {
	for _, pid := range p.family() {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*/status", pid))
		for _, name := range threads {
			status, _ := os.ReadFile(name)
			_, rest, _ := bytes.Cut(status, []byte("\nvoluntary_ctxt_switches:"))
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			v, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
			n += v
		}
	}
	return n
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
