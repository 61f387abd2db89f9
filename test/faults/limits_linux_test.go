package faults

import (
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/history"
)

// A flood of connections at a process of few file descriptors is answered, up
// to a bound; the log and the deliveries have theirs.
func TestFloodOfConnectionsLeavesDescriptorsToTheLog(t *testing.T) {
	needs(t, loops)
	beside(t)
	const most = 64
	v := newVolume(t, 48).mount()
	// The kernel may count one more, which is about to be refused.
	s := newStage(t, history.Rules{MaxFDs: most + 1}, broker.Options{
		Data:  filepath.Join(v.dir, "data"),
		Under: []string{"sh", "-c", "ulimit -n " + strconv.Itoa(most) + ` && exec "$0" "$@"`},
	})
	s.pad.Store(16 << 10)
	s.load(8)
	s.more(100)
	healed := s.Fault(history.Resource, "a flood of connections")
	before := s.accepted()
	conns := s.flood(4 * most)
	pause(t.Context(), 2*time.Second) // segments are rolled meanwhile
	during := s.accepted() - before
	s.look()
	for _, conn := range conns {
		_ = conn.Close()
	}
	began := time.Now()
	s.served()
	recovered := time.Since(began)
	healed()
	s.release()
	s.more(100)
	verdict := s.finish()
	figure(t, "%d connections against %d descriptors: %d acknowledged meanwhile, new connections are served %v after the flood, lost %d",
		len(conns), most, during, recovered.Round(time.Millisecond), verdict.Figures.Lost)
	if during == 0 {
		t.Error("connections that were there before were not served")
	}
}

// Descriptors that were there when the broker started are taken away, so that
// really none is left. The log refuses cleanly and is not stopped by it.
func TestBrokerWithoutAFreeDescriptorRecoversAndLosesNothing(t *testing.T) {
	needs(t, loops)
	beside(t)
	v := newVolume(t, 48).mount()
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(v.dir, "data")})
	s.pad.Store(16 << 10)
	s.load(8)
	s.more(100)
	var usual unix.Rlimit
	if err := unix.Prlimit(s.b.PID(), unix.RLIMIT_NOFILE, nil, &usual); err != nil {
		t.Fatal(err)
	}
	healed := s.Fault(history.Resource, "64 file descriptors")
	few := unix.Rlimit{Cur: 64, Max: usual.Max}
	if err := unix.Prlimit(s.b.PID(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	before := s.accepted()
	conns := s.flood(256)
	broker.Await(t, "all descriptors are taken", func() bool { return uint64(descriptors(t, s.b.PID())) >= few.Cur })
	s.answered(http.StatusServiceUnavailable) // there is no next segment
	during := s.accepted() - before
	for _, conn := range conns {
		_ = conn.Close()
	}
	if err := unix.Prlimit(s.b.PID(), unix.RLIMIT_NOFILE, &usual, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.served()
	s.answered(http.StatusAccepted)
	recovered := time.Since(began)
	healed()
	s.release()
	s.more(100)
	if n := s.answers[http.StatusInternalServerError].Load(); n != 0 {
		t.Errorf("%d answers 500", n)
	}
	verdict := s.finish()
	figure(t, "%d acknowledged without a free descriptor, all goes on after %v, lost %d",
		during, recovered.Round(time.Millisecond), verdict.Figures.Lost)
}

// flood opens up to n connections that say nothing.
func (s *stage) flood(n int) (conns []net.Conn) {
	s.t.Helper()
	for range n {
		conn, err := net.DialTimeout("tcp", s.b.Listen, time.Second)
		if err != nil {
			break // the kernel's queue is full as well
		}
		s.t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	return conns
}

// served waits until a new connection is served.
func (s *stage) served() {
	s.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: broker.Patience}
	broker.Await(s.t, "a new connection is served", func() bool {
		resp, err := client.Get("http://" + s.b.Listen + "/")
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil && resp.StatusCode == http.StatusMethodNotAllowed
	})
}

// descriptors counts a process's open files.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	names, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// Five times what it can take, inside a limit: it sheds, and is not killed.
func TestBrokerInAMemoryLimitShedsInsteadOfDying(t *testing.T) {
	needs(t, controller("memory"))
	beside(t)
	const limit = 256 << 20
	group := newCgroup(t, "memory")
	set(t, filepath.Join(group, "memory.limit_in_bytes"), strconv.Itoa(limit))
	s := newStage(t, history.Rules{MaxRSS: limit}, broker.Options{
		Data: filepath.Join(t.TempDir(), "data"), Under: inside(group), Env: []string{"GOMEMLIMIT=" + strconv.Itoa(limit*3/4)},
	})
	s.pad.Store(512 << 10)
	healed := s.Fault(history.Overload, "512 senders of half a MiB")
	s.load(512)
	for began := time.Now(); time.Since(began) < 4*time.Second; {
		s.look()
		pause(t.Context(), 50*time.Millisecond)
	}
	s.quiet()
	healed()
	if killed := kernelFile(t, filepath.Join(group, "memory.oom_control")); !strings.Contains(killed, "oom_kill 0\n") {
		t.Errorf("memory.oom_control says\n%s", killed)
	}
	shed := s.answers[http.StatusTooManyRequests].Load()
	if shed == 0 {
		t.Error("nothing was refused: that is no overload")
	}
	verdict := s.finish()
	figure(t, "limit %d MiB: %d acknowledged, %d refused with 429, at most %d MiB resident, OOM kills 0, lost %d",
		limit>>20, s.accepted(), shed, s.resident>>20, verdict.Figures.Lost)
}

// A limit that is too small for the load: the kernel kills the broker in the
// middle of it, which is a SIGKILL like any other.
func TestBrokerKilledForItsMemoryLosesNothing(t *testing.T) {
	needs(t, controller("memory"))
	beside(t)
	group := newCgroup(t, "memory")
	limit := filepath.Join(group, "memory.limit_in_bytes")
	set(t, limit, strconv.Itoa(64<<20))
	s := newStage(t, history.Rules{}, broker.Options{Data: filepath.Join(t.TempDir(), "data"), Under: inside(group), Env: []string{"GOMEMLIMIT=off"}})
	s.load(8)
	s.more(200)
	s.pad.Store(512 << 10)
	s.Fault(history.Kill, "out of memory")
	s.load(256)
	select {
	case <-s.b.Ended():
	case <-time.After(broker.Patience):
		t.Fatal("the kernel has not killed it")
	}
	s.quiet()
	if status, ok := s.b.State().Sys().(interface{ Signal() unix.Signal }); !ok || status.Signal() != unix.SIGKILL {
		t.Fatalf("the broker ended with %v", s.b.State())
	}
	set(t, limit, "-1")
	s.restart()
	verdict := s.finish()
	figure(t, "%d acknowledged before the kernel killed it, lost %d", s.accepted(), verdict.Figures.Lost)
}
