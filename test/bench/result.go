package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/penstock-events/penstock/test/bench/plot"
)

// result is what a run has found: for each system of each scenario one sample
// per round, the rounds in the same order for all.
type result struct {
	machine   machine
	settings  settings
	scenarios []scenario
	rounds    int
	samples   map[key][]sample
	nginx     bool
}

// spread is a median with its extremes, of so many values.
type spread struct {
	median, low, high float64
	n                 int
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
	return spread{median, sorted[0], sorted[len(sorted)-1], len(sorted)}, true
}

func each(samples []sample, value func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return values
}

// found is a bound's figure: that of one system, or the ratios to another, taken
// round by round.
func (r *result) found(b bound) (spread, bool) {
	of := each(r.samples[b.of], b.value)
	of = slices.DeleteFunc(of, func(v float64) bool { return v == unknown })
	if b.by == (key{}) {
		return summary(of)
	}
	by := each(r.samples[b.by], b.value)
	n := min(len(of), len(by))
	ratios := make([]float64, 0, n)
	for i := range n {
		if by[i] > 0 {
			ratios = append(ratios, of[i]/by[i])
		}
	}
	return summary(ratios)
}

// yardsticks are the ratios that show whether the machine was fit to measure on.
func yardsticks() []bound {
	return []bound{
		{what: ofCPU, of: key{inLoop, sysNetHTTP}, by: key{inLoop, sysNginx}, value: cpu, must: limitNetHTTP, aim: noAim},
		{what: ofCPU, of: key{inLoop, sysFastHTTP}, by: key{inLoop, sysNginx}, value: cpu, must: limitFastHTTP, aim: noAim},
	}
}

// valid is an error if the run proves nothing. A missing event has ended it before.
func (r *result) valid() error {
	if !r.nginx {
		return nil
	}
	for _, y := range yardsticks() {
		if ratio, ok := r.found(y); ok && ratio.median > y.must {
			return &busyError{fmt.Sprintf("void: the %s cost %.2f times nginx, more than %.1f: something else kept the machine busy", y.of.system, ratio.median, y.must)}
		}
	}
	return nil
}

// missed is an error that names what is promised and does not hold. -quick
// allows quickSlack.
func (r *result) missed() error {
	slack := 1.0
	if r.settings.quick {
		slack = quickSlack
	}
	var names []string
	for _, row := range r.settings.rows {
		for _, b := range row.bounds {
			if got, ok := r.found(b); ok && b.must > 0 && !b.holds(got.median, b.allowed(slack)) {
				names = append(names, fmt.Sprintf("%s: %s: %s, want at %s %s", row.name, b.subject(), b.figure(got.median), b.side(), b.figure(b.allowed(slack))))
			}
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("missed:\n  %s", strings.Join(names, "\n  "))
}

// allowed is what is promised, with so much slack.
func (b bound) allowed(slack float64) float64 {
	if b.guard > 0 && slack > 1 {
		return b.guard
	}
	if b.least {
		return b.must / slack
	}
	return b.must * slack
}

func (b bound) side() string {
	if b.least {
		return "least"
	}
	return "most"
}

// chart is the run as a picture: what an event costs each system in closed loop,
// and Knative, which has connections of its own number.
func (r *result) chart() plot.Chart {
	c := plot.Chart{Title: "Processor time per event, median and extremes", Unit: "µs"}
	for _, sc := range r.scenarios {
		if sc.name != inLoop && sc.name != inKnative {
			continue
		}
		for _, sys := range sc.systems {
			got, ok := summary(each(r.samples[key{sc.name, sys.name}], cpu))
			if !ok || sc.name == inKnative && !strings.HasPrefix(sys.name, "Knative") || sys.name == sysBare || sys.name == sysKnown {
				continue
			}
			kind := plot.Peer
			if strings.HasPrefix(sys.name, "penstock") {
				kind = plot.Ours
			}
			c.Bars = append(c.Bars, plot.Bar{Label: sys.name, Value: got.median, Low: got.low, High: got.high, Kind: kind})
		}
	}
	return c
}
