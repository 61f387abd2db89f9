package main

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// The clock and /proc/PID/stat count the same, the latter in hundredths.
func TestProcessorTimeIsWhatTheKernelAlsoTellsElsewhere(t *testing.T) {
	for end := time.Now().Add(50 * time.Millisecond); time.Now().Before(end); {
	}
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	fields, err := stat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var told time.Duration
	for _, f := range fields[11:13] { // utime and stime, proc(5) fields 14 and 15
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		told += time.Duration(n) * 10 * time.Millisecond // USER_HZ is 100
	}
	after, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if before <= 0 || told < before-20*time.Millisecond || told > after+10*time.Millisecond {
		t.Errorf("/proc tells %v, the clock %v before and %v after", told, before, after)
	}
	if _, err := processorTime(1 << 22); err == nil { // above the largest pid
		t.Error("a process that is not there has used processor time")
	}
}
