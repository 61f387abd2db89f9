package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/sink"
	"github.com/penstock-events/penstock/test/bench/tally"
	"github.com/penstock-events/penstock/test/bench/wire"
)

const (
	// boundBacklog is the resident memory of the broker at any time, and aimBacklog
	// what it should be.
	boundBacklog = 96 << 20
	aimBacklog   = 48 << 20

	// aimFirst is from the start of the process to the first 202.
	aimFirst = 200 * time.Millisecond

	backlogRate = 500 // events a second while latency is measured

	// A run may take a quarter of an hour, and a millisecond more for each event.
	backlogLimit = 15 * time.Minute
	perEvent     = time.Millisecond

	// atRest is how long the memory of a broker that has nothing to do is watched.
	atRest = 5 * time.Second

	// deadRetry outlasts the run: nothing becomes a dead letter, everything stays pending.
	deadRetry = 1 << 20

	// bothProbes outlasts the longest pause of an open circuit between two probes.
	bothProbes = 60 * time.Second
)

// backlogCommand shows what subscribers that are gone cost: the broker's memory
// while their events wait, how long a restart takes, the latency of a trigger
// beside them, and that everything is delivered when they come back.
func backlogCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("backlog", flag.ContinueOnError)
	o := backlogOptions{}
	flags.IntVar(&o.events, "events", 1_000_000, "events that are to wait")
	flags.IntVar(&o.triggers, "triggers", 100, "triggers that they wait for")
	flags.BoolVar(&o.all, "all", false, "every trigger wants every event, and not each event one of them in turn")
	if err := parse(flags, args); err != nil {
		return err
	}
	if o.events < 1 || o.triggers < 1 || o.triggers >= wire.MaxTypes {
		return fmt.Errorf("%w: want at least one event and 1 to %d triggers", errUsage, wire.MaxTypes-1)
	}
	ctx, cancel := context.WithTimeout(ctx, o.limit())
	defer cancel()
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	return b.backlog(ctx, o, out)
}

type backlogOptions struct {
	events, triggers int
	all              bool
}

// pending is how many deliveries the events come to.
func (o *backlogOptions) pending() int {
	if o.all {
		return o.events * o.triggers
	}
	return o.events
}

func (o *backlogOptions) limit() time.Duration {
	return backlogLimit + time.Duration(o.pending())*perEvent
}

// path is where a trigger's events go.
func (o *backlogOptions) path(n int) string {
	if o.all {
		return fmt.Sprintf("/t%05d", n)
	}
	return "/backlog"
}

// paths are those at which every event is to come.
func (o *backlogOptions) paths() []string {
	all := make([]string, o.triggers)
	for i := range all {
		all[i] = o.path(i)
	}
	return slices.Compact(all)
}

// backlogRun is one run.
type backlogRun struct {
	*bench
	backlogOptions
	dir    string
	target *target
	args   []string // of penstock serve
	gone   string   // where the subscribers were
	rss    *residence
	next   uint64 // id of the next event
}

func (b *bench) backlog(ctx context.Context, o backlogOptions, out io.Writer) (err error) {
	r := &backlogRun{bench: b, backlogOptions: o, rss: &residence{}}
	if r.dir, err = os.MkdirTemp(b.dir, "backlog-"); err != nil {
		return err
	}
	if err := r.configure(); err != nil {
		return err
	}
	began := time.Now()
	if err := r.serve(); err != nil {
		return err
	}
	defer func() { r.target.stop() }()
	defer r.rss.watch()()
	wants := "each event is wanted by one of them in turn"
	if o.all {
		wants = "every event is wanted by all of them"
	}
	fmt.Fprintf(out, "%s.\nOne broker on disk, %s triggers whose subscribers refuse connections, %s; another trigger beside them.\n\n",
		thisMachine(r.dir), thousands(o.triggers), wants)
	if err := r.first202(ctx); err != nil {
		return err
	}

	r.rss.phase("before")
	before, err := r.beside(ctx, "before the backlog")
	if err != nil {
		return err
	}
	r.rss.phase("filling")
	fill, accepted, used, err := r.fill(ctx)
	if err != nil {
		return err
	}
	r.rss.phase("at rest")
	if err := r.rested(ctx); err != nil {
		return err
	}
	after, err := r.beside(ctx, "beside the backlog")
	if err != nil {
		return err
	}
	r.rss.phase("after a stop")
	stopping := time.Now()
	r.target.stop()
	stopped := time.Since(stopping)
	clean, err := r.restart(ctx)
	if err != nil {
		return err
	}
	r.rss.phase("after kill -9")
	if err := r.target.cmd.Process.Kill(); err != nil {
		return err
	}
	<-r.target.ended
	killed, err := r.restart(ctx)
	if err != nil {
		return err
	}
	r.rss.phase("draining")
	d, err := r.drain(ctx, accepted)
	if err != nil {
		return err
	}
	r.rss.phase("empty")
	if err := sleep(ctx, atRest); err != nil {
		return err
	}

	fmt.Fprintf(out, "%-34s%12s%12s\n", "resident memory, MiB", "at most", "at the end")
	for _, p := range r.rss.phases() {
		fmt.Fprintf(out, "  %-32s%12d%12d\n", p.name, p.most>>20, p.last>>20)
	}
	most := r.rss.most()
	fmt.Fprintf(out, "  %-32s%12d  bound %d: %s, aim %d: %s\n\n", "at any time", most>>20,
		boundBacklog>>20, verdict(most <= boundBacklog), aimBacklog>>20, verdict(most <= aimBacklog))
	fmt.Fprintf(out, "filling      %s events of %d bytes, %s pending, %s events/s, %.1f µs of processor time each\n",
		thousands(int(fill.Accepted)), eventSize, thousands(o.pending()), thousands(int(float64(fill.Accepted)/fill.Elapsed.Seconds())), float64(used.Microseconds())/float64(fill.Accepted))
	fmt.Fprintf(out, "restart      first 202 after %d ms (stopped in %d ms), after kill -9 %d ms; aim %d: %s\n", clean.Milliseconds(), stopped.Milliseconds(), killed.Milliseconds(),
		aimFirst.Milliseconds(), verdict(max(clean, killed) <= aimFirst))
	fmt.Fprintf(out, "draining     all %s came, %s of them again; %s/s, in its slowest and fastest tenth %s/s and %s/s, %.1f µs of processor time each\n",
		thousands(o.pending()), thousands(int(d.duplicates)), thousands(d.perSecond), thousands(d.slowest), thousands(d.fastest), d.cpu)
	fmt.Fprintf(out, "beside them  at %d/s p50 %s ms, p99 %s ms before the backlog, p50 %s ms, p99 %s ms with it\n", backlogRate,
		ms(before.endToEnd.p50), ms(before.endToEnd.p99), ms(after.endToEnd.p50), ms(after.endToEnd.p99))
	fmt.Fprintf(out, "\nThe run took %v.\n", time.Since(began).Round(time.Second))
	return nil
}

