//go:build unix

package standalone_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-events/penstock/pkg/app/standalone"
)

// shopYAML is a Broker that knows duplicates, with a Trigger; the subscriber is
// yet to be named.
const shopYAML = `
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  namespace: shop
  name: orders
  annotations: {penstock.dev/dedup-window: PT1H}
---
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {namespace: shop, name: billing}
spec: {broker: orders, subscriber: {uri: %q}}
`

// serveDir makes this test binary `penstock serve` on a folder.
const serveDir = "PENSTOCK_TEST_SERVE_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveDir); dir != "" {
		files := []string{filepath.Join(dir, "brokers.yaml")}
		if _, err := os.Stat(files[0]); err != nil {
			files = nil
		}
		err := standalone.Run(context.Background(), standalone.Options{
			Files: files, Data: filepath.Join(dir, "data"),
			Listen: "127.0.0.1:0", APIListen: "0.0.0.0:0", MetricsListen: "127.0.0.1:0",
			DrainTimeout: time.Second, ScrubRate: "20Mi", LogFormat: "text", LogLevel: "warn",
		}, os.Stdout, os.Stderr)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// process is `penstock serve`, to be killed.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	events  string
	metrics string
	errors  strings.Builder
	ended   bool
}

func serve(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), serveDir+"="+dir)
	p.cmd.Stderr = &p.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	where := regexp.MustCompile(`^  (events|metrics) +(http://[^/\s]+)`)
	for lines := bufio.NewScanner(out); p.metrics == "" && lines.Scan(); {
		m := where.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		switch m[1] {
		case "events":
			p.events = m[2]
		case "metrics":
			p.metrics = m[2]
		}
	}
	if p.metrics == "" {
		p.kill()
		t.Fatalf("penstock serve does not start: %s", p.errors.String())
	}
	return p
}

func (p *process) kill() {
	if !p.ended {
		p.ended = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// post sends an event of shop/orders and returns the answer's headers.
func (p *process) post(id string) http.Header {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.events+"/shop/orders", strings.NewReader("{}"))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, value := range map[string]string{"Ce-Id": id, "Ce-Source": "/till", "Ce-Type": "order", "Ce-Specversion": "1.0"} {
		r.Header.Set(name, value)
	}
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusAccepted {
		p.t.Fatalf("%s: %d", id, got.StatusCode)
	}
	return got.Header
}

// A sender who repeats every event, to a broker that is killed again and again,
// gets the same answer each time, and a subscriber is not told twice.
func TestAnEventIsStoredOnceThroughSIGKILLs(t *testing.T) {
	var mu sync.Mutex
	stories := make(map[string]map[string]bool) // ids of events within Penstock, by CloudEvents id
	subscriber := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		id := r.Header.Get("Ce-Id")
		if stories[id] == nil {
			stories[id] = make(map[string]bool)
		}
		stories[id][r.Header.Get("Knativearrivaltime")+r.Header.Get("Ce-Knativearrivaltime")] = true
	}))
	defer subscriber.Close()
	dir := t.TempDir()
	yaml := fmt.Sprintf(shopYAML, subscriber.URL)
	if err := os.WriteFile(filepath.Join(dir, "brokers.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`^http://127\.0\.0\.1:\d+(/api/v1/events/\d+-\d+\?broker=shop/orders)$`)
	first := make(map[string]string)
	for round := range 4 {
		p := serve(t, dir)
		for id, want := range first {
			h := p.post(id)
			if m := link.FindStringSubmatch(h.Get("Penstock-Event")); h.Get("Penstock-Duplicate") != "true" || m == nil || m[1] != want {
				t.Errorf("round %d: %s, stored at %s, is answered with %q and Penstock-Duplicate %q", round, id, want, h.Get("Penstock-Event"), h.Get("Penstock-Duplicate"))
			}
		}
		for i := range 50 {
			id := fmt.Sprintf("order-%d-%d", round, i)
			h := p.post(id)
			m := link.FindStringSubmatch(h.Get("Penstock-Event"))
			if m == nil || h.Get("Penstock-Duplicate") != "" {
				t.Fatalf("round %d: %s is answered with %q and Penstock-Duplicate %q", round, id, h.Get("Penstock-Event"), h.Get("Penstock-Duplicate"))
			}
			first[id] = m[1]
		}
		if round == 0 {
			p.wantMetrics(`penstock_dedup_known_events{broker="shop/orders"} 50`, `penstock_dedup_window_seconds{broker="shop/orders"} 3600`)
		}
		p.kill()
	}
	mu.Lock()
	defer mu.Unlock()
	for id, as := range stories {
		if len(as) > 1 {
			t.Errorf("%s came to the subscriber as %d events", id, len(as))
		}
	}
}

func (p *process) wantMetrics(lines ...string) {
	p.t.Helper()
	text := p.get(p.metrics + "/metrics")
	for _, line := range lines {
		if !strings.Contains(text, "\n"+line+"\n") {
			p.t.Errorf("no metric %q", line)
		}
	}
}

func (p *process) get(url string) string {
	p.t.Helper()
	got, err := http.Get(url)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(got.Body).WriteTo(&b); err != nil {
		p.t.Fatal(err)
	}
	return b.String()
}
