package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/api/v1"
)

func TestTablesOfGet(t *testing.T) {
	openShop(t)
	for name, args := range map[string]string{
		"brokers.golden":       "get brokers",
		"brokers-wide.golden":  "get brokers -o wide",
		"triggers.golden":      "get triggers",
		"triggers-wide.golden": "get triggers -o wide",
		"triggers-name.golden": "get triggers -o name",
		"trigger-two.golden":   "get trigger orders default/europe",
		"trigger.json":         "get trigger orders -o json",
		"brokers.json":         "get brokers -o json",
	} {
		golden(t, name, must(t, strings.Fields(args)...))
	}
}

func TestNothingFoundIsSaidAside(t *testing.T) {
	openShop(t)
	r := penstock(t.Context(), "", "get", "triggers", "-n", "elsewhere")
	if r.code != ExitDone || r.out != "" || r.err != "No triggers found.\n" {
		t.Errorf("%+v", r)
	}
	if got := must(t, "get", "triggers", "-n", "elsewhere", "-o", "json"); got != "{\n  \"items\": []\n}\n" {
		t.Errorf("JSON of nothing: %q", got)
	}
	r = penstock(t.Context(), "", "get", "trigger", "nobody")
	if r.code != ExitFailed || !strings.Contains(r.err, `no trigger "default/nobody"`) {
		t.Errorf("%+v", r)
	}
}

func TestDeadLettersAreListedAndShown(t *testing.T) {
	openShop(t)
	golden(t, "deadletters.golden", must(t, "deadletter", "list"))
	golden(t, "deadletters-wide.golden", must(t, "deadletter", "list", "--trigger", "orders", "-o", "wide"))
	golden(t, "deadletter-show.golden", must(t, "deadletter", "show", "orders", "1-41"))
	golden(t, "deadletter-groups.golden", must(t, "deadletter", "list", "--group"))
	golden(t, "deadletter-groups-wide.golden", must(t, "deadletter", "list", "--group", "--broker", "default", "-o", "wide"))
	var groups v1.DeadLetterGroupList
	if err := json.Unmarshal([]byte(must(t, "deadletter", "list", "--group", "-t", "orders", "-o", "json")), &groups); err != nil {
		t.Fatal(err)
	}
	if len(groups.Items) != 1 || groups.Items[0].Count != 2 || groups.Items[0].Trigger != "default/orders" {
		t.Errorf("groups %+v", groups)
	}
	if r := penstock(t.Context(), "", "deadletter", "list", "--group", "-t", "europe"); r.code != ExitDone || r.out != "" || !strings.Contains(r.err, "No dead letters") {
		t.Errorf("no groups: %+v", r)
	}
	if got := must(t, "deadletter", "list", "-o", "name", "--limit", "0"); got != "default/orders 1-40\ndefault/orders 1-41\n" {
		t.Errorf("names %q", got)
	}
	var letter v1.DeadLetter
	if err := json.Unmarshal([]byte(must(t, "deadletter", "show", "default/orders", "1-40", "-o", "json")), &letter); err != nil {
		t.Fatal(err)
	}
	if letter.EventID != "o-1" || len(letter.Event) == 0 {
		t.Errorf("letter %+v", letter)
	}
	r := penstock(t.Context(), "", "deadletter", "list", "--limit", "1")
	if r.code != ExitDone || strings.Count(r.out, "\n") != 2 || !strings.Contains(r.err, "--limit 0") {
		t.Errorf("a list that was cut: %+v", r)
	}
	r = penstock(t.Context(), "", "deadletter", "show", "orders", "1-99")
	if r.code != ExitFailed || !strings.Contains(r.err, "1-99") {
		t.Errorf("%+v", r)
	}
}

func TestExplainSaysWhyAndWhyNot(t *testing.T) {
	openShop(t)
	golden(t, "explain.golden", must(t, "explain", "--type", "order.created", "-e", "region=us"))
	event := `{"specversion":"1.0","id":"7","source":"/s","type":"order.created","region":"eu"}`
	r := penstock(t.Context(), "["+event+","+event+"]", "explain", "-f", "-", "--type", "order.paid")
	if r.code != ExitDone {
		t.Fatalf("%+v", r)
	}
	golden(t, "explain-two.golden", r.out)
}

