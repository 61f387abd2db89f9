package broker

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// PID is the process id of the broker, or of the last one.
func (b *Broker) PID() int { return b.p.cmd.Process.Pid }

// Signal sends the process a signal.
func (b *Broker) Signal(s os.Signal) {
	b.t.Helper()
	if err := b.p.cmd.Process.Signal(s); err != nil {
		b.t.Fatalf("%v for the broker: %v", s, err)
	}
}

// Quit has the process end with the stacks of all goroutines in its log, if it
// is still there.
func (b *Broker) Quit() {
	_ = b.p.cmd.Process.Signal(syscall.SIGQUIT) // says so if it has ended
	select {
	case <-b.p.ended:
	case <-time.After(Patience):
	}
}

// Ended is closed when the process has ended.
func (b *Broker) Ended() <-chan struct{} { return b.p.ended }

// State says how the process has ended. Ended must be closed.
func (b *Broker) State() *os.ProcessState { return b.p.cmd.ProcessState }

// TryRestart is Restart for a broker that may well refuse to start.
func (b *Broker) TryRestart() error { return b.start() }

// Probe asks the API for a path, such as /readyz, and returns the status with
// the body; 0 where nobody answers in time.
func (b *Broker) Probe(path string, timeout time.Duration) (int, string) {
	client := http.Client{Timeout: timeout}
	resp, err := client.Get(b.API + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return 0, fmt.Sprintf("GET %s: %v", path, err)
	}
	return resp.StatusCode, string(text)
}

// Spawn starts a program that prints nothing to wait for.
func Spawn(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p, err := launch(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	return &Process{t: t, p: p}
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.p.ended }
