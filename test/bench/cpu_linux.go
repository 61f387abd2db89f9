package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// processorTime is what a process has used in user and system mode, its threads
// that have ended included. It is the process's clock (clock_getcpuclockid(3)),
// exact to the nanosecond, where /proc/PID/stat counts in hundredths of a second.
func processorTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED: by the scheduler's count, not by ticks
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, err
	}
	return time.Duration(t.Nano()), nil
}