func verdict(holds bool) string {
	if holds {
		return "holds"
	}
	return "missed"
}

// configure writes the triggers and chooses the ports, which stay over restarts.
func (r *backlogRun) configure() (err error) {
	if r.gone, err = freePort(); err != nil {
		return err
	}
	var text strings.Builder
	text.WriteString(trigger{name: "healthy", eventType: wire.TypeName(r.triggers), path: pathOne}.yaml(r.sink.url("")))
	for i := range r.triggers {
		t := trigger{name: fmt.Sprintf("gone-%05d", i), eventType: wire.TypeName(i), url: "http://" + r.gone + r.path(i), retry: deadRetry}
		doc := t.yaml("")
		if r.all { // the healthy one's and the first 202's apart
			doc = strings.Replace(doc, "filter: {attributes: {type: "+t.eventType+"}}", "filter: {attributes: {type: "+wire.TypeName(0)+"}}", 1)
		}
		text.WriteString(doc)
	}
	config := filepath.Join(r.dir, "triggers.yaml")
	if err := os.WriteFile(config, []byte(text.String()), 0o644); err != nil {
		return err
	}
	var ports [3]string
	for i := range ports {
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	r.target = &target{address: ports[0], api: "http://" + ports[1], metrics: "http://" + ports[2] + "/metrics"}
	r.args = []string{"serve", "-f", config, "--data", filepath.Join(r.dir, "data"), "--log-level", "error",
		"--listen", ports[0], "--api-listen", ports[1], "--metrics-listen", ports[2]}
	return nil
}

// serve starts the broker and waits for nothing.
func (r *backlogRun) serve() (err error) {
	if r.target.process, err = start("penstock", r.dir, r.penstock, r.args...); err == nil {
		r.rss.of(r.target.cmd.Process.Pid)
	}
	return err
}

// restart starts the broker again and reports how long it took to its first 202.
func (r *backlogRun) restart(ctx context.Context) (first time.Duration, err error) {
	begin := time.Now()
	if err := r.serve(); err != nil {
		return 0, err
	}
	if err := r.first202(ctx); err != nil {
		return 0, err
	}
	first = time.Since(begin)
	return first, r.rested(ctx)
}

// first202 posts an event that the healthy trigger wants until it is taken.
func (r *backlogRun) first202(ctx context.Context) error {
	return r.target.until(ctx, time.Minute, "accept an event", func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+r.target.address+ingressPath, strings.NewReader("{}"))
		if err != nil {
			return false
		}
		req.Header = http.Header{
			"Ce-Specversion": {"1.0"}, "Ce-Source": {"/bench"}, "Ce-Type": {wire.TypeName(r.triggers)}, "Content-Type": {"application/json"},
			"Ce-Id": {strconv.FormatUint(r.next, 10)}, "Ce-Sentns": {strconv.FormatInt(time.Now().UnixNano(), 10)},
		}
		r.next++
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusAccepted
	})
}

