package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const stopTimeout = 15 * time.Second

// process is one program that this one has started. What it writes goes to a
// file, and into the error if it ends before it should.
type process struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
	pids  []int // of processes that others have started, instead of cmd
}

// family are the processes that are measured.
func (p *process) family() []int {
	if p.cmd == nil {
		return p.pids
	}
	return family(p.cmd.Process.Pid)
}

func start(name, dir, program string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.Command(program, args...), log: filepath.Join(dir, name+".log"), ended: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the exit code says nothing that its output does not
	}()
	return p, nil
}

// stop asks the process to end, and after a while kills it and its children.
func (p *process) stop() {
	tree := family(p.cmd.Process.Pid)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		for _, pid := range tree {
			if child, err := os.FindProcess(pid); err == nil {
				_ = child.Kill()
			}
		}
		<-p.ended
	}
}

// alive is an error with the last of what the process wrote if it has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s has ended: %s", p.name, p.tail())
	default:
		return nil
	}
}

func (p *process) tail() string {
	b, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(len(lines)-5, 0):], "\n")
}

// listening waits until something accepts connections there.
func (p *process) listening(ctx context.Context, address string) error {
	return p.until(ctx, 20*time.Second, "listen on "+address, func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// until waits for what a process is to do.
func (p *process) until(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	return p.poll(ctx, 10*time.Millisecond, limit, what, done)
}

// poll is until, as often as it takes to measure.
func (p *process) poll(ctx context.Context, every, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(every)
	defer poll.Stop()
	for !done() {
		select {
		case <-p.ended:
			return p.alive()
		case <-ctx.Done():
			return fmt.Errorf("%s does not %s: %w: %s", p.name, what, ctx.Err(), p.tail())
		case <-poll.C:
		}
	}
	return nil
}

// cpu is the processor time that the process and its living descendants have
// used, in user and system mode.
func (p *process) cpu() (time.Duration, error) {
	var total time.Duration
	for _, pid := range p.family() {
		used, err := processorTime(pid)
		if err != nil {
			return 0, fmt.Errorf("processor time of %s: %w", p.name, err)
		}
		total += used
	}
	return total, nil
}

// memory is the resident memory of the process and its descendants in bytes:
// now, and the most there has been of each.
func (p *process) memory() (now, peak int64) {
	for _, pid := range p.family() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		now += kib(b, "VmRSS:")
		peak += kib(b, "VmHWM:")
	}
	return now, peak
}

// kib reads a line such as "VmRSS:   1234 kB".
func kib(status []byte, name string) int64 {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(line)), " kB"), 10, 64)
	return n << 10
}

// stat are the fields of /proc/PID/stat from the third, the state: the second
// may hold blanks.
func stat(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 13 {
		return nil, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

// family is a process and its descendants.
func family(root int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
		if fields, err := stat(pid); err == nil {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	pids := []int{root}
	for i := 0; i < len(pids); i++ {
		pids = append(pids, children[pids[i]]...)
	}
	return pids
}

// Ports below those that Linux gives to outgoing connections (ip_local_port_range):
// of these there are thousands in a run, and one may have taken what was free a moment ago.
const (
	firstPort = 10_000
	ports     = 20_000
)

// freePort is an address on loopback that nobody listened on a moment ago.
func freePort() (address string, err error) {
	for range 100 {
		var l net.Listener
		address = fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(ports))
		if l, err = net.Listen("tcp", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("free port: %w", err)
}
