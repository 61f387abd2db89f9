package overload

import (
	"net/http"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/e2e/broker"
)

// Without a rate limit it is the channel's bound that refuses. Here the memory
// channel's; with the disk channel it is the queue before the disk, see test/faults.
func TestAFullChannelRefusesAtOnceAndTakesEventsAgainWhenThereIsRoom(t *testing.T) {
	address, hung := listen(t) // nobody takes what comes
	w := start(t, func(string) string {
		return brokerYAML("small", "channel: memory", "max-bytes: 4Mi") + triggerYAML("hung", "small", "http://"+address+"/small")
	})
	machine, memory := w.watch(), w.memory()
	r := w.offer("small", load.Options{Rate: 2000, Duration: span(3*time.Second, time.Second), Size: 4096})
	used := memory()
	t.Logf("%d of %d events were accepted, refusals p50 %v, p99 %v", r.Accepted, r.Sent, r.RefusedP50, r.RefusedP99)
	if n := r.Status[http.StatusTooManyRequests]; r.Accepted == 0 || n == 0 || n != r.Refused || r.NoRetryAfter > 0 {
		t.Errorf("%d accepted, refusals %v, %d without Retry-After; want some accepted and then 429, each with Retry-After", r.Accepted, r.Status, r.NoRetryAfter)
	}
	if most := uint64(4 << 20 / 4096); r.Accepted > most {
		t.Errorf("%d events of 4 KiB were accepted into 4 MiB", r.Accepted)
	}
	used.check(t)

	w.subscriber = serve(t, hung) // and now somebody does
	t.Logf("the backlog was gone %v after the subscriber took it", w.drained("small").Round(time.Millisecond))
	// The channel learns of it with the next progress, 100 ms later at most.
	broker.Await(t, "an event accepted", func() bool { return w.offer("small", load.Options{Events: 1}).Accepted == 1 })
	if again := w.offer("small", load.Options{Rate: 500, Duration: time.Second}); again.Accepted != again.Sent {
		machine.fault("with room again %d of %d events were refused: %v", again.Refused, again.Sent, again.Status)
	}
	w.reconcile("small")
	machine.decide()
}
