package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// The part of the document that a run rewrites.
const (
	markBegin = "<!-- bench: begin, written by `make bench` -->"
	markEnd   = "<!-- bench: end -->"
)

// comparison is one ratio that is reported; aim 0 is none.
type comparison struct {
	a, b string
	aim  float64
	what string // of the aim
}

func comparisons() []comparison {
	return []comparison{
		{sysDisk, sysNetHTTP, aimDisk, "aim"},
		{sysMany, sysDisk, aimMany, "aim"},
		{sysSplit, sysDisk, aimSplit, "aim"},
		{sysKnown, sysBare, aimKnown, "aim"},
		{sysSpread, sysDisk, 0, ""},
		{sysMemory, sysNetHTTP, 0, ""},
		{sysDisk, sysNginx, 0, ""},
		{sysMemory, sysNginx, 0, ""},
		{sysDisk, sysFastHTTP, 0, ""},
		{sysMemory, sysFastHTTP, 0, ""},
		{sysNetHTTP, sysNginx, floorLimit, "void above"},
		{sysFastHTTP, sysNginx, 0, ""},
	}
}

// markdown is the run as it stands between the markers.
func (r *result) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured %s: %s.\n", r.machine.date.Format("2 January 2006"), r.machine)
	fmt.Fprintf(&b, "%d rounds of %s events of %d bytes on %d connections, after a warm-up of %s. Every accepted event was seen at its subscriber.\n",
		r.rounds, thousands(r.plan.closed.events), eventSize, connections, thousands(r.plan.closed.warm))
	if !r.nginx {
		b.WriteString("nginx was not installed: no yardstick for the machine.\n")
	}
	b.WriteString("\n| processor time per event | median of ratios | lowest to highest | bound |\n|---|--:|--:|---|\n")
	for _, c := range comparisons() {
		ratio, ok := r.ratio(c.a, c.b)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "| %s / %s | %.2f | %.2f to %.2f | %s |\n", c.a, c.b, ratio.median, ratio.low, ratio.high, c.verdict(ratio.median))
	}
	b.WriteString("\n| closed loop | µs of processor time per event | lowest to highest | events/s | peak RSS, MiB | duplicates | refused |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, name := range r.names {
		samples := r.closed[name]
		cpu, ok := summary(each(samples, func(s sample) float64 { return s.cpu }))
		if !ok {
			continue
		}
		rate, _ := summary(each(samples, func(s sample) float64 { return s.perSecond }))
		peak, _ := summary(each(samples, func(s sample) float64 { return float64(s.peak) / (1 << 20) }))
		duplicates, refused := uint64(0), uint64(0)
		for _, s := range samples {
			duplicates += s.duplicates
			refused += s.refused
		}
		fmt.Fprintf(&b, "| %s | %.1f | %.1f to %.1f | %s | %.0f | %d | %d |\n",
			name, cpu.median, cpu.low, cpu.high, thousands(int(rate.median)), peak.high, duplicates, refused)
	}
	if len(r.open) > 0 {
		fmt.Fprintf(&b, "\n| open loop, %.0f events/s | µs of processor time per event | accepted, p50 / p99 ms | delivered, p50 / p99 ms |\n|---|--:|--:|--:|\n", r.plan.open.rate)
		for _, name := range r.names {
			for _, s := range r.open[name] {
				fmt.Fprintf(&b, "| %s | %.1f | %s / %s | %s / %s |\n", name, s.cpu,
					ms(s.accept.p50), ms(s.accept.p99), ms(s.endToEnd.p50), ms(s.endToEnd.p99))
			}
		}
	}
	return b.String()
}

// verdict says what the bound is and whether it holds.
func (c comparison) verdict(ratio float64) string {
	switch {
	case c.aim == 0:
		return ""
	case ratio <= c.aim:
		return fmt.Sprintf("%s %.2f: holds", c.what, c.aim)
	default:
		return fmt.Sprintf("%s %.2f: **missed**", c.what, c.aim)
	}
}

func each(samples []sample, value func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return values
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

// rewrite puts text between the markers of a document and leaves the rest alone.
func rewrite(name, text string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	fresh, err := between(string(old), text)
	if err != nil {
		return fmt.Errorf("write report: %s: %w", name, err)
	}
	if err := os.WriteFile(name, []byte(fresh), 0o644); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func between(document, text string) (string, error) {
	head, rest, found := strings.Cut(document, markBegin)
	if !found {
		return "", fmt.Errorf("no line %q", markBegin)
	}
	_, tail, found := strings.Cut(rest, markEnd)
	if !found {
		return "", fmt.Errorf("no line %q after %q", markEnd, markBegin)
	}
	return head + markBegin + "\n" + text + markEnd + tail, nil
}
