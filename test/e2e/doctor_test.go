package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// doctor runs penstock doctor, whatever its exit code.
func doctor(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(penstock, append([]string{"doctor"}, args...)...)
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PENSTOCK_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	code, out, errOut := broker.Run(t, cmd)
	return code, out + errOut
}

// down is a file with a Trigger whose subscriber takes nothing, and a sink for it.
func down(t *testing.T, broker string) string {
	t.Helper()
	s := sink.Start(t, func(*http.Request) int { return http.StatusServiceUnavailable })
	return write(t, filepath.Join(t.TempDir(), "down.yaml"), broker+
		trigger("down", "", s.URL("/down"), "{retry: 100000, backoffPolicy: linear, backoffDelay: PT1S}"))
}

// flipIn turns over one bit in the data of an event.
func flipIn(t *testing.T, path, data string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(b, []byte(data))
	if at < 0 {
		t.Fatalf("%s does not hold %q", path, data)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// One bit of one event in a file that nobody reads any more: doctor says
// where, which event, whether it is lost, and what to do. A broken end of the
// log, which keeps the broker from starting, as well.
func TestDoctorFindsABitThatWasFlippedInAStoppedStore(t *testing.T) {
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{down(t, "")}})
	const large = 900 << 10
	for n := range 80 { // more than a segment of 64 MiB
		data := fmt.Sprintf("event number %d ", n) + strings.Repeat("x", large)
		if status, _ := post(b.Default(), fmt.Sprintf("e-%d", n), "a", data); status != http.StatusAccepted {
			t.Fatalf("event %d is answered with %d", n, status)
		}
	}
	if code := b.Stop(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if code, out := doctor(t, "--data", b.Data); code != 0 || !strings.Contains(out, "80 events in 4 shards") || !strings.Contains(out, "80 deliveries pending") {
		t.Fatalf("a good store: exit code %d\n%s", code, out)
	}

	first := filepath.Join(b.Data, "log", "0000000000000001.log")
	flipIn(t, first, "event number 7 ")
	code, out := doctor(t, "--data", b.Data)
	for _, want := range []string{first + " is damaged at offset ", "bad checksum", "means: 1 event of broker default/default cannot be read any more (", "not delivered yet: lost", "do:", "1 problem"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("a flipped bit: exit code %d, no %q in\n%s", code, want, out)
		}
	}

	second := filepath.Join(b.Data, "log", "0000000000000002.log")
	flipIn(t, second, "event number 79 ")
	code, out = doctor(t, "--data", b.Data, "-o", "json")
	var d v1.Diagnosis
	text, _, _ := strings.Cut(out, "\nError:")
	if err := json.Unmarshal([]byte(text), &d); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v in\n%s", code, err, out)
	}
	found := map[string]v1.Finding{}
	for _, f := range d.Findings {
		if f.Severity == "problem" {
			found[f.Subject] = f
		}
	}
	if len(found) != 2 || !strings.Contains(found["segment 1"].What, first) || !strings.Contains(found["start"].What, second) || !strings.Contains(found["start"].Cure, "--repair") {
		t.Errorf("two flipped bits: %+v", found)
	}

	code, out = doctor(t, "--data", b.Data, "--repair", "--yes")
	if code != 0 || !strings.Contains(out, "78 events in 4 shards") || !strings.Contains(out, "declared lost earlier: event ") {
		t.Errorf("repair: exit code %d\n%s", code, out)
	}
	b.Restart()
	broker.Await(t, "all but the two that are lost are pending", func() bool { return b.Trigger("down").Backlog == 78 })
	if code, out := doctor(t, "--data", b.Data, "--api", b.API); code != 0 || !strings.Contains(out, "2 ranges of events declared lost") {
		t.Errorf("after the repair: exit code %d\n%s", code, out)
	}
}

func TestDoctorOfARunningBrokerSaysThatABrokerIsFull(t *testing.T) {
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{
		down(t, "---\napiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default, annotations: {penstock.dev/max-bytes: 4Mi}}\n")}})
	accepted := fill(t, b, "full", strings.Repeat("x", 100<<10))
	broker.Await(t, "all are pending", func() bool { return b.Trigger("down").Backlog == uint64(len(accepted)) })
	code, out := doctor(t, "--data", b.Data, "--api", b.API) // the folder is in use: its broker is asked
	full := regexp.MustCompile(`(?m)^problem +broker default/default +full: 3\.\d MiB kept of at most 4\.0 MiB.*\n.*507.*\n.*do:.*max-bytes`)
	if code != 1 || !full.MatchString(out) {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out := doctor(t, "--data", b.Data, "--repair", "--yes", "--api", b.API); code != 1 || !strings.Contains(out, "stop that process") {
		t.Errorf("repair of a store in use: exit code %d\n%s", code, out)
	}
}

func TestWrongScrubRateIsToldAtTheStart(t *testing.T) {
	line := refused(t, 2, exec.Command(penstock, "serve", "--scrub-rate", "fast", "--data", filepath.Join(t.TempDir(), "d")))
	if !strings.Contains(line, "--scrub-rate") {
		t.Errorf("%s", line)
	}
}
