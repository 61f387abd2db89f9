package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary be its own sender, sink and floor.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{"load", "sink", "floor"}, os.Args[1]) {
		if err := command(context.Background(), os.Args[1:], os.Stdout); err != nil {
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
	b.sink.standStill = 300 * time.Millisecond
	t.Cleanup(b.close)
	return b
}

func TestATrialMeasuresWhatWentThrough(t *testing.T) {
	b := testBench(t)
	s, err := b.trial(t.Context(), system{name: "floor", start: startFloor("nethttp", pathOne)}, plan{warm: 100, events: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if s.accepted != 2000 || s.duplicates != 0 || s.refused != 0 || s.cpu <= 0 || s.perSecond <= 0 || s.peak <= 0 || s.endToEnd.p99 < s.endToEnd.p50 {
		t.Errorf("%+v, want 2000 events with processor time, rate and memory", s)
	}
}

func TestAnEventThatNeverComesOutVoidsTheTrial(t *testing.T) {
	b := testBench(t)
	_, err := b.trial(t.Context(), system{name: "lossy", start: startFloor("nethttp", "/elsewhere")}, plan{events: 50})
	if v := (*voidError)(nil); !errors.As(err, &v) || !strings.Contains(v.reason, "50 of 50 accepted events never came out") {
		t.Errorf("%v, want void for 50 missing events", err)
	}
}

func TestASystemThatDoesNotStartSaysWhatItWrote(t *testing.T) {
	b := testBench(t)
	_, err := b.trial(t.Context(), system{name: "floor", start: startFloor("nohttp", pathOne)}, plan{events: 50})
	if err == nil || !strings.Contains(err.Error(), `library "nohttp"`) {
		t.Errorf("%v, want the floor's own words", err)
	}
}
