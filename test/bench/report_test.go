package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite testdata")

func samples(cpu ...float64) []sample {
	all := make([]sample, len(cpu))
	for i, c := range cpu {
		all[i] = sample{
			cpu: c, perSecond: 1e6 / c, accepted: 50_000, peak: 10 << 20,
			accept: quantiles{time.Millisecond, 2 * time.Millisecond}, endToEnd: quantiles{3 * time.Millisecond, 4500 * time.Microsecond},
		}
	}
	return all
}

func exampleResult() *result {
	return &result{
		machine: machine{
			date: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), cpu: "Some CPU", cores: 2, memory: 8 << 30,
			kernel: "6.1", goVersion: "go1.26", fileSystem: "ext4", busy: "0.50",
		},
		plan:   settings{closed: plan{warm: 10_000, events: 50_000}, open: plan{rate: 1000, events: 5000}},
		names:  []string{sysNginx, sysNetHTTP, sysDisk, sysMany},
		rounds: 3,
		nginx:  true,
		closed: map[string][]sample{
			sysNginx:   samples(20, 20, 20),
			sysNetHTTP: samples(40, 44, 60),
			sysDisk:    samples(50, 44, 75),
			sysMany:    samples(60, 66, 75),
		},
		open: map[string][]sample{sysDisk: samples(100)},
	}
}

func TestTheReportIsAsInTheGoldenFile(t *testing.T) {
	golden := filepath.Join("testdata", "report.golden")
	got := exampleResult().markdown()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the report has changed (-update writes it):\n%s", got)
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	ratio, ok := exampleResult().ratio(sysDisk, sysNetHTTP)
	// 50/40, 44/44, 75/60. Medians first would give 50/44.
	if want := (spread{1.25, 1, 1.25}); !ok || ratio != want {
		t.Errorf("ratio %v, want %v", ratio, want)
	}
	if _, ok := exampleResult().ratio(sysDisk, sysMemory); ok {
		t.Error("a ratio to a system that was not measured")
	}
	if got, _ := summary([]float64{4, 1, 3, 2}); got != (spread{2.5, 1, 4}) {
		t.Errorf("summary of an even number %v", got)
	}
}

func TestARunOnABusyMachineIsVoid(t *testing.T) {
	r := exampleResult()
	if err := r.valid(); err != nil {
		t.Errorf("a floor of 2.2 times nginx: %v", err)
	}
	r.closed[sysNetHTTP] = samples(49, 49, 49)
	if v := (*busyError)(nil); !errors.As(r.valid(), &v) {
		t.Errorf("a floor of 2.45 times nginx: %v, want void", r.valid())
	}
	r.nginx = false
	delete(r.closed, sysNginx)
	if err := r.valid(); err != nil {
		t.Errorf("without nginx: %v", err)
	}
	if !strings.Contains(r.markdown(), "nginx was not installed") {
		t.Error("the report does not say that nginx is absent")
	}
}

func TestOnlyThePartBetweenTheMarkersChanges(t *testing.T) {
	name := filepath.Join(t.TempDir(), "performance.md")
	document := "# Performance\n\n" + markBegin + "\nold\n" + markEnd + "\n\nMethod.\n"
	if err := os.WriteFile(name, []byte(document), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(name, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Replace(document, "old", "new", 1); string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
	for _, broken := range []string{"", markBegin, markEnd + markBegin} {
		if _, err := between(broken, "new"); err == nil {
			t.Errorf("%q was rewritten", broken)
		}
	}
}

func TestTheRepositorysDocumentHasTheMarkers(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := between(string(document), ""); err != nil {
		t.Error(err)
	}
}
