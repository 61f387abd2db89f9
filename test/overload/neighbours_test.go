package overload

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/bench/wire"
	"github.com/penstock-events/penstock/test/proof"
)

// besideAlone is how much longer the events of a healthy trigger may take at
// p99 beside bad neighbours, as the median of ten pairs.
const besideAlone = 1.5

// neighbour is a subscriber that answers as it should not.
func neighbour(t *testing.T, answer func(w http.ResponseWriter, over <-chan struct{})) (url string) {
	t.Helper()
	over := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // what has come is enough
		answer(w, over)
	}))
	t.Cleanup(func() {
		close(over)
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

func hung(_ http.ResponseWriter, over <-chan struct{}) { <-over }

func dripping(w http.ResponseWriter, over <-chan struct{}) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		if _, err := w.Write([]byte("x")); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-second.C:
		case <-over:
			return
		}
	}
}

func failing(w http.ResponseWriter, _ <-chan struct{}) {
	w.WriteHeader(http.StatusInternalServerError)
}

func huge(w http.ResponseWriter, _ <-chan struct{}) {
	w.Header().Set("Content-Length", "10000000000")
	for block := make([]byte, 64<<10); ; {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

// Two processes, so that alone is alone: one with a healthy trigger, and one
// with the same beside four bad ones. They take turns.
func TestAHealthyTriggerIsNotSlowedByBadNeighbours(t *testing.T) {
	const rate, pair = 200, 700 * time.Millisecond
	alone := start(t, func(subscriber string) string {
		return brokerYAML("street") + triggerYAML("healthy", "street", subscriber+"/street")
	})
	bad := map[string]string{
		"hung": neighbour(t, hung), "dripping": neighbour(t, dripping), "failing": neighbour(t, failing), "huge": neighbour(t, huge),
	}
	beside := start(t, func(subscriber string) string {
		yaml := brokerYAML("street") + triggerYAML("healthy", "street", subscriber+"/street")
		for name, url := range bad {
			var filter string
			if name == "huge" {
				// A MiB of each of its answers is read. One of ten events keeps that from
				// being a test of the machine's memory.
				filter = "filter: {attributes: {type: " + wire.TypeName(0) + "}}"
			}
			yaml += triggerYAML(name, "street", url, filter)
		}
		return yaml
	})
	machine, memory := beside.watch(), beside.memory()
	machine.pids = append(machine.pids, alone.PID())
	machine.busy, machine.own = machine.read()
	p99 := func(w *world, d time.Duration) time.Duration {
		w.forget()
		w.offer("street", load.Options{Rate: rate, Duration: d, Connections: 16, Types: 10})
		w.reconcile("street")
		return w.got("street").P99
	}
	for _, w := range []*world{alone, beside} { // the bad ones' lanes fill up
		p99(w, 700*time.Millisecond)
	}
	pairs := 10
	if !proof.Full() {
		pairs = 1
	}
	measure := func() []float64 {
		return pairing(pairs, func() (time.Duration, time.Duration) {
			return p99(alone, pair), p99(beside, pair)
		})
	}
	// The p99 of a pair is its second worst of 140 events, which any hiccup of the
	// machine moves tenfold. Where ten pairs say no, more of them decide.
	ratios := measure()
	for more := 0; more < 2 && proof.Full() && median(ratios) > besideAlone; more++ {
		ratios = append(ratios, measure()...)
	}
	ratio := median(ratios)
	used := memory()
	t.Logf("p99 of %d events/s beside bad neighbours to alone: median %.2f of %.2f", rate, ratio, ratios)
	for name := range bad {
		lane := beside.Trigger(name)
		t.Logf("%s: %d in flight, %d wait, %d failed attempts, %d delivered", name, lane.InFlight, lane.Waiting, lane.Failed, lane.Delivered)
		if lane.InFlight+lane.Waiting+int(lane.Failed)+int(lane.Delivered) == 0 {
			t.Errorf("nothing was tried with the %s one", name)
		}
	}
	used.check(t)
	if proof.Full() && ratio > besideAlone {
		machine.fault("p99 beside bad neighbours is %.2f times that alone, want at most %.2f", ratio, besideAlone)
	}
	machine.decide()
}

// A broker whose senders do not heed its limit, beside one whose do.
func TestABrokerBesideOneAtTenTimesItsRate(t *testing.T) {
	const rate = 200
	w := start(t, func(subscriber string) string {
		return brokerYAML("quiet") + triggerYAML("quiet", "quiet", subscriber+"/quiet") +
			brokerYAML("noisy", "rate: 200/s") + triggerYAML("noisy", "noisy", subscriber+"/noisy")
	})
	quiet := load.Options{Rate: rate, Duration: 500 * time.Millisecond, Connections: 16}
	noise := load.Options{Rate: 10 * rate, Duration: quiet.Duration}
	p99 := func(noisy bool) time.Duration {
		w.forget()
		wait := func() load.Result { return load.Result{} }
		if noisy {
			wait = w.offering("noisy", noise)
		}
		w.offer("quiet", quiet)
		if r := wait(); noisy && (r.Refused == 0 || r.Status[http.StatusTooManyRequests] != r.Refused) {
			t.Errorf("the noisy broker refused %v of %d events", r.Status, r.Sent)
		}
		if noisy {
			w.reconcile("noisy")
		}
		w.reconcile("quiet")
		return w.got("quiet").P99
	}
	p99(true)
	pairs := 5
	if !proof.Full() {
		pairs = 1
	}
	ratios := pairing(pairs, func() (time.Duration, time.Duration) { return p99(false), p99(true) })
	// No bound: what is left of it is the processor that all share.
	t.Logf("p99 of a broker beside one that is offered ten times its rate, to alone: median %.2f of %.2f", median(ratios), ratios)
}

// pairing measures pairs and returns the ratios of second to first.
func pairing(pairs int, measure func() (first, second time.Duration)) (ratios []float64) {
	for range pairs {
		first, second := measure()
		ratios = append(ratios, second.Seconds()/first.Seconds())
	}
	return ratios
}

func median(of []float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return (of[(len(of)-1)/2] + of[len(of)/2]) / 2
}
