package overload

import (
	"syscall"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/proof"
)

// When a broker comes back so do all its clients, in the same moment.
func TestAHerdOfClientsAfterARestartIsServed(t *testing.T) {
	clients, rate, settle := 2000, 1000.0, 6*time.Second
	if !proof.Full() {
		clients, rate, settle = 300, 300, 0
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Cur < uint64(clients)+200 {
		undecided.Add(1)
		t.Skipf("%d clients need more open files than the %d allowed here: %v", clients, files.Cur, err)
	}
	w := start(t, func(subscriber string) string {
		return brokerYAML("herd") + triggerYAML("all", "herd", subscriber+"/herd")
	})
	steady := load.Options{Connections: clients, Rate: rate, Duration: span(2*time.Second, time.Second)}
	before := w.offer("herd", steady)
	w.reconcile("herd")

	if code := w.Stop(); code != 0 {
		t.Errorf("the broker ended with exit code %d", code)
	}
	w.Restart()
	memory := w.memory()
	herd := w.offer("herd", load.Options{Connections: clients, Events: 2 * clients})
	if herd.Accepted != uint64(2*clients) {
		t.Errorf("of %d events of the herd %d were accepted, refusals %v", 2*clients, herd.Accepted, herd.Status)
	}
	if settle > 0 {
		w.offer("herd", load.Options{Connections: clients, Rate: rate, Duration: settle})
	}
	after := w.offer("herd", steady)
	used := memory()
	if after.Accepted != after.Sent {
		t.Errorf("after the herd %d of %d events were refused: %v", after.Refused, after.Sent, after.Status)
	}
	w.reconcile("herd")
	used.check(t)
	t.Logf("%d clients at once: all answered in %v, p50 %v, p99 %v", clients, herd.Elapsed.Round(time.Millisecond), herd.P50, herd.P99)
	t.Logf("p99 before the restart %v, from %v after the herd %v: %.2f times", before.P99, settle, after.P99, after.P99.Seconds()/before.P99.Seconds())
}
