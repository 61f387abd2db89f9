package main

import (
	"fmt"
	"os"
	"sync"
	"time"
)

// lookEvery is how often the memory of a process is looked at.
const lookEvery = 100 * time.Millisecond

// residence watches the resident memory of one process after another, by phase.
// What it misses between two looks is in the peak that the kernel keeps, which is
// of no phase: most has it.
type residence struct {
	mu  sync.Mutex
	pid int
	all []phase
	top int64
}

type phase struct {
	name       string
	most, last int64
}

// of says whose memory it is from now on.
func (r *residence) of(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pid = pid
}

// phase begins one.
func (r *residence) phase(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, phase{name: name})
}

// watch looks until the function it returns is called.
func (r *residence) watch() (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.look()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

func (r *residence) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid))
	if err != nil {
		return // between two processes
	}
	now := kib(status, "VmRSS:")
	r.top = max(r.top, kib(status, "VmHWM:"))
	if n := len(r.all); n > 0 && now > 0 {
		p := &r.all[n-1]
		p.most, p.last = max(p.most, now), now
	}
}

// phases are all, in their order.
func (r *residence) phases() []phase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]phase(nil), r.all...)
}

// most is the most there has been at any time, by the kernel's own account.
func (r *residence) most() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.top
}
