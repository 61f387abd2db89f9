package seed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-events/penstock/test/e2e/broker"
)

// stuck is a Trigger beside the article's whose subscriber takes nothing.
func stuck(typ, subscriber string) string {
	return fmt.Sprintf(`apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata: {name: stuck}
spec:
  broker: default
  filter: {attributes: {type: %s}}
  subscriber: {uri: %s}
`, typ, subscriber)
}

// Practice 3, the configuration and the four numbers: a real Prometheus with
// the article's two jobs, asked through our board.
func TestPrometheusWithTheArticlesConfigurationShowsTheFourNumbers(t *testing.T) {
	tool(t, "prometheus")
	queue, consumer, sink := broker.FreeAddress(t), broker.FreeAddress(t), broker.FreeAddress(t)
	broker.Launch(t, `^listening on `, exec.Command(subscriber, "--listen", sink, "--fail-first", "1", "--fail-status", "500", "--metrics-listen", consumer))
	file, typ, resolve := verbatimTrigger(t, "http://"+sink+"/")
	more := filepath.Join(t.TempDir(), "stuck.yaml")
	if err := os.WriteFile(more, []byte(stuck(typ, newGate(t).url)), 0o600); err != nil {
		t.Fatal(err)
	}
	b := broker.Start(t, broker.Options{Binary: penstock, Files: []string{file, more}, Args: []string{"--resolve", resolve, "--metrics-listen", queue}})
	p := startPrometheus(t, scrapeConfig(t, map[string]string{"message-queue:9090": queue, "message-consumer:8080": consumer}))

	// The first half makes the series; the second is what rates are seen of.
	// Each event needs two attempts at the article's Trigger: half of them fail,
	// with a status that does not mean "not yet".
	post(t, b.Default(), "a", typ, 50)
	b.AwaitSettled("message-trigger")
	eventually(t, "the first half is seen", func() error { return p.equals(`sum(penstock_deliveries_total{outcome="delivered"})`, 50) })
	post(t, b.Default(), "b", typ, 50)
	b.AwaitSettled("message-trigger")

	for _, job := range []string{"message-queue", "message-queue-consumers"} {
		eventually(t, job+" is up", func() error { return p.equals(fmt.Sprintf("up{job=%q}", job), 1) })
	}
	board := readBoard(t)
	for _, c := range []struct {
		query string
		want  float64
	}{
		{board.stat(t, "Error rate"), 0.5},
		{board.stat(t, "Backlog"), 100},
		{`sum(penstock_events_received_total{code="202"})`, 100},
		{`sum(penstock_event_age_seconds_count)`, 100},
		{`sum(subscriber_events_total{code="204"})`, 100},
		{`sum(subscriber_events_total{code="500"})`, 100},
	} {
		eventually(t, c.query, func() error { return p.equals(c.query, c.want) })
	}
	eventually(t, "events flow", func() error {
		rate, err := p.one(board.stat(t, "Throughput"))
		if err == nil && !(rate > 0) {
			err = fmt.Errorf("the rate is %v", rate)
		}
		return err
	})
	eventually(t, "latency is seen", func() error {
		latency, err := p.one(board.stat(t, "Latency"))
		if err == nil && !(latency > 0 && latency < 60) {
			err = fmt.Errorf("the latency is %v", latency)
		}
		return err
	})
	// Every panel asks what Prometheus understands, and there is something to see.
	empty := []string{"Not accepted by Broker and code"} // all is accepted here
	for _, q := range board.queries {
		result, err := p.query(q.expr)
		if err != nil {
			t.Errorf("panel %q: %v", q.panel, err)
		} else if len(result) == 0 && !slices.Contains(empty, q.panel) {
			t.Errorf("panel %q shows nothing: %s", q.panel, q.expr)
		}
	}
	for name, address := range map[string]string{"penstock": queue, "subscriber": consumer} {
		check := exec.Command(tool(t, "promtool"), "check", "metrics")
		check.Stdin = bytes.NewReader(exposition(t, address))
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("promtool check metrics of %s: %v\n%s", name, err, out)
		}
	}
}

func (p *prometheus) equals(q string, want float64) error {
	got, err := p.one(q)
	if err == nil && math.Abs(got-want) > 1e-6 {
		err = fmt.Errorf("%s is %v, want %v", q, got, want)
	}
	return err
}

// board is the Grafana board with its variables set to everything.
type board struct {
	queries []panelQuery
	stats   map[string]string // by title
}

type panelQuery struct{ panel, expr string }