// beside measures the trigger that gets what it wants.
func (r *backlogRun) beside(ctx context.Context, what string) (sample, error) {
	if err := sleep(ctx, time.Second); err != nil { // what came before is delivered
		return sample{}, err
	}
	const events = 10 * backlogRate
	s, err := r.pass(ctx, what, r.target, only(pathOne), load.Options{
		Address: r.target.address, Path: ingressPath, Connections: connections, Size: eventSize,
		Events: events, Rate: backlogRate, FirstID: r.next, FirstType: r.triggers, Duration: r.limit(),
	})
	r.next += events
	return s, err
}

// fill sends the events that are to wait, in a closed loop.
func (r *backlogRun) fill(ctx context.Context) (sent load.Result, accepted *tally.Bitset, used time.Duration, err error) {
	types := r.triggers
	if r.all {
		types = 1
	}
	begin, err := r.target.cpu()
	if err != nil {
		return sent, nil, 0, err
	}
	sent, accepted, err = r.load(ctx, load.Options{
		Address: r.target.address, Path: ingressPath, Connections: connections, Size: eventSize,
		Events: r.events, FirstID: r.next, Types: types, Duration: r.limit(),
	})
	r.next += uint64(r.events)
	if err != nil {
		return sent, nil, 0, err
	}
	end, err := r.target.cpu()
	if err == nil && int(sent.Accepted) < r.events {
		err = &voidError{fmt.Sprintf("%d of %d events were accepted: %d refused %v, %d without an answer: %s",
			sent.Accepted, r.events, sent.Refused, sent.Status, sent.Errors, sent.Error)}
	}
	return sent, accepted, end - begin, err
}

// rested waits until everything is pending, and then watches the broker for a while.
func (r *backlogRun) rested(ctx context.Context) error {
	var pending uint64
	err := r.target.until(ctx, time.Minute, "have everything pending", func() bool {
		var err error
		pending, err = backlogOf(ctx, r.target.metrics, "gone-")
		return err == nil && pending >= uint64(r.pending())
	})
	if err == nil && pending > uint64(r.pending()) {
		err = &voidError{fmt.Sprintf("%d deliveries pending, want %d", pending, r.pending())}
	}
	if err != nil {
		return err
	}
	return sleep(ctx, atRest)
}

// drained is how the backlog went.
type drained struct {
	duplicates                  uint64
	perSecond, slowest, fastest int
	cpu                         float64
}

// drain lets the subscribers come back, and checks that every event comes.
func (r *backlogRun) drain(ctx context.Context, accepted *tally.Bitset) (d drained, err error) {
	dir, err := os.MkdirTemp(r.dir, "sink-")
	if err != nil {
		return d, err
	}
	before, err := r.target.cpu()
	if err != nil {
		return d, err
	}
	back, err := startSinkAt(ctx, r.self, dir, r.gone)
	if err != nil {
		return d, err
	}
	defer back.stop()
	paths, want := r.paths(), uint64(r.pending())
	pace := time.NewTicker(time.Second)
	defer pace.Stop()
	var came []uint64                                          // at each tick
	for moved := time.Now(); time.Since(moved) < bothProbes; { // after that the ids show what is missing
		select {
		case <-pace.C:
		case <-ctx.Done():
			return d, ctx.Err()
		}
		if err := r.target.alive(); err != nil {
			return d, err
		}
		stats, err := back.stats(ctx)
		if err != nil {
			return d, err
		}
		var now uint64
		now, d.duplicates = arrived(stats, paths)
		if n := len(came); n == 0 || now > came[n-1] {
			moved = time.Now()
		}
		came = append(came, now)
		if now >= want {
			break
		}
	}
	after, err := r.target.cpu()
	if err != nil {
		return d, err
	}
	for _, path := range paths {
		seen, err := back.ids(ctx, path)
		if err != nil {
			return d, err
		}
		if missing := accepted.Missing(seen); missing > 0 {
			return d, &voidError{fmt.Sprintf("%d of %d accepted events never came to %s: %s", missing, r.events, path, r.target.tail())}
		}
	}
	d.cpu = float64((after - before).Microseconds()) / float64(want)
	d.perSecond, d.slowest, d.fastest = rates(came)
	return d, nil
}

// arrived counts different events, and those that came again.
func arrived(stats sink.Stats, paths []string) (events, duplicates uint64) {
	for _, path := range paths {
		p := stats.Paths[path]
		events += p.Events - p.Duplicates
		duplicates += p.Duplicates
	}
	return events, duplicates
}

// rates are the mean between the first and the last arrival, and those of the
// slowest and the fastest tenth of the way.
func rates(came []uint64) (mean, slowest, fastest int) {
	first := 0
	for first+1 < len(came) && came[first+1] == 0 {
		first++
	}
	came = came[first:]
	seconds := len(came) - 1
	if seconds < 1 {
		return 0, 0, 0
	}
	mean = int(came[seconds]-came[0]) / seconds
	slowest = mean
	step := max(seconds/10, 1)
	for at := 0; at+step <= seconds; at += step {
		rate := int(came[at+step]-came[at]) / step
		slowest, fastest = min(slowest, rate), max(fastest, rate)
	}
	return mean, slowest, fastest
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
