package main

import (
	"context"
	"errors"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary be its own sender, sink, floor and peer.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"load", "sink", "floor", "knative", "knative-ingress", "knative-channel", "knative-filter"}, os.Args[1]) {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		if err := command(ctx, os.Args[1:], os.Stdout); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func testBench(t *testing.T) *bench {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs Linux's /proc")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir(), self: self}
	if b.sink, err = startSink(t.Context(), self, b.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func TestATrialMeasuresWhatWentThrough(t *testing.T) {
	b := testBench(t)
	s, err := b.trial(t.Context(), system{name: "floor", start: startFloor("nethttp", pathOne)}, plan{warm: 100, events: 2000, connections: 8})
	if err != nil {
		t.Fatal(err)
	}
	if s.accepted != 2000 || s.duplicates != 0 || s.refused != 0 || s.cpu <= 0 || s.perSecond <= 0 || s.peak <= 0 || s.endToEnd.p99 < s.endToEnd.p50 {
		t.Errorf("%+v, want 2000 events with processor time, rate and memory", s)
	}
}

func TestKnativeDeliversToTheTriggerThatMatchesAndNoOther(t *testing.T) {
	b := testBench(t)
	s, err := b.trial(t.Context(), system{name: "Knative", start: startKnative(3), firstType: 1}, plan{warm: 10, events: 60, connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	if s.accepted != 60 || s.duplicates != 0 || s.refused != 0 || s.cpu <= 0 {
		t.Errorf("%+v, want 60 events with processor time", s)
	}
}

func TestAnEventThatNeverComesOutVoidsTheTrial(t *testing.T) {
	b := testBench(t)
	b.sink.standStill = 300 * time.Millisecond
	_, err := b.trial(t.Context(), system{name: "lossy", start: startFloor("nethttp", "/elsewhere")}, plan{events: 50, connections: 2})
	if v := (*voidError)(nil); !errors.As(err, &v) || !strings.Contains(v.reason, "50 of 50 accepted events never came out") {
		t.Errorf("%v, want void for 50 missing events", err)
	}
}

func TestAnEventMustComeOutAtEachOfItsPaths(t *testing.T) {
	b := testBench(t)
	sys := system{name: "fan", start: startFloor("fasthttp", "/a", "/b", "/c"), paths: []string{"/a", "/b", "/c"}}
	s, err := b.trial(t.Context(), sys, plan{warm: 20, events: 600, connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	if s.accepted != 600 || s.cpu <= 0 || math.Abs(s.perDelivery*3-s.cpu) > 1e-9 {
		t.Errorf("%+v, want 600 events, each delivery a third of the cost", s)
	}
	sys.paths = append(sys.paths, "/d")
	b.sink.standStill = 300 * time.Millisecond
	_, err = b.trial(t.Context(), sys, plan{events: 30, connections: 4})
	if v := (*voidError)(nil); !errors.As(err, &v) || !strings.Contains(v.reason, "never came out at /") {
		t.Errorf("%v, want void for what is missing at /d", err)
	}
}

func TestADeliveryToATriggerThatDoesNotMatchVoidsTheTrial(t *testing.T) {
	b := testBench(t)
	_, err := b.trial(t.Context(), system{name: "loose", start: startFloor("fasthttp", pathOne, pathNone)}, plan{events: 10, connections: 1})
	if v := (*voidError)(nil); !errors.As(err, &v) || !strings.Contains(v.reason, "triggers that do not match") {
		t.Errorf("%v, want void", err)
	}
}

func TestASlowPathIsSlowInThePassThatIsMeasured(t *testing.T) {
	b := testBench(t)
	floor := startFloor("fasthttp", pathOne)
	sys := system{
		// Events go straight to the sink: their answer is the slow one.
		name: "slow", paths: []string{ingressPath}, slow: map[string]time.Duration{ingressPath: 100 * time.Millisecond},
		start: func(ctx context.Context, b *bench, dir string) (*target, error) {
			t, err := floor(ctx, b, dir)
			if err == nil {
				t.address = b.sink.address
			}
			return t, err
		},
	}
	s, err := b.trial(t.Context(), sys, plan{warm: 1, events: 2, connections: 1})
	if err != nil || s.accept.p50 < 100*time.Millisecond {
		t.Errorf("accepted after %v, %v, want at least 100ms", s.accept.p50, err)
	}
}

func TestAProcessIsWokenByWhatItIsAskedAndNotBySleeping(t *testing.T) {
	b := testBench(t)
	asleep, err := start("asleep", b.dir, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asleep.stop)
	// Asleep is who has not been woken for a while: to start takes some reading.
	settled, same := uint64(0), 0
	err = asleep.until(t.Context(), 20*time.Second, "fall asleep", func() bool {
		now := asleep.switches()
		if same++; now != settled {
			settled, same = now, 0
		}
		return settled > 0 && same >= 20
	})
	if err != nil {
		t.Fatal(err)
	}
	before := b.sink.switches()
	err = b.sink.until(t.Context(), 20*time.Second, "be woken", func() bool {
		_, err := b.sink.counts(t.Context())
		return err == nil && b.sink.switches() > before
	})
	if err != nil {
		t.Error(err)
	}
	if got := asleep.switches(); got != settled {
		t.Errorf("a sleeping process was woken %d times", got-settled)
	}
}

func TestASystemThatDoesNotStartSaysWhatItWrote(t *testing.T) {
	b := testBench(t)
	_, err := b.trial(t.Context(), system{name: "floor", start: startFloor("nohttp", pathOne)}, plan{events: 50, connections: 2})
	if err == nil || !strings.Contains(err.Error(), `kind "nohttp"`) {
		t.Errorf("%v, want the floor's own words", err)
	}
}
