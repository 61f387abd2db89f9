// Package broker runs the real penstock binary for tests: it builds it, starts
// it on loopback addresses of its own, reads what it prints, asks its API, and
// ends it gently or with kill -9.
//
// It promises that no process outlives its test. A Broker belongs to one
// goroutine; its addresses may be read by any number.
package broker

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
)

// Patience is how long a test waits for what must happen. It is no measure of
// the product: machines that run many tests at once are slow.
const Patience = 60 * time.Second

// Build compiles a command of this module into dir, with further flags of go
// build, and returns its path.
func Build(dir, pkg string, flags ...string) (string, error) {
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.Command("go", slices.Concat([]string{"build", "-o", out}, flags, []string{"github.com/penstock-events/penstock/" + pkg})...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return out, nil
}

// Options say how to start a Broker. Binary is needed.
type Options struct {
	Binary string
	Files  []string // -f
	Data   string   // --data; "" is a new folder
	Args   []string // further flags of serve
	Under  []string // a command that ends by executing the one given behind it, with limits set
	Env    []string // added to this process's environment
}

// Broker is one penstock process, and its successors on the same addresses
// and the same data.
type Broker struct {
	Data   string
	Listen string // address of the ingress, HOST:PORT
	API    string // URL of the API's root, without a path

	t       testing.TB
	o       Options
	api     string // addresses
	metrics string
	p       *process
}

// Start starts a broker and returns when it is ready.
func Start(t testing.TB, o Options) *Broker {
	t.Helper()
	if o.Data == "" {
		o.Data = filepath.Join(t.TempDir(), "data")
	}
	b := &Broker{Data: o.Data, t: t, o: o}
	for range 5 { // somebody else may be quicker to take a free address
		b.Listen, b.api, b.metrics = FreeAddress(t), FreeAddress(t), FreeAddress(t)
		b.API = "http://" + b.api
		err := b.start()
		if err == nil {
			return b
		}
		if !strings.Contains(err.Error(), "another process uses this address") {
			t.Fatal(err)
		}
	}
	t.Fatal("no free address was found")
	return nil
}

// Restart starts the broker again after Kill or Stop.
func (b *Broker) Restart() {
	b.t.Helper()
	if err := b.start(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *Broker) start() error {
	args := []string{"serve", "--listen", b.Listen, "--api-listen", b.api, "--metrics-listen", b.metrics, "--data", b.o.Data}
	for _, f := range b.o.Files {
		args = append(args, "-f", f)
	}
	args = slices.Concat(b.o.Under, []string{b.o.Binary}, args, b.o.Args)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), b.o.Env...)
	p, err := launch(b.t, cmd)
	if err != nil {
		return err
	}
	b.p = p
	_, err = p.line(regexp.MustCompile(`^Send an event:`))
	return err
}

// URL is where events for a Broker are posted.
func (b *Broker) URL(namespace, name string) string {
	return "http://" + b.Listen + "/" + namespace + "/" + name
}

// Default is where events for default/default are posted.
func (b *Broker) Default() string { return b.URL("default", "default") }

// Kill ends the process as a power cut would, as far as the process knows.
func (b *Broker) Kill() {
	_ = b.p.cmd.Process.Kill()
	<-b.p.ended
}

// Stop asks the process to end and returns its exit code.
func (b *Broker) Stop() int {
	b.t.Helper()
	return b.p.stop(b.t)
}

// Log is what the process, or the last one, has written to standard error.
func (b *Broker) Log() string { return b.p.stderr.String() }

// Trigger is a Trigger of the namespace default as the API shows it.
func (b *Broker) Trigger(name string) v1.Trigger {
	b.t.Helper()
	var tr v1.Trigger
	b.Get("/api/v1/triggers/default/"+name, &tr)
	return tr
}

// Get reads JSON from the API.
func (b *Broker) Get(path string, into any) {
	b.t.Helper()
	client := http.Client{Timeout: Patience}
	resp, err := client.Get(b.API + path)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("GET %s: status %d: %v", path, resp.StatusCode, err)
	}
}

// AwaitSettled waits until nothing is pending for the named Triggers.
func (b *Broker) AwaitSettled(names ...string) {
	b.t.Helper()
	Await(b.t, "nothing pending for "+strings.Join(names, ", "), func() bool {
		return !slices.ContainsFunc(names, func(name string) bool { return b.Trigger(name).Backlog > 0 })
	})
}

// Await polls until something is so, and fails the test when it takes too long.
func Await(t testing.TB, what string, so func() bool) {
	t.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v still not so: %s", Patience, what)
		}
	}
}
