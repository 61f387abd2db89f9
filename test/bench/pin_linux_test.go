package main

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func processors(t *testing.T) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set.Count()
}

// What is started has one processor, and whoever started it all of its own again.
func TestPinnedProcessHasOneProcessor(t *testing.T) {
	before := processors(t)
	var told []byte
	err := onProcessors(1, func() (err error) {
		told, err = exec.Command("grep", "Cpus_allowed_list", "/proc/self/status").Output()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, list, _ := strings.Cut(string(told), ":"); strings.ContainsAny(strings.TrimSpace(list), ",-") || strings.TrimSpace(list) == "" {
		t.Errorf("a process that is to have one processor has %q", told)
	}
	if after := processors(t); after != before {
		t.Errorf("%d processors afterwards, %d before", after, before)
	}
}

func TestPinningRefusesProcessorsThatAreNotThere(t *testing.T) {
	err := onProcessors(processors(t)+1, func() error {
		t.Error("started all the same")
		return nil
	})
	if err == nil {
		t.Error("no error")
	}
	refused := errors.New("no")
	if err := onProcessors(1, func() error { return refused }); !errors.Is(err, refused) {
		t.Errorf("%v instead of why the start failed", err)
	}
}
