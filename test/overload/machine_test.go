package overload

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tick is the unit of the times in /proc: USER_HZ, 100 on every architecture
// that Go knows.
const tick = 10 * time.Millisecond

// cpuOf is the processor time that a process has used, in user and system mode.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// utime and stime are the fields 14 and 15; the second may hold blanks.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return ticks(fields[11:13]...)
}

func ticks(fields ...string) (sum time.Duration, err error) {
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("processor time: %w", err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// cpu is the processor time that the broker has used.
func (w *world) cpu() time.Duration {
	w.t.Helper()
	d, err := cpuOf(w.PID())
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// busy is the time that all processors have worked, for whomever.
func busy() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	if len(f) < 9 {
		return 0, fmt.Errorf("/proc/stat: %q", line)
	}
	return ticks(f[1], f[2], f[3], f[6], f[7], f[8])
}

// watch tells how much of the machine others use.
type watch struct {
	t         *testing.T
	pids      []int
	at        time.Time
	busy, own time.Duration
	open      bool // a bound was missed while others used the machine
}

// tooBusy is the share of the machine that others may use before a ratio of
// latencies says nothing.
const tooBusy = 0.10

func (w *world) watch() *watch {
	w.t.Helper()
	m := &watch{t: w.t, pids: []int{os.Getpid(), w.PID()}, at: time.Now()}
	m.busy, m.own = m.read()
	return m
}

func (m *watch) read() (all, own time.Duration) {
	m.t.Helper()
	all, err := busy()
	for _, pid := range m.pids {
		used, e := cpuOf(pid)
		if e != nil {
			err = e
		}
		own += used
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return all, own
}

// others is the share of the machine that was used by others since the watch
// began.
func (m *watch) others() float64 {
	m.t.Helper()
	all, own := m.read()
	return max(0, (all-m.busy-own+m.own).Seconds()/time.Since(m.at).Seconds()/float64(runtime.NumCPU()))
}

// fault fails the test for a bound on speed. Where others used the machine it
// says nothing yet: decide does, when all that does not depend on speed has
// been looked at.
func (m *watch) fault(format string, args ...any) {
	m.t.Helper()
	if share := m.others(); share > tooBusy {
		m.open = true
		m.t.Logf("not decided, others used %.0f %% of the machine: "+format, append([]any{share * 100}, args...)...)
		return
	}
	m.t.Errorf(format, args...)
}

// decide ends a test that has called fault: it is skipped, and counted, if
// its bounds were missed on a busy machine and nothing else is wrong.
func (m *watch) decide() {
	m.t.Helper()
	if m.open && !m.t.Failed() {
		undecided.Add(1)
		m.t.Skip("not decided: the machine was busy with other work")
	}
}

// memory is a process's resident memory over a time.
type memory struct{ first, last, most int64 }

// memory watches the broker until the func that it returns is called: first is
// the most there was in the first third of that time, last in the last third.
func (w *world) memory() (stop func() memory) {
	ctx, cancel := context.WithCancel(w.t.Context())
	samples, ended := []int64{}, make(chan struct{})
	name := fmt.Sprintf("/proc/%d/status", w.PID())
	go func() {
		defer close(ended)
		every := time.NewTicker(50 * time.Millisecond)
		defer every.Stop()
		for ctx.Err() == nil {
			b, _ := os.ReadFile(name) // without a process there is nothing to add
			_, rest, _ := bytes.Cut(b, []byte("\nVmRSS:"))
			line, _, _ := bytes.Cut(rest, []byte(" kB\n"))
			if n, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64); err == nil {
				samples = append(samples, n<<10)
			}
			select {
			case <-every.C:
			case <-ctx.Done():
			}
		}
	}()
	return func() (m memory) {
		cancel()
		<-ended
		for i, n := range samples {
			m.most = max(m.most, n)
			switch {
			case 3*i < len(samples):
				m.first = max(m.first, n)
			case 3*i >= 2*len(samples):
				m.last = max(m.last, n)
			}
		}
		return m
	}
}

// check holds resident memory to its limit, and to being flat: an overload
// that goes on must not go on costing memory.
func (m memory) check(t *testing.T) {
	t.Helper()
	t.Logf("resident memory: at most %d MiB at first, %d MiB at last, %d MiB ever", m.first>>20, m.last>>20, m.most>>20)
	if m.most == 0 || m.most > memoryLimit {
		t.Errorf("resident memory of %d MiB, want at most %d MiB", m.most>>20, int64(memoryLimit>>20))
	}
	if m.last > m.first+m.first/2+16<<20 {
		t.Errorf("resident memory grew from %d to %d MiB while the overload went on", m.first>>20, m.last>>20)
	}
}
