package standalone_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// wakeUps is how often threads of the process have gone to sleep so far, each
// of which they were woken from. That others keep the machine busy adds none:
// who is preempted is counted elsewhere.
func (p *process) wakeUps() (n int) {
	p.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		p.t.Fatalf("no threads of %d: %v", p.cmd.Process.Pid, err)
	}
	for _, name := range threads {
		status, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
		line, _, _ := strings.Cut(rest, "\n")
		v, _ := strconv.Atoi(strings.TrimSpace(line))
		n += v
	}
	return n
}

// A process that nobody sends anything to costs nothing: whatever ticks in it
// without having anything to do is a fault.
func TestAnIdleProcessSleeps(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	// Each time that something ticks costs a handful, and more where the machine is
	// busy: the runtime's own thread naps by microseconds while others work. With
	// files and a window there are two looks each ten seconds.
	const watched = 15 * time.Second
	for what, c := range map[string]struct {
		yaml string
		most int
	}{
		"without files": {"", 15},
		"with a Broker that knows duplicates, and a Trigger": {fmt.Sprintf(shopYAML, "http://127.0.0.1:1"), 150},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.yaml != "" {
				if err := os.WriteFile(filepath.Join(dir, "brokers.yaml"), []byte(c.yaml), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := serve(t, dir)
			// What follows a start, on a busy machine: the first looks of all that rests
			// after them, and that the runtime gives memory back.
			time.Sleep(8 * time.Second)
			before := p.wakeUps()
			time.Sleep(watched)
			if n := p.wakeUps() - before; n > c.most {
				t.Errorf("%d wake-ups in %v, want at most %d", n, watched, c.most)
			} else {
				t.Logf("%d wake-ups in %v", n, watched)
			}
		})
	}
}
