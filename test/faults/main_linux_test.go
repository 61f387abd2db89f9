package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// Set before the tests begin.
var (
	penstock string // the binary
	careless string // the same without its syncs: it must be caught losing
	scratch  string // a tmpfs for disk images; "" where nothing can be mounted
)

// namePrefix begins the name of all that could outlive a run that was killed.
const namePrefix = "penstock-faults-"

// scratchVar tells the process in the namespace where to mount its scratch.
const scratchVar = "PENSTOCK_FAULTS_SCRATCH"

func TestMain(m *testing.M) {
	if os.Getuid() == 0 && os.Getenv(scratchVar) == "" {
		os.Exit(isolated())
	}
	os.Exit(run(m))
}

// isolated runs this program again in a mount namespace of its own: however
// it ends, its mounts end with it, and their loop devices with them.
func isolated() int {
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", namePrefix, os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	runtime.LockOSThread() // the child dies with the thread that made it
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), scratchVar+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "faults: a mount namespace: %v\n", err)
		_ = os.Setenv(scratchVar, "none")
		cmd = exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			return 1
		}
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // says so if it has ended
		}
	}()
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		return 1
	}
	return 0
}

func run(m *testing.M) int {
	for _, left := range leftovers() {
		fmt.Fprintln(os.Stderr, "faults: left over from a run that was killed:", left)
	}
	if dir := os.Getenv(scratchVar); dir != "" && dir != "none" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2g,mode=0700"); err == nil {
			scratch = dir
		}
	}
	bin, err := os.MkdirTemp(scratch, namePrefix+"bin-") // "": the usual place
	if err == nil {
		defer os.RemoveAll(bin)
		penstock, err = broker.Build(bin, "cmd/penstock")
	}
	if err == nil {
		careless, err = broker.Build(filepath.Join(bin, "careless"), "cmd/penstock", "-tags", "unsafe_nosync")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	tally.print()
	return code
}

// tally is what a run has to say at its end, also without -v.
var tally summary

type summary struct {
	mu      sync.Mutex
	tests   int
	skipped []string
	figures []string
}

func (s *summary) print() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.figures {
		fmt.Fprintln(os.Stderr, "faults:", f)
	}
	if s.tests == 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "faults: %d of %d fault tests were skipped\n", len(s.skipped), s.tests)
	for _, why := range s.skipped {
		fmt.Fprintln(os.Stderr, "faults: skipped", why)
	}
}

// figure reports a measured result.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	tally.mu.Lock()
	defer tally.mu.Unlock()
	tally.figures = append(tally.figures, t.Name()+": "+text)
}

// needs counts the test and skips it, visibly, where something is missing.
// Every test begins with it.
func needs(t *testing.T, wants ...func() error) {
	t.Helper()
	var missing []string
	for _, want := range wants {
		if err := want(); err != nil {
			missing = append(missing, err.Error())
		}
	}
	tally.mu.Lock()
	defer tally.mu.Unlock()
	tally.tests++
	if len(missing) > 0 {
		why := strings.Join(missing, "; ")
		tally.skipped = append(tally.skipped, t.Name()+": "+why)
		t.Skip("skipped: " + why)
	}
}

// disturbance is held for reading by tests that may run beside each other, and
// for writing by what must have the machine for itself for a moment.
var disturbance sync.RWMutex

// beside lets a test run beside others. It is called once by a test.
func beside(t *testing.T) {
	t.Helper()
	t.Parallel()
	disturbance.RLock()
	t.Cleanup(disturbance.RUnlock)
}

// root is needed to signal, trace and confine as these tests do.
func root() error {
	if os.Getuid() != 0 {
		return errors.New("needs root")
	}
	return nil
}

// tool wants a program to be installed.
func tool(name string) func() error {
	return func() error {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("needs %s", name)
		}
		return nil
	}
}
