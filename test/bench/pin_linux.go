package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// onProcessors starts something whose processes may run on n processors only,
// the first of those that this process has. A thread hands its processors to
// what it starts, and Go takes their number for GOMAXPROCS.
func onProcessors(n int, start func() error) (err error) {
	runtime.LockOSThread()
	var all, some unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("read the processors of a thread: %w", err)
	}
	for cpu := 0; some.Count() < n; cpu++ {
		if all.Count() < n {
			runtime.UnlockOSThread()
			return fmt.Errorf("%d processors are needed, there are %d", n, all.Count())
		}
		if all.IsSet(cpu) {
			some.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &some); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("choose %d processors: %w", n, err)
	}
	defer func() {
		// A thread that stays locked ends with its goroutine. Where it cannot have
		// all processors back, it must not serve others.
		if restored := unix.SchedSetaffinity(0, &all); restored != nil {
			err = errors.Join(err, fmt.Errorf("give a thread its processors back: %w", restored))
			return
		}
		runtime.UnlockOSThread()
	}()
	return start()
}

// sameProcessors moves processes that run to the processors of this thread;
// restore gives them back those they had.
func sameProcessors(pids []int) (restore func() error, err error) {
	var here, before unix.CPUSet
	if len(pids) == 0 {
		return nil, errors.New("there is no process to move")
	}
	if err := errors.Join(unix.SchedGetaffinity(0, &here), unix.SchedGetaffinity(pids[0], &before)); err != nil {
		return nil, fmt.Errorf("read the processors of a process: %w", err)
	}
	if err := moveAll(pids, &here); err != nil {
		return nil, errors.Join(err, moveAll(pids, &before))
	}
	return func() error { return moveAll(pids, &before) }, nil
}

// moveAll moves every thread that lives; a new one has the processors of the one
// that started it.
func moveAll(pids []int, to *unix.CPUSet) error {
	for _, pid := range pids {
		tasks, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "task"))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			id, err := strconv.Atoi(task.Name())
			if err != nil {
				continue
			}
			if err := unix.SchedSetaffinity(id, to); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("choose the processors of %d: %w", id, err)
			}
		}
	}
	return nil
}