func TestExplainWorksWithoutABroker(t *testing.T) {
	t.Setenv("PENSTOCK_API", "http://127.0.0.1:1")
	r := penstock(t.Context(), "", "explain", "-c", "testdata/triggers.yaml", "--type", "order.created")
	if r.code != ExitDone {
		t.Fatalf("%+v", r)
	}
	golden(t, "explain-offline.golden", r.out+"--- standard error\n"+r.err)

	r = penstock(t.Context(), "", "explain", "-c", "testdata/none.yaml", "--type", "t")
	if r.code != ExitFailed || !strings.Contains(r.err, "none.yaml") {
		t.Errorf("a path that is not there: %+v", r)
	}
	r = penstock(t.Context(), "", "explain", "-c", "testdata/triggers.yaml", "--type", "t", "-b", "other/broker")
	if r.code != ExitFailed || !strings.Contains(r.err, "no Broker other/broker in testdata/triggers.yaml") {
		t.Errorf("a Broker that is not there: %+v", r)
	}
}

// follow runs a command that goes on, and gives its lines as they come.
func follow(t *testing.T, args ...string) (lines <-chan string, end func() result) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	var stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		code := Main(ctx, args, Streams{In: strings.NewReader(""), Out: write, Err: &stderr})
		write.Close()
		ended <- code
	}()
	out := make(chan string, 100)
	go func() {
		defer close(out)
		var pending string
		buf := make([]byte, 4096)
		for {
			n, err := read.Read(buf)
			pending += string(buf[:n])
			for {
				line, rest, ok := strings.Cut(pending, "\n")
				if !ok {
					break
				}
				out <- line
				pending = rest
			}
			if err != nil {
				return
			}
		}
	}()
	return out, func() result {
		cancel()
		code := <-ended
		return result{code: code, err: stderr.String()}
	}
}

