package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"
)

// Void rules and aims, as ratios of processor time per event.
const (
	// floorLimit is how much the net/http floor may cost beside nginx. Above it
	// the machine was too busy with something else to compare anything.
	floorLimit = 2.4

	aimDisk  = 1.5
	aimMany  = 1.15
	aimSplit = 1.6
	aimKnown = 1.10
)

// settings of a run.
type settings struct {
	quick  bool
	known  bool          // only the pair that shows what journal and deduplication cost
	budget time.Duration // for all rounds
	closed plan
	open   plan // events 0: none
}

func runCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "2 minutes, fewer systems, print only")
	known := flags.Bool("journal", false, "only what the journal and deduplication cost: ten rounds or more of the pair")
	budget := flags.Duration("time", 0, "time for the rounds (9m, or 90s with -quick)")
	document := flags.String("write", filepath.Join("docs", "performance.md"), "file of the repository whose part between the markers is rewritten (not with -quick)")
	if err := parse(flags, args); err != nil {
		return err
	}
	s := settings{
		quick: *quick, known: *known, budget: 9 * time.Minute,
		closed: plan{warm: 10_000, events: 50_000},
		open:   plan{warm: 2_000, events: 5_000, rate: 1_000},
	}
	if *quick {
		s.budget = 90 * time.Second
		s.closed = plan{warm: 5_000, events: 20_000}
		s.open = plan{}
	}
	if *known {
		s.budget, s.open = 3*time.Minute, plan{}
	}
	if *budget > 0 {
		s.budget = *budget
	}
	b, err := newBench(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	r, err := b.run(ctx, s, out)
	if err != nil {
		return err
	}
	text := r.markdown()
	fmt.Fprintf(out, "\n%s", text)
	if err := r.valid(); err != nil {
		return err
	}
	if *quick || *known {
		return nil
	}
	return rewrite(filepath.Join(b.root, *document), text)
}

// result is what a run has found: for each system one sample per round, the
// rounds in the same order for all.
type result struct {
	machine machine
	plan    settings
	names   []string // in the order of the report
	rounds  int
	closed  map[string][]sample
	open    map[string][]sample
	nginx   bool
}

// run measures every system once in each round, for as many rounds as fit. Every
// other round goes backwards, so that a machine that gets slower or faster favours nobody.
func (b *bench) run(ctx context.Context, s settings, out io.Writer) (*result, error) {
	nginx := findNginx()
	all := systems(nginx, s.quick)
	if s.known {
		nginx, all = "", pair()
	}
	r := &result{
		machine: thisMachine(b.dir), plan: s, nginx: nginx != "",
		closed: map[string][]sample{}, open: map[string][]sample{},
	}
	if !r.nginx && !s.known {
		fmt.Fprintln(out, "nginx is not installed: its rows are absent, and nothing shows whether the machine was fit to measure on (on Debian: apt-get install nginx-light)")
	}
	for _, sys := range all {
		r.names = append(r.names, sys.name)
	}
	begin := time.Now()
	budget := s.budget
	if s.open.events > 0 {
		// The open loop takes its time by definition: one pass for each system that has one.
		each := time.Duration(float64(s.open.warm+s.open.events)/s.open.rate*float64(time.Second)) + 2*time.Second
		budget -= each * time.Duration(len(openSystems(all)))
	}
	var longest time.Duration
	for round := 0; round == 0 || time.Since(begin)+longest < budget; round++ {
		started := time.Now()
		fmt.Fprintf(out, "round %d, microseconds of processor time per event:", round+1)
		for _, sys := range all {
			sample, err := b.trial(ctx, sys, s.closed)
			if err != nil {
				fmt.Fprintln(out)
				return nil, fmt.Errorf("%s: %w", sys.name, err)
			}
			r.closed[sys.name] = append(r.closed[sys.name], sample)
			fmt.Fprintf(out, "  %s %.1f", sys.name, sample.cpu)
		}
		fmt.Fprintln(out)
		slices.Reverse(all)
		r.rounds++
		longest = max(longest, time.Since(started))
	}
	if s.open.events > 0 {
		for _, sys := range openSystems(all) {
			sample, err := b.trial(ctx, sys, s.open)
			if err != nil {
				return nil, fmt.Errorf("%s, open loop: %w", sys.name, err)
			}
			r.open[sys.name] = append(r.open[sys.name], sample)
		}
	}
	return r, nil
}

// openSystems are those whose latency is worth the time.
func openSystems(all []system) []system {
	return slices.DeleteFunc(slices.Clone(all), func(s system) bool { return s.name == sysSpread })
}

// valid is an error if the run proves nothing. A missing event has ended it before.
func (r *result) valid() error {
	if !r.nginx {
		return nil
	}
	ratio, ok := r.ratio(sysNetHTTP, sysNginx)
	if !ok {
		return errors.New("void: no round has both nginx and the floor")
	}
	if ratio.median > floorLimit {
		return &busyError{fmt.Sprintf("void: the net/http floor cost %.2f times nginx, more than %.1f: something else kept the machine busy", ratio.median, floorLimit)}
	}
	return nil
}

// spread is a median with its extremes.
type spread struct{ median, low, high float64 }

// ratio compares the processor time of two systems, round by round.
func (r *result) ratio(a, b string) (spread, bool) {
	n := min(len(r.closed[a]), len(r.closed[b]))
	ratios := make([]float64, 0, n)
	for i := range n {
		if d := r.closed[b][i].cpu; d > 0 {
			ratios = append(ratios, r.closed[a][i].cpu/d)
		}
	}
	return summary(ratios)
}

// summary is false for no values.
func summary(values []float64) (spread, bool) {
	if len(values) == 0 {
		return spread{}, false
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	median := sorted[mid]
	if len(sorted)%2 == 0 {
		median = (sorted[mid-1] + sorted[mid]) / 2
	}
	return spread{median, sorted[0], sorted[len(sorted)-1]}, true
}
