package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// quickTime is when -quick begins no further round: 2 minutes with the build
	// and the last one.
	quickTime = 95 * time.Second

	// quickSlack is how far above what is promised a ratio of -quick may be: the
	// few pairs that fit into 2 minutes, on a machine that others use, spread that much.
	quickSlack = 1.25
)

// settings of a run.
type settings struct {
	quick  bool
	rows   []row
	rounds int           // instead of each scenario's own; 0: those
	budget time.Duration // no round begins after it; 0: all do
}

func runCommand(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	short := flags.Bool("quick", false, "2 minutes, some rows, fewer events, print only")
	names := flags.String("rows", "", "only these rows, with commas between, print only")
	rounds := flags.Int("rounds", 0, "how often each system is measured (10 where there is a ratio to hold)")
	budget := flags.Duration("time", 0, "begin no round after so long (95s with -quick)")
	document := flags.String("write", filepath.Join("docs", "performance.md"), "file of the repository whose part between the markers is rewritten, with a plot beside it (not with -quick or -rows)")
	void := flags.Bool("void", false, "write the document also where the yardstick makes the run void, and say so in it")
	if err := parse(flags, args); err != nil {
		return err
	}
	s := settings{quick: *short, rounds: *rounds, budget: *budget}
	if s.quick && s.budget == 0 {
		s.budget = quickTime
	}
	var wanted []string
	switch {
	case *names != "":
		wanted = strings.Split(*names, ",")
	case s.quick:
		wanted = quickRows
	}
	var err error
	if s.rows, err = choose(wanted); err != nil {
		return err
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
	proof := r.valid()
	if wanted == nil && (proof == nil || *void) {
		if err := r.publish(filepath.Join(b.root, *document)); err != nil {
			return err
		}
	}
	if proof != nil {
		return proof
	}
	return r.missed()
}

// run measures every system once in each round. Every other round goes
// backwards, so that a machine that gets slower or faster favours nobody.
func (b *bench) run(ctx context.Context, s settings, out io.Writer) (*result, error) {
	nginx := findNginx()
	all := scenarios(nginx)
	if s.quick {
		all = quick(all)
	}
	all = needed(all, s.rows)
	r := &result{machine: thisMachine(b.dir), settings: s, scenarios: all, nginx: nginx != "", samples: map[key][]sample{}}
	if !r.nginx {
		fmt.Fprintln(out, "nginx is not installed: its rows are absent, and nothing shows whether the machine was fit to measure on (on Debian: apt-get install nginx-light)")
	}
	begin := time.Now()
	var longest time.Duration
	for round := 0; ; round++ {
		started, more := time.Now(), false
		for _, sc := range all {
			if n := sc.rounds; round >= n && (s.rounds == 0 || n == 1) || s.rounds > 0 && round >= s.rounds {
				continue
			}
			more = true
			fmt.Fprintf(out, "round %d, %s:", round+1, sc.name)
			order := slices.Clone(sc.systems)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, sys := range order {
				samples, err := b.measure(ctx, sys, sc.plan)
				if err != nil {
					fmt.Fprintln(out)
					return nil, fmt.Errorf("%s: %s: %w", sc.name, sys.name, err)
				}
				r.samples[key{sc.name, sys.name}] = append(r.samples[key{sc.name, sys.name}], samples...)
				fmt.Fprintf(out, "  %s %s", sys.name, samples[0].brief())
			}
			fmt.Fprintln(out)
		}
		if !more {
			break
		}
		r.rounds++
		longest = max(longest, time.Since(started))
		if s.budget > 0 && time.Since(begin)+longest > s.budget {
			break
		}
	}
	return r, nil
}

func (b *bench) measure(ctx context.Context, sys system, p plan) ([]sample, error) {
	if sys.own != nil {
		p = *sys.own
	}
	if sys.measure != nil {
		return sys.measure(ctx, b, sys, p)
	}
	s, err := b.trial(ctx, sys, p)
	return []sample{s}, err
}

// brief is what of a sample tells whoever watches the run how it goes.
func (s sample) brief() string {
	switch {
	case s.cpu > 0:
		return fmt.Sprintf("%.1f µs", s.cpu)
	case s.idle.resident > 0:
		return fmt.Sprintf("%d MiB", s.idle.resident>>20)
	default:
		return fmt.Sprintf("p50 %v", s.accept.p50)
	}
}
