package e2e

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// anywhere are addresses that are free for sure.
var anywhere = []string{"--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"}

// refused runs a command that must fail with one line, and returns the line.
func refused(t *testing.T, code int, cmd *exec.Cmd) string {
	t.Helper()
	got, out, errOut := broker.Run(t, cmd)
	var faults []string
	for line := range strings.Lines(errOut) {
		if strings.HasPrefix(line, "Error: ") {
			faults = append(faults, strings.TrimSpace(line))
		}
	}
	if got != code || len(faults) != 1 || strings.Contains(out, "is ready") || strings.Contains(errOut, "goroutine ") {
		t.Errorf("%v: exit code %d, want %d and one line of error:\n%s%s", cmd.Args[1:], got, code, out, errOut)
		return ""
	}
	return faults[0]
}

// One line that says what is wrong, where, and what to do; 2 where the command
// line is at fault and 1 where the world is.
func TestMistakesAtTheStartAreToldInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().String()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "x")

	for _, c := range []struct {
		args []string // after serve and free addresses
		env  string
		code int
		want string
	}{
		{args: []string{"--listen", port}, code: 1,
			want: "listen on " + port + ": another process uses this address; stop it or choose another with --listen"},
		{args: []string{"--api-listen", port}, code: 1,
			want: "listen on " + port + ": another process uses this address; stop it or choose another with --api-listen"},
		{args: []string{"--metrics-listen", port}, code: 1,
			want: "listen on " + port + ": another process uses this address; stop it or choose another with --metrics-listen"},
		{args: []string{"--listen", "nonsense"}, code: 1, want: "listen on nonsense: missing port in address; write HOST:PORT or :PORT with --listen"},
		{args: []string{"--listen", "127.0.0.1:99999"}, code: 1, want: "listen on 127.0.0.1:99999: invalid port; write HOST:PORT or :PORT with --listen"},
		{args: []string{"--data", "file"}, code: 1, want: "open log: mkdir file/log: not a directory: name a folder that can be written with --data"},
		{args: []string{"-f", "nowhere"}, code: 1, want: "read nowhere: there is no such file or folder: check the path"},
		{args: []string{"-f", "nowhere/triggers.yaml"}, code: 1, want: "read nowhere/triggers.yaml: there is no such file or folder: check the path"},
		{args: []string{"--resolve", "orders"}, code: 2, want: `--resolve "orders": want kind/name=URL, as in service/orders=http://localhost:3000`},
		{args: []string{"--log-level", "loud"}, code: 2, want: `--log-level "loud": want debug, info, warn or error`},
		{args: []string{"--log-format", "xml"}, code: 2, want: `--log-format: log format "xml": want json or text`},
		{args: []string{"--drain-timeout", "-1s"}, code: 2, want: "--drain-timeout -1s: must not be negative"},
		{args: []string{"--lisen", ":1"}, code: 2, want: "unknown flag: --lisen"},
		{args: []string{"triggers.yaml"}, code: 2, want: `unknown command "triggers.yaml" for "penstock serve"`},
		{env: "PENSTOCK_MEMORY=perhaps", code: 2, want: "PENSTOCK_MEMORY"},
	} {
		cmd := exec.Command(penstock, slices.Concat([]string{"serve"}, anywhere, c.args)...)
		cmd.Dir = dir
		if cmd.Env = os.Environ(); c.env != "" {
			cmd.Env = append(cmd.Env, c.env)
		}
		if got := refused(t, c.code, cmd); !strings.Contains(got, c.want) || c.env == "" && got != "Error: "+c.want {
			t.Errorf("%s%v: says\n%s\nwant\n%s", c.env, c.args, got, c.want)
		}
	}
}

func TestCommandsWithoutABrokerSayWhichFlagToUse(t *testing.T) {
	nobody := broker.FreeAddress(t)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"get", "triggers", "--api", "http://" + nobody}, 1,
			"no broker answers at http://" + nobody + " (connection refused): is `penstock serve` running? Use --api or PENSTOCK_API"},
		{[]string{"send", "--type", "a", "--url", "http://" + nobody}, 1,
			"no broker takes events at http://" + nobody + "/default/default (connection refused): is `penstock serve` running? Use --url or PENSTOCK_URL"},
		{[]string{"send"}, 2, "--type is missing: every event needs one, as in --type order.created; or give events with -f FILE"},
		{[]string{"sned"}, 2, `unknown command "sned" for "penstock"`},
	} {
		if got := refused(t, c.code, exec.Command(penstock, c.args...)); got != "Error: "+c.want {
			t.Errorf("%v: says\n%s\nwant\n%s", c.args, got, c.want)
		}
	}
}

func TestSecondBrokerOnTheSameDataIsRefusedAndTheFirstGoesOn(t *testing.T) {
	b := start(t)
	log := filepath.Join(b.Data, "log")
	pid := strings.TrimSpace(read(t, filepath.Join(log, "LOCK")))
	got := refused(t, 1, exec.Command(penstock, slices.Concat([]string{"serve", "--data", b.Data}, anywhere)...))
	if want := "Error: open log: data directory " + log + " is in use by process " + pid + ": stop that process or choose another directory"; got != want {
		t.Errorf("says\n%s\nwant\n%s", got, want)
	}
	if status, _ := post(b.Default(), "1", "a", "x"); status != http.StatusAccepted {
		t.Errorf("the first broker answers %d", status)
	}
}