// untilWatched waits until a tail stands: the broker has an open stream.
func untilWatched(t *testing.T, s *shop, lines <-chan string) {
	t.Helper()
	for { // what comes before the stream stands is not shown
		s.accept(cloudEvent(t, "probe", "probe", ""))
		select {
		case <-lines:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestTailPrintsEventsUntilInterrupted(t *testing.T) {
	s := openShop(t)
	lines, end := follow(t, "tail")
	untilWatched(t, s, lines)
	s.accept(cloudEvent(t, "1", "order.created", "{\"total\":\n  12}"))
	for line := range lines {
		if strings.Contains(line, "probe") {
			continue
		}
		_, line, _ = strings.Cut(line, "  ")
		_, line, _ = strings.Cut(line, "  ") // time and position
		if want := `order.created  /shop  id=1  {"total":12}`; line != want {
			t.Errorf("line %q, want %q", line, want)
		}
		break
	}
	if r := end(); r.code != ExitDone || r.err != "" {
		t.Errorf("after Ctrl-C: %+v", r)
	}
}

func TestTailEndsAfterSoManyEventsInJSONThatSendTakes(t *testing.T) {
	s := openShop(t)
	lines, end := follow(t, "tail", "-n", "2", "-o", "json", "--filter", "type LIKE 'order.%'")
	for got := 0; got < 2; {
		s.accept(cloudEvent(t, "1", "order.created", `{"a":1}`), cloudEvent(t, "2", "other", ""))
		select {
		case line := <-lines:
			if want := `{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","datacontenttype":"application/json","data":{"a":1}}`; !sameJSON(t, line, want) {
				t.Fatalf("line %s, want %s", line, want)
			}
			got++
		case <-time.After(20 * time.Millisecond):
		}
	}
	for range lines {
		t.Error("more events than asked for")
	}
	if r := end(); r.code != ExitDone {
		t.Errorf("%+v", r)
	}
}

func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		t.Fatalf("no JSON: %s or %s", a, b)
	}
	p, _ := json.Marshal(x)
	q, _ := json.Marshal(y)
	return string(p) == string(q)
}

func TestTailNamesWhatIsWrongWithTheFilter(t *testing.T) {
	openShop(t)
	r := penstock(t.Context(), "", "tail", "--filter", "type =")
	if r.code != ExitFailed || !strings.Contains(r.err, "parameter filter") {
		t.Errorf("%+v", r)
	}
}

func TestWatchPrintsWhatChanges(t *testing.T) {
	s := openShop(t)
	lines, end := follow(t, "get", "triggers", "-w", "--interval", "5ms")
	for range 4 { // header and three triggers
		<-lines
	}
	changed := slices.Clone(*s.lanes.Load())
	changed[1].Delivered = 8
	s.lanes.Store(&changed)
	if line := <-lines; !strings.HasPrefix(line, "default/europe") || !strings.Contains(line, " 8 ") {
		t.Errorf("line %q, want the changed trigger alone", line)
	}
	if r := end(); r.code != ExitDone {
		t.Errorf("%+v", r)
	}
}

func TestWrongUseEndsWith2AndFailureWith1(t *testing.T) {
	openShop(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 0, ""},
		{"--help", 0, ""},
		{"get", 0, ""},
		{"deadletter", 0, ""},
		{"completion bash", 0, ""},
		{"version", 0, ""},
		{"bogus", 2, `unknown command "bogus"`},
		{"gett", 2, `unknown command "gett"`},
		{"get nothing", 2, "unknown command"},
		{"get triggers --bogus", 2, "unknown flag: --bogus"},
		{"get triggers -o xml", 2, "-o xml: want one of table, wide, json, name"},
		{"get triggers -w --interval 0s", 2, "--interval"},
		{"get triggers a/b/c", 2, "NAMESPACE/NAME"},
		{"get triggers --broker /x", 2, "NAMESPACE/NAME"},
		{"get triggers --broker default/typo", 1, "default/typo"},
		{"get brokers --api ftp://x", 2, "--api"},
		{"send", 2, "--type"},
		{"send --type t -n 0", 2, "--count"},
		{"send --type t -n x", 2, "invalid argument"},
		{"send --type t --mode odd", 2, "--mode odd"},
		{"send --type t --rate 5/day", 2, "--rate"},
		{"send --type t --rate -1", 2, "--rate"},
		{"send --type t --rate NaN", 2, "--rate"},
		{"send --type t --url localhost:8080", 2, "--url"},
		{"send --type t --url http://h/a/b --broker c", 2, "already"},
		{"send --type t -e novalue", 2, "NAME=VALUE"},
		{"send --type t -e Upper=1", 2, "Upper"},
		{"send --type t --data a --data-file b", 2, "data"},
		{"send --type t -f x -n 2", 2, "file"},
		{"send --type t --concurrency 0", 2, "--concurrency"},
		{"send --type t --batch 0", 2, "--batch"},
		{"send --type t --retry -1", 2, "--retry"},
		{"send --type t --timeout 0s", 2, "--timeout"},
		{"send extra --type t", 2, "extra"},
		{"send -f testdata/none.json", 1, "none.json"},
		{"send --type t --data-file testdata/none.json", 1, "none.json"},
		{"tail -n -1", 2, "--count"},
		{"tail -o table", 2, "line, json"},
		{"explain", 2, "--type"},
		{"deadletter show orders", 2, "accepts 2 arg"},
		{"deadletter show orders 42", 1, "SHARD-POSITION"},
		{"deadletter list --limit -1", 2, "--limit"},
		{"deadletter list --trigger none", 1, "default/none"},
		{"deadletter list --group --limit 5", 2, "--limit"},
		{"deadletter list --group -o name", 2, "--group"},
		{"deadletter list --group --trigger none", 1, "default/none"},
	} {
		r := penstock(t.Context(), "", strings.Fields(c.args)...)
		if r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("penstock %s: exit code %d, want %d saying %q: %s", c.args, r.code, c.code, c.says, r.err)
		}
		if hint := strings.Contains(r.err, "--help'"); hint != (c.code == 2) {
			t.Errorf("penstock %s: points to --help: %t", c.args, hint)
		}
		if c.code == 0 && (r.out == "" || r.err != "") {
			t.Errorf("penstock %s: %+v, want its answer on standard output", c.args, r)
		}
	}
}

