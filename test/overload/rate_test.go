package overload

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/bench/load"
	"github.com/penstock-events/penstock/test/e2e/broker"
	"github.com/penstock-events/penstock/test/proof"
)

const (
	limit = 1000 // events a second that the broker accepts
	times = 5    // what it is offered of that

	goodput    = 0.9 // of the limit, at least
	refusalCPU = 0.3 // of an acceptance, at most
)

func brokerYAML(name string, annotations ...string) string {
	s := "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: " + name + "\n  annotations:\n    eventing.knative.dev/broker.class: Penstock\n"
	for _, a := range annotations {
		s += "    penstock.dev/" + a + "\n"
	}
	return s + "---\n"
}

func triggerYAML(name, of, uri string, more ...string) string {
	s := "apiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: " + name + "\nspec:\n  broker: " + of + "\n  subscriber:\n    uri: " + uri + "\n"
	for _, m := range more {
		if m != "" {
			s += "  " + m + "\n"
		}
	}
	return s + "---\n"
}

func TestAtFiveTimesItsRateABrokerKeepsItsRateAndRefusesTheRestCheaply(t *testing.T) {
	w := start(t, func(subscriber string) string {
		rate := fmt.Sprintf("rate: %d/s", limit)
		return brokerYAML("limited", rate) + triggerYAML("all", "limited", subscriber+"/limited") + brokerYAML("bare", rate) +
			brokerYAML("shut", "rate: 1/h")
	})
	machine, pairs := w.watch(), 3
	if !proof.Full() {
		pairs = 1
	}
	each := func(name string, o load.Options) (load.Result, float64) { // and the processor time of each event
		before := w.cpu()
		r := w.offer(name, o)
		if name == "limited" {
			w.drained(name)
		}
		return r, (w.cpu() - before).Seconds() / float64(r.Sent) * 1e6
	}
	within := func(name string, d time.Duration) float64 {
		r, cost := each(name, load.Options{Rate: 0.95 * limit, Duration: d})
		if r.Refused > 0 {
			machine.fault("within the rate %d of %d events were refused: %v", r.Refused, r.Sent, r.Status)
		}
		return cost
	}
	over := func(d time.Duration) load.Result {
		return w.offer("limited", load.Options{Rate: times * limit, Duration: d})
	}
	over(span(time.Second, time.Second/2)) // connections, buffers and the heap are as in a process that has run for a while
	w.drained("limited")

	// What an acceptance and a refusal cost, in turns: each where there is
	// nothing else, and the machine is much the same for both.
	w.offer("shut", load.Options{Events: 1})
	var acceptances, refusals, shares []float64
	for range pairs {
		acceptance := within("limited", span(time.Second, time.Second/2))
		shut, refusal := each("shut", load.Options{Rate: (times - 1) * limit, Duration: span(time.Second, time.Second/2)})
		if shut.Refused != shut.Sent {
			t.Errorf("%d of %d events passed a rate of one an hour", shut.Accepted, shut.Sent)
		}
		acceptances, refusals, shares = append(acceptances, acceptance), append(refusals, refusal), append(shares, refusal/acceptance)
	}
	bare := within("bare", span(2*time.Second, time.Second/2))

	emptied := time.Now()
	over(500 * time.Millisecond) // what a full bucket holds is gone
	deliveredBefore, memory := w.got("limited").Events, w.memory()
	before := w.cpu()
	storm := over(span(8*time.Second, 1500*time.Millisecond))
	delivered := w.got("limited").Events - deliveredBefore
	drained := w.drained("limited")
	stormCPU, used := w.cpu()-before, memory()

	seconds := storm.Elapsed.Seconds()
	t.Logf("offered %.0f/s for %.1f s: accepted %.0f/s, delivered %.0f/s, refused %.0f/s; the backlog was gone %v later",
		float64(storm.Sent)/seconds, seconds, float64(storm.Accepted)/seconds, float64(delivered)/seconds, float64(storm.Refused)/seconds, drained.Round(time.Millisecond))
	t.Logf("refusals: p50 %v, p99 %v, max %v; all answers: p50 %v, p99 %v", storm.RefusedP50, storm.RefusedP99, storm.RefusedMax, storm.P50, storm.P99)

	// Refusals are all of one kind and say when to come back.
	if n := storm.Status[http.StatusTooManyRequests]; n != storm.Refused || storm.NoRetryAfter > 0 || storm.MaxRetryAfter != time.Second {
		t.Errorf("refusals by status %v, %d without Retry-After, the longest %v; want 429 and 1 s", storm.Status, storm.NoRetryAfter, storm.MaxRetryAfter)
	}
	if most := limit * time.Since(emptied).Seconds(); float64(storm.Accepted) > most+1 {
		t.Errorf("%d events were accepted, the rate allows %.0f", storm.Accepted, most)
	}
	if offered := float64(storm.Sent) / seconds; offered < goodput*times*limit {
		machine.fault("the senders managed %.0f events/s, want %d", offered, times*limit)
	}
	if accepted := float64(storm.Accepted) / seconds; accepted < goodput*limit {
		machine.fault("accepted %.0f events/s of %d", accepted, limit)
	}
	if came := float64(delivered) / seconds; came < goodput*limit {
		machine.fault("delivered %.0f events/s of %d", came, limit)
	}
	used.check(t)

	// The overload's own account: what it cost more than its acceptances would
	// have in calm. It is less, for an acceptance costs less where others share its sync.
	acceptance, refusal, share := median(acceptances), median(refusals), median(shares)
	more := (stormCPU.Seconds()*1e6 - acceptance*float64(storm.Accepted)) / float64(storm.Refused)
	t.Logf("processor time in microseconds: an acceptance with its delivery %.0f, without a subscriber %.0f; a refusal %.0f, in the overload %.0f",
		acceptance, bare, refusal, more)
	t.Logf("a refusal costs %.2f of an acceptance with its delivery, median of %.2f; %.2f of one without a subscriber; in the overload %.2f and %.2f",
		share, shares, refusal/bare, more/acceptance, more/bare)
	if dear := max(share, more/acceptance); proof.Full() && dear > refusalCPU {
		machine.fault("a refusal costs %.2f of an acceptance, want at most %.2f", dear, refusalCPU)
	}

	// The overload is over, and so is what it did.
	after := w.offer("limited", load.Options{Rate: limit / 2, Duration: span(time.Second, time.Second/2)})
	if after.Accepted != after.Sent {
		machine.fault("in the second after the overload %d of %d events were refused: %v", after.Refused, after.Sent, after.Status)
	}
	w.reconcile("limited")
	var b v1.Broker
	w.Get("/api/v1/brokers/default/limited", &b)
	if n := uint64(w.accepted["limited"].Len()); b.Accepted != n || b.Received < n+storm.Refused {
		t.Errorf("the broker counts %d received and %d accepted, its senders %d accepted and at least %d refused", b.Received, b.Accepted, n, storm.Refused)
	}
	machine.decide()
}

