package main

import (
	"strings"
	"testing"
)

func TestTheBacklogIsThatOfTheTriggersThatWait(t *testing.T) {
	const metrics = "# TYPE b gauge\nb{t=\"gone-00\"} 7\nb{t=\"gone-01\"} 1.000001e+06\nb{t=\"healthy\"} 5\n"
	if got, err := sumOf(strings.NewReader(metrics), `b{t="gone-`); err != nil || got != 1_000_008 {
		t.Errorf("%d, %v, want 1000008", got, err)
	}
	if _, err := sumOf(strings.NewReader(metrics), `b{t="else`); err == nil {
		t.Error("a gauge that is not there was found")
	}
}

func TestTheRateOfADrainIsThatBetweenTheFirstAndTheLastArrival(t *testing.T) {
	came := []uint64{0, 0, 0, 100, 200, 300, 400, 450, 550, 650, 750, 950, 1050}
	if mean, slowest, fastest := rates(came); mean != 105 || slowest != 50 || fastest != 200 {
		t.Errorf("%d, %d, %d, want 105, 50, 200", mean, slowest, fastest)
	}
	if mean, _, _ := rates([]uint64{0, 9}); mean != 9 {
		t.Errorf("%d, want 9", mean)
	}
	if mean, _, _ := rates([]uint64{9}); mean != 0 {
		t.Errorf("%d, want 0", mean)
	}
}