// An older Penstock must not touch what it cannot read.
func TestStoreOfANewerPenstockIsRefusedUntouched(t *testing.T) {
	b := start(t)
	if status, _ := post(b.Default(), "1", "a", "x"); status != http.StatusAccepted {
		t.Fatalf("status is %d", status)
	}
	if code := b.Stop(); code != 0 {
		t.Fatalf("exit code is %d", code)
	}
	checkpoints, err := filepath.Glob(filepath.Join(b.Data, "log", "*.ckpt"))
	if err != nil || len(checkpoints) == 0 {
		t.Fatalf("no checkpoint: %v", err)
	}
	newest := slices.Max(checkpoints)
	data := []byte(read(t, newest))
	// The format's version, which the checksum covers: see pkg/channel/disk/checkpoint.go.
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	binary.LittleEndian.PutUint32(data[8:], 7)
	binary.LittleEndian.PutUint32(data[12:], crc32.Update(crc32.Checksum(data[8:12], castagnoli), castagnoli, data[16:]))
	write(t, newest, string(data))
	before := snapshot(t, b.Data)

	got := refused(t, 1, exec.Command(penstock, slices.Concat([]string{"serve", "--data", b.Data}, anywhere)...))
	if want := "Error: open log: " + newest + " has format version 7, this build reads up to 3: use the newer Penstock that wrote it"; got != want {
		t.Errorf("says\n%s\nwant\n%s", got, want)
	}
	if after := snapshot(t, b.Data); before != after {
		t.Errorf("files were touched:\n%s\nbefore\n%s", after, before)
	}
}

// snapshot tells the files of a store by name, size and time of last change.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		if e.Name() == "LOCK" {
			continue
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %d %v\n", e.Name(), info.Size(), info.ModTime())
	}
	return b.String()
}

// What is wrong in the files is told with file, line, field and cure, makes
// its own object not ready, and stops nothing else.
func TestMistakesInTheFilesConcernOnlyTheirObject(t *testing.T) {
	s := sink.Start(t, nil)
	url := s.URL("/x")
	dir := t.TempDir()
	good := trigger("good", "", s.URL("/good"), "")
	files := map[string]string{
		"field.yaml":     strings.Replace(trigger("field", "", url, ""), "subscriber:", "subscribr:", 1),
		"first.yaml":     good,
		"second.yaml":    good,
		"lonely.yaml":    strings.Replace(trigger("lonely", "", url, ""), "broker: default", "broker: defualt", 1),
		"duration.yaml":  trigger("duration", "", url, "{backoffDelay: 5s}"),
		"filter.yaml":    trigger("filter", `[{cesql: "type ="}]`, url, ""),
		"dialect.yaml":   trigger("dialect", `[{prefx: {type: a}}]`, url, ""),
		"kind.yaml":      "apiVersion: eventing.knative.dev/v1\nkind: Triger\nmetadata: {name: kind}\n",
		"syntax.yaml":    "kind: [\n",
		"annotated.yaml": strings.Replace(trigger("annotated", "", url, ""), "{name: annotated}", `{name: annotated, annotations: {penstock.dev/concurency: "4"}}`, 1),
	}
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	b := start(t, dir)

	var list v1.ProblemList
	b.Get("/api/v1/problems", &list)
	told := make(map[string]string)
	for _, p := range list.Items {
		told[strings.TrimPrefix(p.Origin, dir+string(filepath.Separator))] += p.Message
	}
	for origin, want := range map[string]string{
		"field.yaml:7":     "Trigger default/field: spec.subscribr: unknown field: did you mean subscriber?",
		"second.yaml:2":    "Trigger default/good is already declared at " + filepath.Join(dir, "first.yaml") + ":2: this second one is ignored: remove or rename it",
		"lonely.yaml:6":    "Trigger default/lonely: spec.broker: there is no Broker default/defualt: did you mean default?",
		"duration.yaml:8":  `Trigger default/duration: spec.delivery.backoffDelay: "5s": want an ISO-8601 duration such as PT0.5S, PT30S or PT5M`,
		"filter.yaml:8":    "Trigger default/filter: spec.filters[0].cesql: syntax error at character 7",
		"dialect.yaml:8":   "did you mean prefix?",
		"kind.yaml:1":      "Trigger",
		"syntax.yaml:1":    "not YAML",
		"annotated.yaml:4": "annotation penstock.dev/concurency is unknown: did you mean concurrency?",
	} {
		if !strings.Contains(told[origin], want) {
			t.Errorf("%s: told\n%q\nwant\n%q", origin, told[origin], want)
		}
		delete(told, origin)
	}
	for origin, message := range told {
		t.Errorf("also told: %s: %s", origin, message)
	}

	if status, _ := post(b.Default(), "1", "a", "x"); status != http.StatusAccepted {
		t.Fatalf("status is %d", status)
	}
	s.Await("/good", "1")
	for _, name := range []string{"field", "lonely", "duration", "filter", "dialect", "annotated"} {
		if name == "lonely" || name == "filter" || name == "dialect" {
			if n := b.Trigger(name).Backlog; n != 0 {
				t.Errorf("%s: %d events are pending, but nothing can match", name, n)
			}
		}
		if tr := b.Trigger(name); tr.Ready || tr.Message == "" {
			t.Errorf("%s: ready %v, says %q", name, tr.Ready, tr.Message)
		}
	}
	if n := len(s.Got("/x")); n != 0 {
		t.Errorf("Triggers that are not ready got %d events", n)
	}
	if code := b.Stop(); code != 0 {
		t.Errorf("exit code is %d", code)
	}
}