func TestAnEditOfTheRateIsInForceWithoutARestart(t *testing.T) {
	settings := func(rate string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {" + rate + "}\n---\n" +
			brokerYAML("limited") + "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: by-config}\n" +
			"spec: {config: {apiVersion: v1, kind: ConfigMap, name: settings}}\n"
	}
	file := t.TempDir() + "/objects.yaml"
	write(t, file, settings(`rate: "5/h"`))
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{file}})
	n := 0
	post := func() (int, string) {
		n++
		r, err := http.NewRequest("POST", b.URL("default", "by-config"), strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Ce-Id": fmt.Sprint(n), "Ce-Source": "/test", "Ce-Type": "t", "Ce-Specversion": "1.0"} {
			r.Header.Set(name, value)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode, resp.Header.Get("Retry-After")
	}
	if code, _ := post(); code != 202 {
		t.Fatalf("the first event: status %d", code)
	}
	if code, after := post(); code != 429 || (after != "720" && after != "719") {
		t.Errorf("the second of five an hour: status %d, Retry-After %q; want 429 in twelve minutes", code, after)
	}
	write(t, file, settings(`rate: "1/h", retention: 1h`))
	broker.Await(t, "the lower rate in force, the bucket as empty as it was", func() bool {
		code, after := post()
		if code != 429 {
			t.Fatalf("a reload let an event pass: status %d", code)
		}
		return len(after) == 4
	})
	write(t, file, settings(`rate: "1000"`))
	broker.Await(t, "the higher rate in force", func() bool { code, _ := post(); return code == 202 })
}
