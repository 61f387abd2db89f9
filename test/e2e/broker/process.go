package broker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is another program of a test, such as a subscriber.
type Process struct {
	t testing.TB
	p *process
}

// Launch starts a program and returns when a line of its output matches.
func Launch(t testing.TB, ready string, cmd *exec.Cmd) (*Process, []string) {
	t.Helper()
	p, err := launch(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	match, err := p.line(regexp.MustCompile(ready))
	if err != nil {
		t.Fatal(err)
	}
	return &Process{t: t, p: p}, match
}

// Output is what the program has written to standard output.
func (p *Process) Output() string { return p.p.stdout.String() }

// Await waits for a line of the program's output and returns its submatches.
func (p *Process) Await(line string) []string {
	p.t.Helper()
	match, err := p.p.line(regexp.MustCompile(line))
	if err != nil {
		p.t.Fatal(err)
	}
	return match
}

// Kill ends the program at once.
func (p *Process) Kill() {
	_ = p.p.cmd.Process.Kill()
	<-p.p.ended
}

// Stop asks the program to end and returns its exit code.
func (p *Process) Stop() int {
	p.t.Helper()
	return p.p.stop(p.t)
}

// Run runs a program to its end.
func Run(t testing.TB, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	p, err := launch(t, cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(Patience):
		t.Fatalf("%s has not ended after %v\n%s", cmd.Path, Patience, p.stderr.String())
	}
	return cmd.ProcessState.ExitCode(), p.stdout.String(), p.stderr.String()
}

// process is a child and what it has written.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr text
	ended          chan struct{} // closed when it has ended and all it wrote is there
}

func launch(t testing.TB, cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	p.stdout.changed, p.stderr.changed = make(chan struct{}), make(chan struct{})
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	errOut, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		var readers sync.WaitGroup
		readers.Go(func() { p.stdout.fill(out) })
		readers.Go(func() { p.stderr.fill(errOut) })
		readers.Wait()
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // says so if it has ended already
		<-p.ended
	})
	return p, nil
}

func (p *process) stop(t testing.TB) int {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	select {
	case <-p.ended:
	case <-time.After(Patience):
		t.Fatalf("process has not ended %v after SIGTERM\n%s", Patience, p.stderr.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// line waits for a line of the output that matches.
func (p *process) line(want *regexp.Regexp) ([]string, error) {
	deadline := time.After(Patience)
	for {
		changed := p.stdout.next()
		select { // before the look, so that the last line is looked at
		case <-p.ended:
			changed = nil
		default:
		}
		for line := range strings.Lines(p.stdout.String()) {
			if m := want.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
				return m, nil
			}
		}
		if changed == nil {
			return nil, fmt.Errorf("%s ended with %v before it printed %q\n%s", p.cmd, p.cmd.ProcessState, want, p.stderr.String())
		}
		select {
		case <-changed:
		case <-p.ended:
		case <-deadline:
			return nil, fmt.Errorf("%s has not printed %q after %v\n%s", p.cmd, want, Patience, p.stderr.String())
		}
	}
}

// text grows and tells so.
type text struct {
	mu      sync.Mutex
	b       strings.Builder
	changed chan struct{}
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// next is closed at the next change.
func (t *text) next() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// fill takes whole lines, so that nobody sees half of one.
func (t *text) fill(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		t.mu.Lock()
		t.b.WriteString(line)
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}
