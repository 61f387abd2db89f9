package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/e2e/sink"
)

// kills is how often the broker is killed while one client sends.
const kills = 5

var penstock string // the binary; set before the tests begin

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "penstock-clients")
	if err == nil {
		defer os.RemoveAll(dir)
		penstock, err = broker.Build(dir, "cmd/penstock")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// line is what a sender tells of an event that was answered with 202.
type line struct {
	ID              string
	SHA256          string
	SpecVersion     string
	Type            string
	Source          string
	Subject         string
	Time            time.Time
	DataContentType string
	GithubAction    string
	Wants           []string
}

// sender sends all events to url and tells each that was accepted. It ends
// with the test at the latest.
type sender func(t *testing.T, url string, tell func(line)) error

// The heart of the promise, with clients and payloads from outside: what was
// answered with 202 arrives where the filters say and nowhere else, byte for
// byte, whatever happens to the process in between.
func TestEveryWebhookArrivesWhereItsFilterSaysThroughKills(t *testing.T) {
	js := installed(t)
	for _, client := range []struct {
		name string
		send sender
	}{
		{"JavaScript SDK", javaScript(js)},
		{"Go SDK", golang(filepath.Join(js, "node_modules", "@octokit", "webhooks-examples", "api.github.com", "index.json"))},
	} {
		t.Run(client.name, func(t *testing.T) { deliverAll(t, client.send) })
	}
}

func deliverAll(t *testing.T, send sender) {
	s := sink.Start(t, nil)
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{configuration(t, s)}})

	told := make(chan line, 10_000) // more than there are, so that no sender waits for a kill
	ended := make(chan error, 1)
	go func() {
		ended <- send(t, b.Default(), func(l line) { told <- l })
		close(told)
	}()
	var accepted []line
	var killedAt []int
	soon := func() int { return len(accepted) + 1 + rand.IntN(150) }
	next := soon()
	for l := range told {
		accepted = append(accepted, l)
		if len(accepted) >= next && len(killedAt) < kills {
			b.Kill()
			killedAt = append(killedAt, len(accepted))
			b.Restart()
			next = soon()
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if len(accepted) < 3*300 {
		t.Fatalf("the sender told of %d events only", len(accepted))
	}
	t.Logf("%d events; killed after %v", len(accepted), killedAt)
	if len(killedAt) < kills {
		t.Errorf("the broker was killed %d times, want %d: the sender was too quick for the test", len(killedAt), kills)
	}
	for _, trigger := range []string{"reviews", "hello-world"} {
		check(t, b, s, trigger, accepted)
	}
}

// check compares what came for a Trigger with what was to come.
func check(t *testing.T, b *broker.Broker, s *sink.Sink, trigger string, accepted []line) {
	t.Helper()
	want := make(map[string]line)
	var ids []string
	for _, l := range accepted {
		if slices.Contains(l.Wants, trigger) {
			want[l.ID] = l
			ids = append(ids, l.ID)
		}
	}
	if len(want) < 50 || len(want) == len(accepted) {
		t.Errorf("%s: its filter wants %d of %d events, which proves little", trigger, len(want), len(accepted))
	}
	s.Await("/"+trigger, ids...)
	b.AwaitSettled(trigger)
	if dead := b.Trigger(trigger).Dead; dead != 0 {
		t.Errorf("%s: %d dead letters", trigger, dead)
	}
	duplicates := 0
	for id, got := range s.Got("/" + trigger) {
		duplicates += got.Times - 1
		l, ok := want[id]
		if !ok {
			t.Errorf("%s: got %s, which its filter does not want", trigger, id)
			continue
		}
		e := got.Event
		if got.Sum != l.SHA256 {
			t.Errorf("%s: data of %s changed on the way; it came as %.100q", trigger, id, e.Data())
		}
		action, _ := e.Extensions()["githubaction"].(string)
		if e.SpecVersion() != l.SpecVersion || e.Type() != l.Type || e.Source() != l.Source || e.Subject() != l.Subject ||
			!e.Time().Equal(l.Time) || e.DataContentType() != l.DataContentType || action != l.GithubAction {
			t.Errorf("%s: attributes of %s changed on the way:\n%v\nwant\n%+v", trigger, id, e.Context, l)
		}
	}
	t.Logf("%s: %d events, %d of them again", trigger, len(want), duplicates)
}

// configuration is triggers.yaml with the address of the sink.
func configuration(t *testing.T, s *sink.Sink) string {
	t.Helper()
	text, err := os.ReadFile("triggers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "triggers.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "SINK", s.URL(""))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// installed is the folder of the JavaScript client, with the packages that
// its lock file names.
func installed(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is needed in CI: %v", tool, err)
			}
			t.Skipf("SKIPPED, real clients were not tried: install Node.js 20 or later: %v", err)
		}
	}
	const dir = "js"
	// npm writes node_modules/.package-lock.json last.
	lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	done, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	if err == nil && !done.ModTime().Before(lock.ModTime()) {
		return dir
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

// javaScript runs js/send.js.
func javaScript(dir string) sender {
	return func(t *testing.T, url string, tell func(line)) error {
		cmd := exec.CommandContext(t.Context(), "node", "send.js", url)
		cmd.Dir = dir
		var faults strings.Builder
		cmd.Stderr = &faults
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		err = lines(out, tell)
		if ended := cmd.Wait(); ended != nil {
			return fmt.Errorf("node send.js: %w\n%s", ended, faults.String())
		}
		return err
	}
}

func lines(r io.Reader, tell func(line)) error {
	for s := bufio.NewScanner(r); ; {
		if !s.Scan() {
			return s.Err()
		}
		var l line
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return fmt.Errorf("line of the sender: %w: %.200q", err, s.Bytes())
		}
		tell(l)
	}
}
