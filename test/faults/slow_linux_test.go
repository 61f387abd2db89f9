package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
	"github.com/penstock-events/penstock/test/proof"
)

// residentBound is what the broker may take in memory however slow its disk
// is: bodies in flight, the queue before the log and the tail of the log have
// bounds that come to half of it.
const residentBound = 256 << 20

// A disk of 50 operations a second makes acknowledgements late, not wrong, and
// many of them share one operation.
func TestSlowDiskMakesAcknowledgementsLateAndLosesNone(t *testing.T) {
	needs(t, loops, controller("blkio"))
	beside(t)
	v := newVolume(t, 256).mount()
	group := newCgroup(t, "blkio")
	s := newStage(t, history.Rules{MaxRSS: residentBound}, broker.Options{Data: filepath.Join(v.dir, "data"), Under: inside(group)})
	quick := s.latencies(time.Second)
	healed := s.Fault(history.SlowDisk, "50 operations a second")
	var device unix.Stat_t
	if err := unix.Fstat(int(v.device.Fd()), &device); err != nil {
		t.Fatal(err)
	}
	throttle := filepath.Join(group, "blkio.throttle.write_iops_device")
	id := fmt.Sprintf("%d:%d", unix.Major(uint64(device.Rdev)), unix.Minor(uint64(device.Rdev)))
	set(t, throttle, id+" 50")
	before := writes(t, group, id)
	began := time.Now()
	slow := s.latencies(3 * time.Second)
	rate := float64(writes(t, group, id)-before) / time.Since(began).Seconds()
	set(t, throttle, id+" 0")
	healed()
	verdict := s.finish()
	figure(t, "from send to 202, median and p99: %v, with a disk of %.0f operations a second %v; lost %d", quick, rate, slow, verdict.Figures.Lost)
	if rate == 0 || rate > 75 {
		t.Errorf("%.0f operations a second: the disk was not slow", rate)
	}
}

// writes counts the write operations of a cgroup on a device.
func writes(t *testing.T, group, device string) (n int64) {
	t.Helper()
	for line := range strings.Lines(kernelFile(t, filepath.Join(group, "blkio.throttle.io_serviced"))) {
		if _, err := fmt.Sscanf(line, device+" Write %d", &n); err == nil {
			return n
		}
	}
	return 0
}

// latency is a distribution in two numbers.
type latency struct{ median, p99 time.Duration }

func (l latency) String() string {
	return fmt.Sprintf("%v and %v", l.median.Round(100*time.Microsecond), l.p99.Round(100*time.Microsecond))
}

// latencies sends 100 events a second for d, each at its time whatever became
// of those before, and returns how long the acknowledged ones took.
func (s *stage) latencies(d time.Duration) latency {
	s.t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	rng := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	load := history.Load{Rate: 100, Next: func() history.Event { return s.event(rng) }, Send: func(ctx context.Context, e history.Event) int {
		began := time.Now()
		code := s.sendEvent(ctx, e)
		if code == http.StatusAccepted {
			mu.Lock()
			all = append(all, time.Since(began))
			mu.Unlock()
		}
		return code
	}}
	ctx, cancel := context.WithTimeout(s.t.Context(), d)
	defer cancel()
	load.Run(ctx)
	if len(all) == 0 {
		s.t.Fatal("no event was acknowledged")
	}
	slices.Sort(all)
	return latency{all[len(all)/2], all[len(all)*99/100]}
}

// While a sync takes for ever the queue fills to its bound: what is over it is
// refused at once, with a time to come back, and memory stays where it is.
func TestStalledSyncShedsAtTheBoundAndLosesNothing(t *testing.T) {
	needs(t, tracing)
	beside(t)
	stall := 2 * time.Second
	if proof.Full() {
		stall = 30 * time.Second
	}
	s := newStage(t, history.Rules{MaxRSS: residentBound}, broker.Options{Data: filepath.Join(t.TempDir(), "data")})
	s.sender.Timeout = stall / 2 // nobody waits so long, and what was not answered is not lost
	s.pad.Store(256 << 10)
	s.load(8)
	s.more(50)
	s.quiet()
	healed := s.Fault(history.SlowDisk, "a sync that stalls")
	end := inject(t, s.b, fmt.Sprintf("fdatasync:delay_exit=%d:when=1", stall.Microseconds()))
	began := time.Now()
	s.load(200) // 50 MiB under way
	for time.Since(began) < stall {
		s.look()
		pause(t.Context(), 50*time.Millisecond)
	}
	s.quiet()
	end()
	healed()
	shed := s.answers[http.StatusTooManyRequests].Load() + s.answers[http.StatusServiceUnavailable].Load()
	if shed == 0 {
		t.Error("nothing was refused: the queue has no bound")
	}
	s.pad.Store(0)
	s.load(8)
	s.more(100)
	verdict := s.finish()
	figure(t, "a sync of %v: %d acknowledged, %d refused, %d without an answer, at most %d MiB resident, lost %d",
		stall, s.accepted(), shed, s.answers[0].Load(), s.resident>>20, verdict.Figures.Lost)
}
