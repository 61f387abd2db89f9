package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// machine is what a reader must know to judge the figures, and nothing that
// names the machine.
type machine struct {
	date       time.Time
	cpu        string
	cores      int
	memory     int64
	kernel     string
	goVersion  string
	fileSystem string
	busy       string // load average of the last minute when the run began
}

// thisMachine reads /proc; what is not there is "unknown". dir is where the disk rows write.
func thisMachine(dir string) machine {
	m := machine{
		date: time.Now(), cpu: "unknown", cores: runtime.NumCPU(),
		kernel: "unknown", goVersion: runtime.Version(), fileSystem: "unknown", busy: "unknown",
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, rest, ok := strings.Cut(string(b), "model name"); ok {
			line, _, _ := strings.Cut(rest, "\n")
			m.cpu = strings.TrimLeft(line, "\t :")
		}
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		m.memory = kib(append([]byte("\n"), b...), "MemTotal:")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.busy, _, _ = strings.Cut(string(b), " ")
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		if abs, err := filepath.Abs(dir); err == nil {
			if fs := fileSystem(string(b), abs); fs != "" {
				m.fileSystem = fs
			}
		}
	}
	return m
}

// fileSystem is the type of the mount that dir lies on: the one with the
// longest mount point above it, the last of equals (proc_pid_mountinfo(5)).
func fileSystem(mounts, dir string) (kind string) {
	longest := -1
	for line := range strings.Lines(mounts) {
		before, after, found := strings.Cut(line, " - ")
		fields, types := strings.Fields(before), strings.Fields(after)
		if !found || len(fields) < 5 || len(types) == 0 {
			continue
		}
		point := strings.ReplaceAll(fields[4], `\040`, " ")
		if point != "/" && dir != point && !strings.HasPrefix(dir, point+"/") {
			continue
		}
		if len(point) >= longest {
			longest, kind = len(point), types[0]
		}
	}
	return kind
}

func (m machine) String() string {
	s := fmt.Sprintf("%s, %d cores, %d GiB, Linux %s, %s, %s", m.cpu, m.cores, m.memory>>30, m.kernel, m.goVersion, m.fileSystem)
	if busy, err := strconv.ParseFloat(m.busy, 64); err == nil {
		s += fmt.Sprintf(", load average %.1f before the start", busy)
	}
	return s
}
