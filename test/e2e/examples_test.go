package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	v1 "github.com/penstock-events/penstock/pkg/api/v1"
	"github.com/penstock-events/penstock/test/e2e/broker"
)

// A folder added to examples/ gets a test here.
func TestEveryExampleIsTried(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("..", "..", "examples"))
	if err != nil {
		t.Fatal(err)
	}
	tried := []string{"article", "dead-letters", "failures", "filters", "quickstart", "subscriber"}
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(tried, e.Name()) {
			t.Errorf("examples/%s is not tried by any test", e.Name())
		}
	}
}

// example copies the YAML of an example, with another address than the one it
// names for its subscriber, and returns the folder.
func example(t *testing.T, name, address string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", name, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("example %s has no YAML: %v", name, err)
	}
	dir := t.TempDir()
	for _, f := range files {
		write(t, filepath.Join(dir, filepath.Base(f)), strings.ReplaceAll(read(t, f), "127.0.0.1:9001", address))
	}
	return dir
}

// subscribe runs the subscriber of the examples.
func subscribe(t *testing.T, address string, flags ...string) *broker.Process {
	t.Helper()
	p, _ := broker.Launch(t, `^listening on `+regexp.QuoteMeta(address), exec.Command(subscriber, append([]string{"--listen", address}, flags...)...))
	return p
}

func send(t *testing.T, b *broker.Broker, id, typ string) {
	t.Helper()
	ask(t, b, "send", "--id", id, "--type", typ, "--source", "/shop", "--data", `{"id":1}`)
}

// The README's first five minutes, typed.
func TestQuickstartDoesWhatTheReadmeSays(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address)
	b := start(t, example(t, "quickstart", address))

	send(t, b, "1", "order.created")
	send(t, b, "2", "payment.settled")
	p.Await(`^204 /orders id="1" source="/shop" type="order.created" data=\{"id":1\}$`)
	p.Await(`^204 /payments id="2" `)

	out := ask(t, b, "explain", "--type", "order.created", "--source", "/shop")
	if !regexp.MustCompile(`(?m)^default/orders +yes `).MatchString(out) ||
		!regexp.MustCompile(`(?m)^default/payments +no .*type is "order.created", want prefix "payment\."`).MatchString(out) {
		t.Errorf("explain says\n%s", out)
	}
	b.AwaitSettled("orders", "payments")
	if out := ask(t, b, "get", "triggers"); !strings.Contains(out, "orders") || !strings.Contains(out, "payments") {
		t.Errorf("get triggers says\n%s", out)
	}
	if strings.Contains(p.Output(), `/payments id="1"`) || strings.Contains(p.Output(), `/orders id="2"`) {
		t.Errorf("a Trigger got what its filter does not want:\n%s", p.Output())
	}
	if code := p.Stop(); code != 0 {
		t.Errorf("exit code of the subscriber is %d", code)
	}
}

func TestSubscriberThatIsStartedAgainWithinItsRetriesGetsItsEvents(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address)
	b := start(t, example(t, "quickstart", address))
	send(t, b, "before", "order.created")
	p.Await(`^204 /orders id="before"`)
	b.AwaitSettled("orders")

	p.Kill()
	for n := range 5 {
		send(t, b, fmt.Sprintf("while-down-%d", n), "order.created")
	}
	broker.Await(t, "each event has failed once", func() bool { tr := b.Trigger("orders"); return tr.Backlog == 5 && tr.Failed >= 5 })

	p = subscribe(t, address)
	for n := range 5 {
		p.Await(fmt.Sprintf(`^204 /orders id="while-down-%d"`, n))
	}
	b.AwaitSettled("orders")
	if strings.Contains(p.Output(), `"before"`) {
		t.Error("what was delivered before came again")
	}
}

func TestFailuresExampleTellsOfDeathsOnce(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address)
	b := start(t, example(t, "failures", address))
	for n := range 5 {
		send(t, b, fmt.Sprint(n), "order.created")
	}
	broker.Await(t, "all are dead", func() bool { return b.Trigger("orders").Dead == 5 })
	p.Await(`^204 /pager id=".+" source="/penstock/default/default" type="dev.penstock.event.deadlettered"`)
	broker.Await(t, "the pager has nothing more to come", func() bool {
		var tr v1.Trigger
		b.Get("/api/v1/triggers/penstock-system/pager", &tr)
		return tr.Backlog == 0 && tr.Delivered > 0
	})
	if n := strings.Count(p.Output(), "/pager"); n != 1 {
		t.Errorf("five deaths are told of %d times:\n%s", n, p.Output())
	}
}

func TestSubscriberFailsOnRequest(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address, "--fail-first", "2", "--status", "201")
	b := start(t, example(t, "quickstart", address))
	send(t, b, "1", "order.created")
	p.Await(`^201 /orders id="1"`)
	if n := strings.Count(p.Output(), `503 /orders id="1"`); n != 2 {
		t.Errorf("%d attempts failed, want 2:\n%s", n, p.Output())
	}
	code, _, errOut := broker.Run(t, exec.Command(subscriber, "--status", "99"))
	if code != 1 || errOut != "Error: --status 99: want a status from 200 to 599\n" {
		t.Errorf("exit code %d, %q", code, errOut)
	}
}

