package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// markdown is the run as it stands between the markers.
func (r *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s: %s.\n", r.machine.date.Format("2 January 2006"), r.machine)
	fmt.Fprintf(&b, "%d rounds, events of %d bytes. Every accepted event was seen at each of its subscribers.\n", r.rounds, eventSize)
	if !r.nginx {
		b.WriteString("nginx was not installed: no yardstick for the machine.\n")
	}
	if err := r.valid(); err != nil {
		fmt.Fprintf(&b, "\n**This run is void by its own rule** (%s). What follows are its figures all the same: systems of one round were measured beside each other.\n", err)
	}
	b.WriteString("\n| row | what is compared | median | lowest to highest | n | must | aim |\n|---|---|--:|--:|--:|--:|--:|\n")
	for _, row := range r.settings.rows {
		for _, bound := range row.bounds {
			if got, ok := r.found(bound); ok {
				bound.line(&b, row.name, got, "missed")
			}
		}
	}
	for _, y := range yardsticks() {
		if got, ok := r.found(y); ok && r.nginx {
			y.line(&b, "yardstick", got, "void")
		}
	}
	for _, sc := range r.scenarios {
		switch sc.name {
		case inLoop, inFan, inCores, inKnative:
			r.costs(&b, sc)
		case inOpen, inIsolation, inOne:
			r.latencies(&b, sc)
		}
	}
	return b.String()
}

// line is one bound and what became of it.
func (b bound) line(out *strings.Builder, row string, got spread, otherwise string) {
	verdict := func(limit, almost float64, none bool) string {
		text := b.figure(limit)
		if almost > 0 {
			text = fmt.Sprintf("%.0f (below %.1f)", limit, limit+almost)
		}
		switch {
		case none:
			return ""
		case b.holds(got.median, limit) || almost > 0 && got.median < limit+almost:
			return text + ": holds"
		default:
			return fmt.Sprintf("%s: **%s**", text, otherwise)
		}
	}
	unit := ""
	if b.unit != "" {
		unit = " " + b.unit
	}
	fmt.Fprintf(out, "| %s | %s | %s%s | %s to %s | %d | %s | %s |\n", row, b.subject(), b.figure(got.median), unit, b.figure(got.low), b.figure(got.high), got.n,
		verdict(b.must, 0, b.must == 0), verdict(b.aim, b.almost, b.aim == noAim))
}

// subject says what is compared.
func (b bound) subject() string {
	if b.by == (key{}) {
		return fmt.Sprintf("%s: %s", b.of.system, b.what)
	}
	of, by := b.of.system, b.by.system
	if b.of.scenario != inLoop {
		return fmt.Sprintf("%s / %s: %s, %s", of, by, b.what, b.of.scenario)
	}
	return fmt.Sprintf("%s / %s: %s", of, by, b.what)
}

// figure writes a ratio to a hundredth and large figures to what they are worth.
func (b bound) figure(v float64) string {
	switch {
	case b.by != (key{}) && v < 100, b.unit == "KiB":
		return fmt.Sprintf("%.2f", v)
	case v >= 100:
		return thousands(int(v + 0.5))
	default:
		return fmt.Sprintf("%.1f", v)
	}
}

// costs are what events cost in closed loop.
func (r *result) costs(b *strings.Builder, sc scenario) {
	fmt.Fprintf(b, "\n| %s | connections | events | µs of processor time per event | lowest to highest | per delivery | events/s | peak RSS, MiB | objects allocated per event | duplicates | refused |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", sc.name)
	for _, sys := range sc.systems {
		samples := r.samples[key{sc.name, sys.name}]
		cost, ok := summary(each(samples, cpu))
		if !ok {
			continue
		}
		p := sc.plan
		if sys.own != nil {
			p = *sys.own
		}
		share, _ := summary(each(samples, perDelivery))
		rate, _ := summary(each(samples, func(s sample) float64 { return s.perSecond }))
		peak, _ := summary(each(samples, func(s sample) float64 { return float64(s.peak) / (1 << 20) }))
		objects := "-"
		if m, ok := summary(slices.DeleteFunc(each(samples, mallocs), func(v float64) bool { return v == unknown })); ok {
			objects = fmt.Sprintf("%.1f", m.median)
		}
		duplicates, refused := uint64(0), uint64(0)
		for _, s := range samples {
			duplicates += s.duplicates
			refused += s.refused
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s to %s | %s | %s | %.0f | %s | %d | %d |\n", sys.name, p.connections, thousands(p.events),
			micros(cost.median), micros(cost.low), micros(cost.high), micros(share.median), thousands(int(rate.median)), peak.high, objects, duplicates, refused)
	}
}

// latencies are medians of the rounds' quantiles.
func (r *result) latencies(b *strings.Builder, sc scenario) {
	title := sc.name
	if sc.plan.rate > 0 {
		title = fmt.Sprintf("%s, %.0f events/s", sc.name, sc.plan.rate)
	}
	fmt.Fprintf(b, "\n| %s | events | µs of processor time per event | accepted, p50 / p99 ms | delivered, p50 / p99 ms |\n|---|--:|--:|--:|--:|\n", title)
	for _, sys := range sc.systems {
		samples := r.samples[key{sc.name, sys.name}]
		cost, ok := summary(each(samples, cpu))
		if !ok {
			continue
		}
		middle := func(value func(sample) time.Duration) string {
			m, _ := summary(each(samples, func(s sample) float64 { return float64(value(s)) }))
			return ms(time.Duration(m.median))
		}
		processor, delivered := micros(cost.median), "-"
		if sys.measure != nil {
			processor = "-"
		}
		if sc.plan.rate > 0 {
			delivered = middle(func(s sample) time.Duration { return s.endToEnd.p50 }) + " / " + middle(func(s sample) time.Duration { return s.endToEnd.p99 })
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s / %s | %s |\n", sys.name, thousands(sc.plan.events), processor,
			middle(func(s sample) time.Duration { return s.accept.p50 }), middle(func(s sample) time.Duration { return s.accept.p99 }), delivered)
	}
}

// micros writes microseconds: to a tenth below 1,000.
func micros(v float64) string {
	if v >= 1000 {
		return thousands(int(v + 0.5))
	}
	return fmt.Sprintf("%.1f", v)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

// thousands writes 12345 as 12,345.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