func readBoard(t *testing.T) board {
	t.Helper()
	var file struct {
		Templating struct {
			List []struct{ Name, AllValue, Definition string }
		}
		Panels []struct {
			Title, Type, Description string
			Targets                  []struct{ Expr, LegendFormat string }
			GridPos                  struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(deploy(t, "monitoring", "grafana", "penstock.json"), &file); err != nil {
		t.Fatal(err)
	}
	b := board{stats: map[string]string{}}
	// Wide enough for a machine on which scrapes fail now and then.
	const interval = "10m"
	all := strings.NewReplacer("$__rate_interval", interval)
	for _, v := range file.Templating.List {
		if v.AllValue != "" {
			all = strings.NewReplacer("$__rate_interval", interval, "$namespace", ".*", "$broker", ".*", "$trigger", ".*")
		}
	}
	for _, p := range file.Panels {
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q says or shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			expr := all.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %q has a variable that the board has not: %s", p.Title, expr)
			}
			b.queries = append(b.queries, panelQuery{p.Title, expr})
			if p.Type == "stat" {
				b.stats[p.Title] = expr
			}
		}
	}
	return b
}

func (b board) stat(t *testing.T, title string) string {
	t.Helper()
	if b.stats[title] == "" {
		t.Fatalf("the board has no number %q", title)
	}
	return b.stats[title]
}

// word is what could be a metric's name in PromQL.
var word = regexp.MustCompile(`\b(?:penstock|kn_eventing|process|go|up)[a-z0-9_]*\b`)

// Alerts and panels are about metrics that are documented, and the documented
// ones are those that a process has: the documentation's own test sees to that.
func TestBoardAndAlertsNameMetricsThatAreThere(t *testing.T) {
	known := map[string]bool{"up": true, "process_resident_memory_bytes": true}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllSubmatch(text(t, root, "docs", "reference", "metrics.md"), -1) {
		name := string(m[1])
		known[name], known[name+"_bucket"], known[name+"_count"], known[name+"_sum"] = true, true, true, true
	}
	if len(known) < 20 {
		t.Fatalf("the documentation lists %v", known)
	}
	var expressions []string
	for _, q := range readBoard(t).queries {
		expressions = append(expressions, q.expr)
	}
	for _, m := range regexp.MustCompile(`(?m)"label_values\((.*)\)"`).FindAllSubmatch(deploy(t, "monitoring", "grafana", "penstock.json"), -1) {
		expressions = append(expressions, string(m[1]))
	}
	rules := documents(t, deploy(t, "monitoring", "rules.yml"))[0]
	var alerts []string
	for _, r := range at(rules, "groups", "0", "rules").([]any) {
		alerts = append(alerts, at(r, "alert").(string))
		expressions = append(expressions, at(r, "expr").(string))
	}
	quoted := regexp.MustCompile(`"[^"]*"`)
	for _, expr := range expressions {
		names := word.FindAllString(quoted.ReplaceAllString(expr, ""), -1)
		if len(names) == 0 {
			t.Errorf("no metric in %s", expr)
		}
		for _, name := range names {
			if !known[name] {
				t.Errorf("%s is no metric that docs/reference/metrics.md knows: %s", name, expr)
			}
		}
	}
	tests := string(deploy(t, "monitoring", "rules_test.yml")) + string(deploy(t, "monitoring", "rules_days_test.yml"))
	for _, alert := range alerts {
		if !strings.Contains(tests, "- name: "+alert+" fires\n") || !strings.Contains(tests, "- name: "+alert+" keeps quiet\n") {
			t.Errorf("%s has not both its tests", alert)
		}
	}
}

func TestTheAlertsPassTheirUnitTests(t *testing.T) {
	promtool := tool(t, "promtool")
	dir := filepath.Join(root, "deploy", "monitoring")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "rules_test.yml", "rules_days_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
	// Debian's Prometheus is built without the discovery of Kubernetes. The rest
	// of the configuration is checked with a file in its place.
	config := string(deploy(t, "monitoring", "prometheus.yml"))
	before, rest, found := strings.Cut(config, "  kubernetes_sd_configs:\n")
	_, after, cut := strings.Cut(rest, "  relabel_configs:\n")
	if !found || !cut {
		t.Fatal("the configuration discovers nothing, or relabels nothing")
	}
	tmp := t.TempDir()
	file := filepath.Join(tmp, "prometheus.yml")
	config = before + "  file_sd_configs: [{files: [pods.yml]}]\n  relabel_configs:\n" + after
	for name, content := range map[string]string{file: config, filepath.Join(tmp, "rules.yml"): string(deploy(t, "monitoring", "rules.yml")), filepath.Join(tmp, "pods.yml"): "[]"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(promtool, "check", "config", file).CombinedOutput(); err != nil {
		t.Errorf("promtool check config: %v\n%s", err, out)
	}
}