func TestDeadLettersExampleShowsWhatBecomesOfAnEvent(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address)
	b := start(t, example(t, "dead-letters", address))
	send(t, b, "1", "order.created")
	p.Await(`^204 /orders id="1"`)
	var list v1.DeadLetterList
	broker.Await(t, "two dead letters", func() bool {
		b.Get("/api/v1/deadletters", &list)
		return len(list.Items) == 2
	})
	want := map[string]v1.DeadLetter{
		"default/refuses":     {Attempts: 1, Code: 422, Destination: "http://" + address + "/status/422"},
		"default/unavailable": {Attempts: 4, Code: 503, Destination: "http://" + address + "/status/503"},
	}
	for _, d := range list.Items {
		w := want[d.Trigger]
		if d.EventID != "1" || d.Attempts != w.Attempts || d.Code != w.Code || d.Destination != w.Destination {
			t.Errorf("dead letter is %+v, want %+v", d, w)
		}
		if out := ask(t, b, "deadletter", "show", d.Trigger, d.ID); !strings.Contains(out, fmt.Sprint(w.Code)) || !strings.Contains(out, "order.created") {
			t.Errorf("deadletter show says\n%s", out)
		}
	}
	if out := ask(t, b, "deadletter", "list"); !strings.Contains(out, "refuses") || !strings.Contains(out, "unavailable") {
		t.Errorf("deadletter list says\n%s", out)
	}
	b.AwaitSettled("refuses", "unavailable", "takes")
	broker.Await(t, "the dead letter sink has both", func() bool { return strings.Count(p.Output(), "204 /dead ") >= 2 })
	for path, times := range map[string]int{"422 /status/422": 1, "503 /status/503": 4, "204 /orders": 1, "204 /dead": 2} {
		if n := strings.Count(p.Output(), path+" "); n != times {
			t.Errorf("%q was printed %d times, want %d:\n%s", path, n, times, p.Output())
		}
	}
}

func TestFilterGalleryMatchesWhatItsNamesSay(t *testing.T) {
	gallery := filepath.Join("..", "..", "examples", "filters")
	all := []string{"everything", "attributes", "exact", "prefix", "suffix", "all", "any", "not", "cesql", "nested"}
	for _, c := range []struct {
		event []string // flags of explain
		want  []string // Triggers that match
	}{
		{
			[]string{"--type", "order.created", "--source", "/shop/eu", "--subject", "42", "-e", "region=eu"},
			[]string{"everything", "attributes", "exact", "prefix", "suffix", "all", "cesql", "nested"},
		},
		{
			[]string{"--type", "order.created", "--source", "/shop", "--subject", "7", "-e", "region=us"},
			[]string{"everything", "attributes", "prefix", "all", "any"},
		},
		{
			[]string{"--type", "order.paid", "--source", "/shop", "--subject", "urgent"},
			[]string{"everything", "prefix", "nested"},
		},
		{
			[]string{"--type", "payment.settled", "--source", "/bank/eu"},
			[]string{"everything", "suffix", "any", "not"},
		},
	} {
		args := append([]string{"explain", "-c", gallery, "-o", "json"}, c.event...)
		code, out, errOut := broker.Run(t, exec.Command(penstock, args...))
		if code != 0 {
			t.Fatalf("explain: exit code %d: %s", code, errOut)
		}
		var e v1.Explanation
		if err := json.Unmarshal([]byte(out), &e); err != nil || len(e.Events) != 1 {
			t.Fatalf("%v\n%s", err, out)
		}
		triggers := e.Events[0].Triggers
		if len(triggers) != len(all) {
			t.Errorf("the gallery has %d Triggers, the test knows %d", len(triggers), len(all))
		}
		for _, tr := range triggers {
			name := strings.TrimPrefix(tr.Trigger, "default/")
			if !tr.Ready || !slices.Contains(all, name) || tr.Matched != slices.Contains(c.want, name) {
				t.Errorf("%v: %s: ready %v, matched %v: %s", c.event, name, tr.Ready, tr.Matched, tr.Text)
			}
		}
	}
}

// The Trigger of the article that people start from: as it stands there, and
// one flag.
func TestArticlesTriggerRunsWithResolve(t *testing.T) {
	address := broker.FreeAddress(t)
	p := subscribe(t, address)
	dir := example(t, "article", address)
	b := start(t, dir)
	if tr := b.Trigger("message-trigger"); tr.Ready || !strings.Contains(tr.Message, "--resolve service/message-processor=") {
		t.Errorf("without --resolve: ready %v: %s", tr.Ready, tr.Message)
	}
	send(t, b, "early", "message.event")
	if code := b.Stop(); code != 0 {
		t.Errorf("exit code is %d", code)
	}

	b = broker.Start(t, broker.Options{Binary: penstock, Data: b.Data, Files: []string{dir},
		Args: []string{"--resolve", "service/message-processor=http://" + address + "/messages"}})
	p.Await(`^204 /messages id="early"`)
	send(t, b, "1", "message.event")
	send(t, b, "2", "other.event")
	p.Await(`^204 /messages id="1"`)
	b.AwaitSettled("message-trigger")
	if strings.Contains(p.Output(), `id="2"`) {
		t.Error("it got an event of another type")
	}
}
