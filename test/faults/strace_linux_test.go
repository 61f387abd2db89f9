package faults

import (
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// tracing wants strace to work on a process that is not its child.
func tracing() error {
	if err := root(); err != nil {
		return err
	}
	return tool("strace")()
}

// inject makes system calls of a running broker fail or take long, as strace's
// -e inject says it, until the result is called. strace counts when=N for each
// thread by itself.
func inject(t testing.TB, b *broker.Broker, faults ...string) (end func()) {
	t.Helper()
	var calls, args []string
	for _, f := range faults {
		name, _, _ := strings.Cut(f, ":")
		calls = append(calls, name)
		args = append(args, "-e", "inject="+f)
	}
	args = append([]string{"-f", "-o", "/dev/null", "-p", strconv.Itoa(b.PID()), "-e", "trace=" + strings.Join(calls, ",")}, args...)
	cmd := exec.Command("strace", args...)
	tracer := broker.Spawn(t, cmd)
	broker.Await(t, "strace holds every thread", func() bool {
		files, err := filepath.Glob("/proc/" + strconv.Itoa(b.PID()) + "/task/*/status")
		return err == nil && len(files) > 0 && allTraced(t, files)
	})
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-tracer.Ended()
	}
}

func allTraced(t testing.TB, files []string) bool {
	t.Helper()
	for _, file := range files {
		text := kernelFile(t, file)
		if text != "" && strings.Contains(text, "\nTracerPid:\t0\n") {
			return false
		}
	}
	return true
}
