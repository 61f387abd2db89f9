package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// penstock and subscriber are the binaries; set before the tests begin.
var penstock, subscriber string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "penstock-e2e")
	if err == nil {
		defer os.RemoveAll(dir)
		penstock, err = broker.Build(dir, "cmd/penstock")
	}
	if err == nil {
		subscriber, err = broker.Build(dir, "examples/subscriber")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// start starts a broker with the configuration in files.
func start(t *testing.T, files ...string) *broker.Broker {
	t.Helper()
	return broker.Start(t, broker.Options{Binary: penstock, Files: files})
}

// ask runs a command of the command line against a broker and returns what it
// printed. The command must do well.
func ask(t *testing.T, b *broker.Broker, args ...string) string {
	t.Helper()
	cmd := exec.Command(penstock, args...)
	cmd.Env = append(os.Environ(), "PENSTOCK_API="+b.API, "PENSTOCK_URL=http://"+b.Listen)
	code, out, errOut := broker.Run(t, cmd)
	if code != 0 {
		t.Fatalf("penstock %q: exit code %d\n%s%s", args, code, out, errOut)
	}
	return out
}

// write makes a file in place of the old one, as editors do.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