func TestCommandsOfOtherPackagesDecideOnTheirExitCode(t *testing.T) {
	serve := func(err error) *cobra.Command {
		return &cobra.Command{Use: "serve", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error { return err }}
	}
	run := func(cmd *cobra.Command, args ...string) int {
		return Main(t.Context(), args, Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}, cmd)
	}
	if got := run(serve(nil), "serve"); got != ExitDone {
		t.Errorf("done: %d", got)
	}
	if got := run(serve(errors.New("port in use")), "serve"); got != ExitFailed {
		t.Errorf("failed: %d", got)
	}
	if got := run(serve(usage("--listen: no port")), "serve"); got != ExitUsage {
		t.Errorf("wrong use: %d", got)
	}
	if got := run(serve(nil), "serve", "extra"); got != ExitUsage {
		t.Errorf("wrong arguments: %d", got)
	}
}

func TestNoBrokerNamesTheCure(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + closed.Addr().String()
	closed.Close()
	for _, args := range [][]string{{"get", "brokers"}, {"tail"}, {"deadletter", "list"}, {"explain", "--type", "t"}} {
		r := penstock(t.Context(), "", append(args, "--api", address)...)
		want := "Error: no broker answers at " + address + " (connection refused): is `penstock serve` running? Use --api or PENSTOCK_API\n"
		if r.code != ExitFailed || r.err != want || r.out != "" {
			t.Errorf("penstock %v: %+v, want %q", args, r, want)
		}
	}
	r := penstock(t.Context(), "", "send", "--type", "t", "--url", address)
	want := "no broker takes events at " + address + "/default/default (connection refused): is `penstock serve` running? Use --url or PENSTOCK_URL"
	if r.code != ExitFailed || !strings.Contains(r.err, want) {
		t.Errorf("send: %+v, want %q", r, want)
	}
}

func TestCompletionOffersNamesOfTheRunningBroker(t *testing.T) {
	s := openShop(t)
	complete := func(args ...string) string {
		return penstock(t.Context(), "", append([]string{"__complete"}, args...)...).out
	}
	if got := complete("get", "triggers", ""); got != "default/broken\ndefault/europe\ndefault/orders\n:4\n" {
		t.Errorf("triggers: %q", got)
	}
	if got := complete("deadletter", "show", "or"); got != "orders\n:4\n" {
		t.Errorf("a short name: %q", got)
	}
	if got := complete("deadletter", "show", "orders", ""); got != ":4\n" {
		t.Errorf("after the trigger: %q", got)
	}
	if got := complete("tail", "--broker", "default/"); got != "default/default\n:4\n" {
		t.Errorf("brokers: %q", got)
	}
	if got := complete("get", "triggers", "-o", ""); got != "table\nwide\njson\nname\n:4\n" {
		t.Errorf("formats: %q", got)
	}
	t.Setenv("PENSTOCK_API", strings.Replace(s.url, "127.0.0.1", "127.0.0.2", 1)) // nobody there
	if got := complete("get", "triggers", ""); got != ":4\n" {
		t.Errorf("without a broker: %q", got)
	}
}

func TestEveryCommandHasHelpWithExamples(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: short %q, example %q", cmd.CommandPath(), cmd.Short, cmd.Example)
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(Root())
	golden(t, "help.golden", must(t, "--help"))
	golden(t, "help-send.golden", must(t, "send", "--help"))
	golden(t, "help-pause.golden", must(t, "pause", "--help"))
}

func TestVersionSaysWhatWasBuilt(t *testing.T) {
	if got := must(t, "version"); !strings.HasPrefix(got, "penstock ") || strings.Count(got, "\n") != 1 {
		t.Errorf("version %q", got)
	}
	var b build
	if err := json.Unmarshal([]byte(must(t, "version", "-o", "json")), &b); err != nil || b.Go == "" || b.Version == "" || b.Platform == "" {
		t.Errorf("version %+v: %v", b, err)
	}
}

func TestNothingIsColouredWithoutATerminal(t *testing.T) {
	openShop(t)
	for _, args := range [][]string{{"get", "triggers"}, {"get", "brokers"}, {"deadletter", "list"}, {"deadletter", "show", "orders", "1-41"}, {"explain", "--type", "t"}} {
		if out := must(t, args...); strings.ContainsAny(out, "\x1b\x07") {
			t.Errorf("penstock %v prints control characters: %q", args, out)
		}
	}
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if colours(file) || isTerminal(file) {
		t.Error("a file is taken for a terminal")
	}
}
